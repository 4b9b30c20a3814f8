//! A load generator that tells apart what `wrk` mixes: kinds of requests, and replies by their status. In a closed loop each
//! connection sends its next request when it has its reply. In an open loop (`--rate`) requests are due at fixed times
//! whatever the server does, and latency counts from the time at which a request was due: a server that falls behind cannot
//! hide it. Only good replies (2xx) have a latency; the others are counted.
//!
//! One thread and no HTTP library, so that it takes little of the machine that it shares with the server.
//! `cargo build --release -p suite --example load && target/release/examples/load --help`
#![allow(clippy::print_stdout, reason = "it prints what it measured")]

mod exchange;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aibos::clock::Clock;
use aibos::id;
use clap::{Parser, ValueEnum};
use exchange::Connection;
use tokio::task::JoinSet;

/// A request that is later than this is not sent any more: the generator has no connection or no time for it.
const LATE_MAX: Duration = Duration::from_secs(1);
/// Until the server has taken the connections that were opened before.
const SETTLES: Duration = Duration::from_millis(500);
/// What is looked at when a server recovers.
const WINDOW: Duration = Duration::from_millis(100);
/// Users with a password, as `serve --people` makes them.
const PASSWORD: &str = "correct horse battery";

/// Loads a kernel that `serve` runs. Prints `LOAD KIND` with good replies a second, p50, p95, p99 in milliseconds, refused
/// and broken ones; `STATUS` with the number of each; `FIRST`, the p99 of the first second; `SENT` a second and `MISSED`;
/// `RECOVERED` in milliseconds.
#[derive(Debug, Parser)]
struct Options {
    /// Where the kernel listens.
    #[arg(long)]
    server: SocketAddr,
    /// A file with an access token a line; requests take them in turn.
    #[arg(long)]
    tokens: PathBuf,
    /// Connections; in an open loop the most requests at once.
    #[arg(long)]
    connections: u32,
    /// How long.
    #[arg(long)]
    seconds: f64,
    /// Requests a second that are due; a closed loop when absent.
    #[arg(long)]
    rate: Option<f64>,
    /// Opens the connections before the time begins: the clients were there already.
    #[arg(long)]
    connected: bool,
    /// From where the connections come.
    #[arg(long, value_enum, default_value_t = Origin::OneAddress)]
    from: Origin,
    /// Tells the end of the first tenth of a second whose p99 is no greater than so many milliseconds.
    #[arg(long)]
    recovered: Option<f64>,
    /// KIND=SHARE; the shares are whole numbers.
    #[arg(required = true)]
    mix: Vec<Share>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Origin {
    OneAddress,
    /// Each from a loopback address of its own, as clients of many places.
    ManyAddresses,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Kind {
    /// The computing route of a cell.
    Cell,
    /// The same, whose instances are warm.
    Warm,
    /// A read-only route of a cell.
    Ping,
    /// A payment through three cells.
    Payment,
    /// Publishing an event.
    Publish,
    /// Reading ten events.
    Events,
    /// The kernel's own sign of life.
    Livez,
    /// Signing in; every second time with a wrong password.
    Signin,
    /// Another version of the computing cell.
    Activate,
}

#[derive(Clone, Copy, Debug)]
struct Share {
    kind: Kind,
    share: u32,
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, share) = text.split_once('=').ok_or("must be KIND=SHARE")?;
        let share = share.parse().map_err(|_| "the share must be a whole number")?;
        Ok(Self { kind: Kind::from_str(kind, false)?, share })
    }
}

/// What all connections share.
#[derive(Debug)]
struct Plan {
    tokens: Vec<String>,
    /// The kinds in the order in which they are sent, again and again.
    order: Vec<Kind>,
    rate: Option<f64>,
    begins: Instant,
    ends: Instant,
    /// In no other run's idempotency keys.
    prefix: String,
    next: AtomicU64,
    missed: AtomicU64,
}

/// One reply, or none: then the status is 0.
#[derive(Clone, Copy, Debug)]
struct Sample {
    kind: Kind,
    status: u16,
    took: Duration,
    at: Duration,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let options = Options::parse();
    let tokens = std::fs::read_to_string(&options.tokens).expect("the file of tokens can be read");
    let mut connections: Vec<Connection> = (0..options.connections).map(|number| options.connection(number)).collect();
    if options.connected {
        for connection in &mut connections {
            connection.connect().await.expect("the kernel takes a connection");
        }
        tokio::time::sleep(SETTLES).await;
    }
    let begins = Instant::now();
    let plan = Arc::new(Plan {
        tokens: tokens.lines().map(str::to_owned).collect(),
        order: order(&options.mix),
        rate: options.rate,
        begins,
        ends: begins + Duration::from_secs_f64(options.seconds),
        prefix: id::uuid(&Clock::System).simple().to_string(),
        next: AtomicU64::new(0),
        missed: AtomicU64::new(0),
    });
    let mut clients = JoinSet::new();
    for (number, connection) in (0..).zip(connections) {
        clients.spawn(client(Arc::clone(&plan), number, connection));
    }
    let samples = clients.join_all().await.concat();
    let missed = plan.missed.load(Ordering::Relaxed);
    report(&samples, options.seconds, missed);
    if let Some(bound) = options.recovered {
        println!("RECOVERED {}", recovered(&samples, bound, plan.ends - plan.begins));
    }
}

/// The kinds, each as often as its share, spread evenly.
fn order(mix: &[Share]) -> Vec<Kind> {
    let all: u32 = mix.iter().map(|share| share.share).sum();
    let mut places: Vec<(f64, Kind)> = Vec::new();
    for Share { kind, share } in mix {
        places
            .extend((0..*share).map(|number| ((f64::from(number) + 0.5) / f64::from(*share) * f64::from(all), *kind)));
    }
    places.sort_by(|a, b| a.0.total_cmp(&b.0));
    places.into_iter().map(|(_, kind)| kind).collect()
}

/// Sends until the end and cuts off what is under way then.
async fn client(plan: Arc<Plan>, number: u32, connection: Connection) -> Vec<Sample> {
    let mut samples = Vec::new();
    let _cut = tokio::time::timeout_at(plan.ends.into(), send(&plan, number, connection, &mut samples)).await;
    samples
}

async fn send(plan: &Plan, number: u32, mut connection: Connection, samples: &mut Vec<Sample>) {
    for turn in 0.. {
        let index = plan.next.fetch_add(1, Ordering::Relaxed);
        let due = match plan.rate {
            None => Instant::now(),
            #[expect(clippy::cast_precision_loss, reason = "far fewer requests than a float counts exactly")]
            Some(rate) => plan.begins + Duration::from_secs_f64(index as f64 / rate),
        };
        if due >= plan.ends {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        if due.elapsed() > LATE_MAX {
            plan.missed.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let kind = plan.order[usize::try_from(index).unwrap_or(0) % plan.order.len()];
        let request = plan.request(kind, index, number, turn);
        let status = connection.exchange(&request).await;
        samples.push(Sample { kind, status: status.unwrap_or(0), took: due.elapsed(), at: plan.begins.elapsed() });
    }
}

impl Options {
    fn connection(&self, number: u32) -> Connection {
        let from = match self.from {
            Origin::OneAddress => None,
            Origin::ManyAddresses => Some(IpAddr::V4(Ipv4Addr::from_bits(0x7f01_0001 + number))),
        };
        Connection::new(self.server, from)
    }
}

impl Plan {
    /// A request: the `index`th of all, the `turn`th of its client.
    fn request(&self, kind: Kind, index: u64, client: u32, turn: u64) -> Vec<u8> {
        let (path, key, body) = match kind {
            Kind::Ping => return self.head("GET", "/payments/ping", index, "").into_bytes(),
            Kind::Events => return self.head("GET", "/api/v1/events?limit=10", index, "").into_bytes(),
            Kind::Livez => return self.head("GET", "/livez", index, "").into_bytes(),
            Kind::Cell | Kind::Warm => {
                let path = if kind == Kind::Warm { "/bench/cell-warm" } else { "/bench/cell" };
                let body = r#"{"amount":1999,"currency":"EUR","destination":"merchant-1"}"#;
                (path, String::new(), body.to_owned())
            }
            Kind::Payment => {
                let merchant = index % 100;
                let body = r#"{"amount":1999,"currency":"EUR","source":"tok_ok","destination":"merchant-"#;
                let key = format!("idempotency-key: {}-{index}\r\n", self.prefix);
                ("/payments/process", key, format!("{body}{merchant}\"}}"))
            }
            Kind::Publish => {
                let body = r#"{"type":"bench.happened","subject":"order-1","data":{"amount":1999}}"#;
                ("/api/v1/events", String::new(), body.to_owned())
            }
            Kind::Signin => {
                let password = if turn.is_multiple_of(2) { PASSWORD } else { "a wrong password" };
                let email = format!("person-{client}@customer-0.test");
                let body = format!(r#"{{"tenant":"customer-0","email":"{email}","password":"{password}"}}"#);
                ("/api/v1/auth/login", String::new(), body)
            }
            Kind::Activate => {
                let body = format!(r#"{{"version":"1.0.{}"}}"#, turn % 2);
                ("/api/v1/cells/bench-cell/activate", String::new(), body)
            }
        };
        let more = format!("{key}content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        (self.head("POST", path, index, &more) + &body).into_bytes()
    }

    fn head(&self, method: &str, path: &str, index: u64, more: &str) -> String {
        let token = &self.tokens[usize::try_from(index).unwrap_or(0) % self.tokens.len()];
        format!("{method} {path} HTTP/1.1\r\nhost: kernel\r\nauthorization: Bearer {token}\r\n{more}\r\n")
    }
}

/// The value that so much of a sorted list does not exceed, in milliseconds.
fn percentile(sorted: &[Duration], part: f64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a list"
    )]
    let index = (sorted.len() as f64 * part) as usize;
    sorted.get(index).or(sorted.last()).map_or(0.0, |took| took.as_secs_f64() * 1000.0)
}

fn report(samples: &[Sample], seconds: f64, missed: u64) {
    let mut kinds: BTreeMap<Option<Kind>, Vec<&Sample>> = BTreeMap::from([(None, Vec::new())]);
    let mut statuses: BTreeMap<u16, u64> = BTreeMap::new();
    for sample in samples {
        kinds.entry(None).or_default().push(sample);
        kinds.entry(Some(sample.kind)).or_default().push(sample);
        *statuses.entry(sample.status).or_default() += 1;
    }
    for (kind, samples) in &kinds {
        let name = kind.and_then(|kind| Some(kind.to_possible_value()?.get_name().to_owned()));
        let mut took = good(samples.iter().copied());
        let served = took.len();
        let broken = samples.iter().filter(|sample| sample.status == 0).count();
        if took.is_empty() {
            // So long at least.
            took.push(Duration::from_secs_f64(seconds));
        }
        let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|part| percentile(&took, part));
        println!(
            "LOAD {} {:.1} {p50:.2} {p95:.2} {p99:.2} {} {broken}",
            name.as_deref().unwrap_or("all"),
            per_second(served, seconds),
            samples.len() - served - broken,
        );
    }
    let counts: Vec<String> = statuses.iter().map(|(status, count)| format!("{status}:{count}")).collect();
    println!("STATUS {}", counts.join(" "));
    println!("FIRST {:.2}", p99(samples.iter().filter(|sample| sample.at < Duration::from_secs(1))).unwrap_or(0.0));
    println!("SENT {:.1} MISSED {missed}", per_second(samples.len(), seconds));
}

/// How long the good ones took, sorted.
fn good<'a>(samples: impl Iterator<Item = &'a Sample>) -> Vec<Duration> {
    let good = samples.filter(|sample| (200..300).contains(&sample.status));
    let mut took: Vec<Duration> = good.map(|sample| sample.took).collect();
    took.sort_unstable();
    took
}

/// The p99 of the good ones, in milliseconds; none without one.
fn p99<'a>(samples: impl Iterator<Item = &'a Sample>) -> Option<f64> {
    let took = good(samples);
    (!took.is_empty()).then(|| percentile(&took, 0.99))
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn per_second(count: usize, seconds: f64) -> f64 {
    count as f64 / seconds
}

/// When the first window ended whose p99 was within the bound, in milliseconds since the beginning; the whole time when
/// none was.
fn recovered(samples: &[Sample], bound_ms: f64, all: Duration) -> u128 {
    let mut from = Duration::ZERO;
    while from < all {
        let to = from + WINDOW;
        let found = p99(samples.iter().filter(|sample| sample.at >= from && sample.at < to));
        from = to;
        if found.is_some_and(|p99| p99 <= bound_ms) {
            break;
        }
    }
    from.as_millis()
}
