//! A campaign: a kernel under load, faults at random moments, and after each of them the whole check. The first violation
//! ends it; its directory stays for whoever looks into it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use suite::database::Backend;
use suite::proxy::{Commit, Proxy};
use tokio::time::sleep;
use uuid::Uuid;

use super::checker;
use super::cluster::Cluster;
use super::data::Data;
use super::journal::{Heard, Intent, Journal};
use super::load::{Client, Load, Merchant, Shared};
use super::operation::Operation;
use super::process::{Kernel, Site};
use super::random::Random;

/// The seeded customer's owner and the operator.
const DEMO: (&str, &str) = ("demo", "owner@demo.example");
const SYSTEM: (&str, &str) = ("system", "operator@system.example");
/// Acknowledged requests that are sent again after each fault.
const REPLAYS: usize = 12;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The kernel is killed and started again.
    Kill,
    /// The kernel is asked to end and started again.
    Terminate,
    /// The database server crashes and is started again; the kernel stays.
    ServerCrash,
    /// The database server stands still for a while.
    ServerPause,
    /// A few connections break at COMMIT, before or after the server hears of it.
    CutCommits,
}

/// What was done so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) faults: u64,
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    pub(super) lost: u64,
    pub(super) slowest_start: Duration,
}

/// A kernel under load.
#[derive(Debug)]
pub(super) struct Campaign {
    site: Site,
    kernel: Option<Kernel>,
    load: Load,
    random: Random,
    seed: u64,
    /// What the last check found.
    before: Data,
    replaying: Client,
    proxy: Option<Proxy>,
    /// Where the checker reads, past the proxy.
    database: String,
    pub(super) tally: Tally,
}

impl Campaign {
    /// A fresh database, a kernel on it, and so many clients.
    pub(super) async fn begin(cluster: Option<&Cluster>, clients: u64, seed: u64) -> Self {
        Self::begin_in(directory(seed), cluster, clients, seed).await
    }

    /// The same in a directory that exists.
    pub(super) async fn begin_in(directory: PathBuf, cluster: Option<&Cluster>, clients: u64, seed: u64) -> Self {
        let mut random = Random::new(seed);
        fs::create_dir_all(directory.join("journal")).expect("a directory can be made");
        let database = match cluster {
            None => format!("sqlite://{}", directory.join("data/kernel.db").display()),
            Some(cluster) => fresh_database(cluster, &mut random).await,
        };
        let proxy = if cluster.is_some() { Some(Proxy::before(&database).await) } else { None };
        let url = proxy.as_ref().map_or(database.as_str(), Proxy::url).to_owned();
        let site = Site::prepare(directory, url, &mut random).await;
        let (kernel, _) =
            if proxy.is_some() { site.start().await } else { (site.start_limited().await, Duration::ZERO) };
        let merchants = merchants(&site).await;
        let shared = Shared::new(site.url(), merchants, site.directory.join("journal"));
        let replaying = Client::new(&shared, u64::MAX, seed);
        let load = Load::start(shared, clients, seed);
        let (kernel, before, tally) = (Some(kernel), Data::default(), Tally::default());
        Self { site, kernel, load, random, seed, before, replaying, proxy, database, tally }
    }

    /// Lets the load run for a random time, injects the fault at the end of it, and checks when all is up again.
    pub(super) async fn suffer(&mut self, fault: Fault, cluster: Option<&Cluster>) {
        sleep(Duration::from_millis(150 + self.random.below(500))).await;
        match fault {
            Fault::Kill => {
                self.kernel.take().expect("it runs").kill().await;
                self.start().await;
            }
            Fault::Terminate => {
                let (well, took) = self.kernel.take().expect("it runs").terminate().await;
                assert!(well && took < Duration::from_secs(30), "SIGTERM: ended well: {well}, after {took:?}");
                self.start().await;
            }
            Fault::ServerCrash => {
                let cluster = cluster.expect("a server");
                cluster.stop_at_once();
                sleep(Duration::from_millis(100 + self.random.below(400))).await;
                cluster.start();
                self.serves_again().await;
            }
            Fault::ServerPause => {
                let cluster = cluster.expect("a server");
                cluster.pause().await;
                sleep(Duration::from_millis(500 + self.random.below(2500))).await;
                cluster.resume().await;
                self.serves_again().await;
            }
            Fault::CutCommits => {
                let proxy = self.proxy.as_ref().expect("a server behind a proxy");
                for _ in 0..4 {
                    let unheard = self.random.percent(50);
                    proxy.next_commit(if unheard { Commit::IsNotAnswered } else { Commit::NeverArrives });
                    sleep(Duration::from_millis(40)).await;
                }
                proxy.next_commit(Commit::Passes);
            }
        }
        self.tally.faults += 1;
        self.check(&format!("{fault:?}")).await;
    }

    /// For each n: one payment while the n-th piece that the kernel sends to the server never arrives, until a payment
    /// needs fewer pieces. Answers how many there were.
    pub(super) async fn sweep_server(&mut self, step: u64) -> u64 {
        let shared = Arc::clone(&self.load.shared);
        let standing = shared.stand_still().await;
        let proxy = self.proxy.as_ref().expect("a server behind a proxy");
        let mut n = 1 + self.random.below(step);
        loop {
            let intent = payment(&self.load.shared, &format!("sweep-{n}"), &mut self.random);
            proxy.cut_at(n);
            self.replaying.attempt(&intent).await;
            let untouched = proxy.left() > 0;
            proxy.cut_at(0);
            settle(&mut self.replaying, &intent).await;
            self.tally.faults += 1;
            if untouched {
                break;
            }
            assert!(n < 500, "a payment needs no end of statements");
            n += step;
        }
        drop(standing);
        self.check("sweep").await;
        n
    }

    /// For each statement that writes a commit, and for COMMIT itself: one payment while `SQLite` refuses it.
    pub(super) async fn sweep_file(&mut self) {
        let shared = Arc::clone(&self.load.shared);
        let standing = shared.stand_still().await;
        for (number, (table, action)) in STATEMENTS.iter().enumerate() {
            let intent = payment(&self.load.shared, &format!("sweep-{number}"), &mut self.random);
            execute(&self.database, &trap(table, action)).await;
            let heard = self.replaying.attempt(&intent).await;
            let refused = heard.as_ref().is_some_and(|heard| heard.status == 503);
            execute(&self.database, UNTRAP).await;
            assert!(refused, "{action} {table} failed and was answered {heard:?}");
            settle(&mut self.replaying, &intent).await;
            self.tally.faults += 1;
        }
        drop(standing);
        self.check("sweep").await;
    }

    /// A full disk: writes are refused, reads go on, and when there is room again so do the writes, by themselves.
    pub(super) async fn fill_disk(&mut self, disk: &Disk) {
        sleep(Duration::from_millis(200)).await;
        disk.fill(self.kernel.as_ref().expect("it runs").id());
        let shared = Arc::clone(&self.load.shared);
        let standing = shared.stand_still().await;
        let mut refused = 0;
        for number in 0..200 {
            let intent = payment(&self.load.shared, &format!("full-{number}"), &mut self.random);
            let heard = self.replaying.attempt(&intent).await;
            refused += u32::from(heard.is_some_and(|heard| heard.status == 503));
            if refused == 5 {
                break;
            }
        }
        assert_eq!(refused, 5, "the disk is full and payments go on");
        for path in ["/livez", "/payments?limit=1", "/ledger/trial-balance"] {
            let (status, _) = self.get(path, 0).await;
            assert_eq!(status, 200, "{path} on a full disk");
        }
        disk.free(self.kernel.as_ref().expect("it runs").id());
        let intent = payment(&self.load.shared, "freed", &mut self.random);
        settle(&mut self.replaying, &intent).await;
        assert!(self.kernel.as_mut().expect("it runs").runs(), "the kernel survives a full disk");
        drop(standing);
        self.tally.faults += 1;
        self.check("full disk").await;
    }

    /// Ends the load and the kernel, checks once more that nothing is left undone, and removes everything.
    pub(super) async fn end(mut self) -> Tally {
        self.check("end").await;
        let (sent, acknowledged) = self.load.shared.counts();
        let journal = Journal::read(&self.site.directory.join("journal"));
        let attempts = journal.intents.values().flat_map(|(_, attempts)| attempts);
        self.tally.lost = attempts.filter(|attempt| attempt.heard.is_none()).count().try_into().unwrap_or_default();
        (self.tally.sent, self.tally.acknowledged) = (sent, acknowledged);
        self.load.end().await;
        if let Some(kernel) = self.kernel.take() {
            let (well, _) = kernel.terminate().await;
            assert!(well, "a kernel at rest ends well");
        }
        // A mounted data directory stays until it is unmounted.
        let _removed = fs::remove_dir_all(&self.site.directory);
        self.tally
    }

    async fn start(&mut self) {
        // A file's size can only be limited where going past it is no signal.
        let begun = Instant::now();
        self.kernel =
            Some(if self.proxy.is_some() { self.site.start().await.0 } else { self.site.start_limited().await });
        self.tally.slowest_start = self.tally.slowest_start.max(begun.elapsed());
    }

    /// The kernel finds the server again by itself.
    async fn serves_again(&mut self) {
        let begun = Instant::now();
        while !self.site.is_ready().await {
            assert!(begun.elapsed() < Duration::from_secs(30), "the kernel does not find the database again");
            sleep(Duration::from_millis(20)).await;
        }
        assert!(self.kernel.as_mut().expect("it runs").runs(), "the kernel survives its database");
    }

    /// Lets every operation end; then nothing may be wrong.
    async fn check(&mut self, after: &str) {
        let findings = self.findings().await;
        let (count, shown) = (findings.len(), findings.iter().take(20).cloned().collect::<Vec<_>>().join("\n  "));
        let place = self.site.directory.display();
        assert!(findings.is_empty(), "{count} violations after {after}, seed {}, see {place}:\n  {shown}", self.seed);
    }

    /// Holds the journals against the database, with the clients standing still.
    async fn findings(&mut self) -> Vec<String> {
        let shared = Arc::clone(&self.load.shared);
        let standing = shared.stand_still().await;
        for merchant in &shared.merchants {
            merchant.sign_in(&reqwest::Client::new(), &self.site.url()).await;
        }
        let directory = self.site.directory.join("journal");
        let mut findings = self.replay(&Journal::read(&directory)).await;
        let data = Data::read(&self.database).await.expect("the database can be read");
        findings.extend(checker::check(&Journal::read(&directory), &data));
        findings.extend(checker::check_kept(&self.before, &data));
        for (number, merchant) in shared.merchants.iter().enumerate() {
            let told = self.get("/ledger/trial-balance", number).await;
            let expected = checker::trial_balance(&data, merchant.tenant.parse::<Uuid>().expect("an id"));
            if told != (200, expected.clone()) {
                let slug = &merchant.slug;
                findings.push(format!("the trial balance of {slug} is {told:?}, the entries say {expected}"));
            }
        }
        self.before = data;
        drop(standing);
        findings
    }

    /// Sends some acknowledged requests again, which must be answered byte for byte as before; the checker compares.
    async fn replay(&mut self, journal: &Journal) -> Vec<String> {
        let done: Vec<&Intent> = journal
            .intents
            .values()
            .filter(|(intent, attempts)| {
                let mut heard = attempts.iter().filter_map(|attempt| attempt.heard.as_ref());
                intent.operation.has_key() && heard.any(|heard| intent.operation.acknowledged(heard.status))
            })
            .map(|(intent, _)| intent)
            .collect();
        let mut findings = Vec::new();
        for _ in 0..REPLAYS.min(done.len()) {
            let choice = usize::try_from(self.random.below(done.len() as u64)).expect("it fits");
            let heard = self.replaying.attempt(done[choice]).await;
            if !heard.as_ref().is_some_and(|heard| heard.replayed) {
                findings.push(format!("{} was acknowledged; sent again it is answered {heard:?}", done[choice].id));
            }
        }
        findings
    }

    /// Puts an older copy of a stopped kernel's file in its place, which is a loss of acknowledged commits: what the
    /// harness says of that. Nothing can follow.
    pub(super) async fn lose_commits(mut self) -> Vec<String> {
        let data = self.site.directory.join("data");
        let copy = self.site.directory.join("copy");
        fs::create_dir(&copy).expect("a directory can be made");
        self.kernel.take().expect("it runs").kill().await;
        let files = ["kernel.db", "kernel.db-wal"];
        for file in files {
            fs::copy(data.join(file), copy.join(file)).expect("a file of a dead kernel can be copied");
        }
        self.start().await;
        sleep(Duration::from_millis(500)).await;
        self.check("a copy").await;
        self.kernel.take().expect("it runs").kill().await;
        for file in files {
            fs::copy(copy.join(file), data.join(file)).expect("a file of a dead kernel can be replaced");
        }
        fs::remove_file(data.join("kernel.db-shm")).expect("the index of the log is made anew");
        self.start().await;
        let findings = self.findings().await;
        self.load.end().await;
        drop(self.kernel);
        fs::remove_dir_all(&self.site.directory).expect("the directory can be removed");
        findings
    }

    async fn get(&self, path: &str, merchant: usize) -> (u16, Value) {
        let token = self.load.shared.merchants[merchant].token();
        let request = reqwest::Client::new().get(format!("{}{path}", self.site.url())).bearer_auth(token);
        let reply = request.send().await.expect("the kernel answers");
        (reply.status().as_u16(), reply.json().await.unwrap_or_default())
    }
}

/// The statements that write a payment, by table, with the last of all.
const STATEMENTS: [(&str, &str); 7] = [
    ("state", "insert"),
    ("event", "insert"),
    ("tenant_sequence", "insert"),
    ("audit", "insert"),
    ("idempotency", "insert"),
    ("head", "update"),
    ("head", "commit"),
];

/// A trigger that refuses the statement; for COMMIT, one that owes a row to a foreign key which is looked at only then.
fn trap(table: &str, action: &str) -> String {
    match action {
        "commit" => format!(
            "create table fault_owed (id integer primary key);
            create table fault_debt (id integer references fault_owed (id) deferrable initially deferred);
            create trigger fault after update on {table} begin insert into fault_debt values (1); end"
        ),
        _ => format!("create trigger fault before {action} on {table} begin select raise(abort, 'injected'); end"),
    }
}

const UNTRAP: &str = "drop trigger fault; drop table if exists fault_debt; drop table if exists fault_owed";

pub(super) async fn execute(database: &str, sql: &str) {
    let mut connection = SqliteConnection::connect(database).await.expect("the file opens beside the kernel");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect("the trigger is made or dropped");
    connection.close().await.expect("the connection closes");
}

fn payment(shared: &Shared, id: &str, random: &mut Random) -> Intent {
    Operation::Pay.intent(id.to_owned(), &shared.merchants[0].tenant, random)
}

/// Sends until it is acknowledged.
async fn settle(client: &mut Client, intent: &Intent) -> Heard {
    let begun = Instant::now();
    loop {
        let heard = client.attempt(intent).await;
        match heard {
            Some(heard) if intent.operation.acknowledged(heard.status) => return heard,
            other => assert!(begun.elapsed() < Duration::from_secs(30), "{} is never done: {other:?}", intent.id),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Two tenants, so that what belongs to one could be found with the other.
async fn merchants(site: &Site) -> Vec<Merchant> {
    let client = reqwest::Client::new();
    let operator = Merchant::new("", SYSTEM.0, SYSTEM.1, &site.password("operator"));
    operator.sign_in(&client, &site.url()).await;
    let owner = json!({ "email": "owner@globex.example", "password": "a long enough password" });
    let body = json!({ "slug": "globex", "name": "Globex", "owner": owner });
    let request = client.post(format!("{}/api/v1/tenants", site.url())).bearer_auth(operator.token()).json(&body);
    let made = request.send().await.expect("the kernel answers");
    assert_eq!(made.status(), 201);
    let demo = (DEMO.0, DEMO.1, site.password("demo"));
    let globex = ("globex", "owner@globex.example", "a long enough password".to_owned());
    let mut merchants = Vec::new();
    for (slug, email, password) in [demo, globex] {
        let stranger = Merchant::new("", slug, email, &password);
        stranger.sign_in(&client, &site.url()).await;
        let me = client.get(format!("{}/api/v1/auth/me", site.url())).bearer_auth(stranger.token());
        let me: Value = me.send().await.expect("the kernel answers").json().await.expect("JSON");
        let merchant = Merchant::new(me["tenant"]["id"].as_str().expect("an id"), slug, email, &password);
        merchant.sign_in(&client, &site.url()).await;
        merchants.push(merchant);
    }
    merchants
}

async fn fresh_database(cluster: &Cluster, random: &mut Random) -> String {
    let name = format!("fault_{:016x}", random.next());
    let mut admin = sqlx::PgConnection::connect(&cluster.url()).await.expect("the server answers");
    let sql = format!("create database {name}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await.expect("a database can be made");
    suite::database::with_database(&cluster.url(), &name)
}

/// A directory of a run's own.
pub(super) fn directory(seed: u64) -> PathBuf {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let (process, number) = (std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
    let directory = std::env::temp_dir().join(format!("aibos-fault-{process}-{number}-{seed:x}"));
    fs::create_dir_all(&directory).expect("a directory can be made");
    directory
}

/// A disk that can be filled; what it was mounted for is gone when it is dropped.
#[derive(Debug)]
pub(super) enum Disk {
    /// The data directory is a small file system of its own, and another file fills it.
    Small(PathBuf),
    /// No file may grow any more: where mounting is not permitted.
    Limited,
}

impl Disk {
    /// A small file system for the data below a directory.
    pub(super) fn prepare(directory: &Path) -> Self {
        let data = directory.join("data");
        fs::create_dir(&data).expect("a directory can be made");
        let mut mount = std::process::Command::new("mount");
        let mounted =
            mount.args(["-t", "tmpfs", "-o", "size=48m", "aibos-fault"]).arg(&data).stderr(Stdio::null()).status();
        if mounted.is_ok_and(|status| status.success()) { Self::Small(data) } else { Self::Limited }
    }

    fn fill(&self, kernel: u32) {
        match self {
            // It ends with an error when nothing is left, which is what it is for.
            Self::Small(data) => drop(fs::write(data.join("filler"), vec![0; 64 * 1024 * 1024])),
            Self::Limited => limit(kernel, "4096:unlimited"),
        }
    }

    fn free(&self, kernel: u32) {
        match self {
            Self::Small(data) => fs::remove_file(data.join("filler")).expect("the filler can be removed"),
            Self::Limited => limit(kernel, "unlimited:unlimited"),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Self::Small(data) = self {
            let _unmounted = std::process::Command::new("umount").arg("-l").arg(&*data).status();
            if let Some(directory) = data.parent().filter(|_| !std::thread::panicking()) {
                let _removed = fs::remove_dir_all(directory);
            }
        }
    }
}

fn limit(process: u32, size: &str) {
    let mut command = std::process::Command::new("prlimit");
    let limited = command.arg("--pid").arg(process.to_string()).arg(format!("--fsize={size}")).status();
    assert!(limited.is_ok_and(|status| status.success()), "the size of files cannot be limited");
}

/// Which database a campaign uses.
pub(super) fn cluster(backend: Backend, seed: u64) -> Option<Cluster> {
    match backend {
        Backend::Sqlite => None,
        Backend::Postgres => Some(Cluster::make(&mut Random::stream(seed, 0))),
    }
}
