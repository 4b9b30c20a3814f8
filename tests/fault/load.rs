//! Clients that go on whatever happens: each has an operation under way, sends it again when the reply was lost (mostly),
//! and writes down what it does. They stand still while the checker looks.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Client as HttpClient;
use serde_json::json;
use tokio::sync::{RwLock, RwLockWriteGuard};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::journal::{Heard, Intent, Pen};
use super::operation::Operation;
use super::random::Random;

/// A reply that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(20);
/// An operation that cannot be ended by then means that the kernel did not come back.
const ENDS_WITHIN: Duration = Duration::from_secs(90);

/// A tenant and who acts there.
#[derive(Debug)]
pub(super) struct Merchant {
    /// The tenant's id.
    pub(super) tenant: String,
    pub(super) slug: String,
    pub(super) email: String,
    pub(super) password: String,
    token: Mutex<String>,
}

impl Merchant {
    pub(super) fn new(tenant: &str, slug: &str, email: &str, password: &str) -> Self {
        let [tenant, slug, email, password] = [tenant, slug, email, password].map(str::to_owned);
        Self { tenant, slug, email, password, token: Mutex::default() }
    }

    /// The access token.
    pub(super) fn token(&self) -> String {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Signs in; a token lives shorter than a run.
    pub(super) async fn sign_in(&self, client: &HttpClient, url: &str) {
        let body = json!({ "tenant": self.slug, "email": self.email, "password": self.password });
        let reply =
            client.post(format!("{url}/api/v1/auth/login")).json(&body).send().await.expect("the kernel answers");
        let reply: serde_json::Value = reply.json().await.expect("JSON");
        let token = reply["access_token"].as_str().unwrap_or_else(|| panic!("no token: {reply}")).to_owned();
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }
}

/// What the clients share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) url: String,
    pub(super) merchants: Vec<Merchant>,
    journals: PathBuf,
    /// Held by each client for an operation, and by the harness while it looks.
    gate: RwLock<()>,
    stop: AtomicBool,
    sent: AtomicU64,
    acknowledged: AtomicU64,
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    shared: Arc<Shared>,
    number: u64,
    made: u64,
    random: Random,
    pen: Pen,
    http: HttpClient,
    /// Whether it hangs up on some requests before they are answered.
    impatient: bool,
}

/// Running clients.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) shared: Arc<Shared>,
    clients: JoinSet<()>,
}

impl Shared {
    pub(super) fn new(url: String, merchants: Vec<Merchant>, journals: PathBuf) -> Arc<Self> {
        let gate = RwLock::new(());
        let (sent, acknowledged) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { url, merchants, journals, gate, stop: AtomicBool::new(false), sent, acknowledged })
    }

    /// Waits until no operation is under way; the clients stand still as long as the answer is held.
    pub(super) async fn stand_still(&self) -> RwLockWriteGuard<'_, ()> {
        timeout(ENDS_WITHIN, self.gate.write()).await.expect("the operations under way end")
    }

    /// Requests sent and acknowledged so far.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.acknowledged.load(Ordering::Relaxed))
    }
}

impl Load {
    /// Starts so many clients.
    pub(super) fn start(shared: Arc<Shared>, clients: u64, seed: u64) -> Self {
        let mut running = JoinSet::new();
        for number in 0..clients {
            let client = Client { impatient: true, ..Client::new(&shared, number, seed) };
            running.spawn(client.run());
        }
        Self { shared, clients: running }
    }

    /// Ends the clients after their operations.
    pub(super) async fn end(mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("a client ends well");
        }
    }
}

impl Client {
    pub(super) fn new(shared: &Arc<Shared>, number: u64, seed: u64) -> Self {
        let pen = Pen::open(&shared.journals.join(format!("client-{number}")));
        let http = HttpClient::builder().timeout(PATIENCE).build().expect("a client can be made");
        let random = Random::stream(seed, number);
        Self { shared: Arc::clone(shared), number, made: 0, random, pen, http, impatient: false }
    }

    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        while !shared.stop.load(Ordering::SeqCst) {
            let _open = shared.gate.read().await;
            let operation = Operation::choose(&mut self.random);
            self.operate(operation).await;
        }
    }

    /// An operation with what follows from it.
    pub(super) async fn operate(&mut self, operation: Operation) {
        let merchant = usize::from(self.random.percent(25)).min(self.shared.merchants.len() - 1);
        let tenant = self.shared.merchants[merchant].tenant.clone();
        let id = self.id(operation);
        let intent = operation.intent(id, &tenant, &mut self.random);
        let Some(heard) = self.perform(&intent).await else { return };
        if operation == Operation::Wait && self.random.percent(80) {
            let body = heard.json();
            let Some(payment) = body["transaction_id"].as_str() else { return };
            let sync = Operation::sync(self.id(Operation::Sync), &tenant, payment);
            self.perform(&sync).await;
        }
        if operation.makes_payment() && self.random.percent(3) {
            let reuse = Operation::reuse(self.id(Operation::Reuse), &intent, &mut self.random);
            self.perform(&reuse).await;
        }
    }

    fn id(&mut self, operation: Operation) -> String {
        self.made += 1;
        format!("{}-{}-{}", operation.name(), self.number, self.made)
    }

    /// Sends it until it is acknowledged or refused for good, or gives up; answers the acknowledgement.
    pub(super) async fn perform(&mut self, intent: &Intent) -> Option<Heard> {
        let begun = Instant::now();
        if intent.operation.has_key() && self.random.percent(8) {
            self.twice(intent).await;
        }
        loop {
            let heard = self.attempt(intent).await;
            match heard {
                Some(heard) if intent.operation.acknowledged(heard.status) => return Some(heard),
                Some(heard) if intent.operation.may_hear(heard.status, &heard.code()) => return None,
                Some(heard) if !matches!(heard.status, 409 | 503 | 504) => return None,
                // Most come back; who never does must find nothing doubled either.
                _ if self.random.percent(3) || begun.elapsed() > ENDS_WITHIN => return None,
                Some(_) => sleep(Duration::from_millis(20)).await,
                None => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Sends it once. None: no reply came.
    pub(super) async fn attempt(&mut self, intent: &Intent) -> Option<Heard> {
        let correlation = self.begin(intent);
        // Now and then somebody hangs up in the middle.
        let hangs_up =
            (self.impatient && self.random.percent(2)).then(|| Duration::from_millis(1 + self.random.below(30)));
        let sending = send(&self.http, &self.shared, intent, &correlation);
        let heard = timeout(hangs_up.unwrap_or(PATIENCE), sending).await.ok().flatten()?;
        self.pen.heard(&correlation, &heard);
        if intent.operation.acknowledged(heard.status) {
            self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        Some(heard)
    }

    /// Sends it twice at the same moment.
    async fn twice(&mut self, intent: &Intent) {
        let (one, two) = (self.begin(intent), self.begin(intent));
        let (shared, http) = (&self.shared, &self.http);
        let both = tokio::join!(send(http, shared, intent, &one), send(http, shared, intent, &two));
        for (correlation, heard) in [(one, both.0), (two, both.1)] {
            if let Some(heard) = heard {
                self.pen.heard(&correlation, &heard);
            }
        }
    }

    fn begin(&mut self, intent: &Intent) -> String {
        let (high, low) = (self.random.next(), self.random.next());
        let correlation = uuid::Builder::from_random_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes());
        let correlation = correlation.into_uuid().to_string();
        self.pen.sent(intent, &correlation);
        self.shared.sent.fetch_add(1, Ordering::Relaxed);
        correlation
    }
}

async fn send(http: &HttpClient, shared: &Shared, intent: &Intent, correlation: &str) -> Option<Heard> {
    let merchant = shared.merchants.iter().find(|merchant| merchant.tenant == intent.tenant).expect("a known tenant");
    let mut request = http
        .post(format!("{}{}", shared.url, intent.path))
        .bearer_auth(merchant.token())
        .header("content-type", "application/json")
        .header("x-correlation-id", correlation)
        .body(intent.body.clone());
    if intent.operation.has_key() {
        // A reused key is that of the intent that it is about.
        let key = if intent.operation == Operation::Reuse { intent.about.as_deref() } else { None };
        request = request.header("idempotency-key", key.unwrap_or(&intent.id));
    }
    let reply = request.send().await.ok()?;
    let (status, replayed) = (reply.status().as_u16(), reply.headers().contains_key("idempotency-replayed"));
    let body = reply.text().await.ok()?;
    Some(Heard { status, replayed, body })
}
