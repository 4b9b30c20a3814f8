//! Fills a kernel's database before it is measured: through the library and its commits, not over HTTP, so that a million
//! payments take minutes. What is stored has the keys and the sizes of what the finance cells store.

use std::sync::Arc;

use aibos::audit::{AuditEntry, Outcome, Party};
use aibos::cell::catalog::{CellRecord, RouteRecord};
use aibos::cell::compiled::{Code, CompiledCache};
use aibos::cell::engine::Threads;
use aibos::cell::manifest::Idempotency;
use aibos::cell::pattern::Pattern;
use aibos::cell::registry::{cell_key, platform, version_key};
use aibos::cell::version::{VersionRecord, digest_of};
use aibos::context::Context;
use aibos::event::Event;
use aibos::id::{self, CorrelationId, RouteId};
use aibos::kernel::{Kernel, compiled_dir};
use aibos::limit;
use aibos::state::unit::{ReplyKey, StoredReply, Unit, Write};
use aibos::state::work::Work;
use aibos::state::{Space, StateKey};
use serde_json::json;
use suite::cell::Guest;
use tokio::task::JoinSet;

use crate::{Customer, computing};

/// Units that wait for a commit at once: two batches, so that one gathers while the other is written.
const WAITING: usize = 2 * limit::COMMIT_BATCH_MAX;
/// Audit entries of one unit.
const ENTRIES: usize = 20;

/// So many active cells that nobody calls, with their code in the cache, as uploads and activations would leave them; without
/// their components, which nobody reads then. Each is a component of its own digest; only their compiled code is the same, so
/// that preparing takes seconds.
pub(crate) async fn cells(kernel: &Arc<Kernel>, count: u32) {
    if count == 0 {
        return;
    }
    let guest = Guest::finance("processor");
    let code = Code::compile(&guest.component, Threads::All).expect("the processor compiles");
    let secret = kernel.config.master_key.derive("compiled-code");
    let cache = CompiledCache::open(compiled_dir(&kernel.config.data_dir), &secret, limit::COMPILED_CACHE_BYTES_MAX);
    let cache = cache.expect("a cache");
    let work = Work::new(kernel.storage.clone());
    for number in 0..count {
        let mut component = guest.component.clone();
        computing::mark(&mut component, &number.to_le_bytes());
        let digest = digest_of(&component);
        cache.keep(&digest, &code);
        let (name, version, now) = (format!("cell-{number:04}"), "1.0.0".to_owned(), kernel.clock.now());
        let record = VersionRecord {
            name: name.clone(),
            version: version.clone(),
            digest,
            manifest: guest.manifest.replace("name = \"processor\"", &format!("name = \"{name}\"")),
            signature: None,
            bytes: component.len(),
            created_at: now,
        };
        work.save(version_key(&name, &version), &record).expect("a record");
        let cell = CellRecord {
            name: name.clone(),
            active: Some(version),
            formats: vec![1],
            history: Vec::new(),
            canary: None,
            quarantine: None,
            restarts: 0,
            generation: 0,
            created_at: now,
            activated_at: Some(now),
        };
        work.save(cell_key(&name), &cell).expect("a record");
    }
    kernel.commit(work.finish()).await.expect("the cells are stored");
}

/// Routes of the quoting cell, each with a first segment of its own.
pub(crate) async fn routes(kernel: &Arc<Kernel>, count: usize) {
    let work = Work::new(kernel.storage.clone());
    for number in 0..count {
        let record = RouteRecord {
            id: RouteId::new(&kernel.clock),
            route: Pattern::parse(&format!("/bench-{number}/items/{{id}}")).expect("a pattern"),
            methods: vec!["POST".to_owned()],
            cell: "bench-cell".to_owned(),
            permission: "bench.use".to_owned(),
            idempotency: Idempotency::None,
            created_at: kernel.clock.now(),
        };
        work.save(platform().key(format!("route/{}", record.id)), &record).expect("a record");
    }
    kernel.commit(work.finish()).await.expect("the routes are stored");
}

/// So many payments, in turn of the customers.
pub(crate) async fn payments(kernel: &Arc<Kernel>, customers: &[Customer], count: usize) {
    let units = (0..count).zip(customers.iter().cycle()).map(|(number, customer)| payment(kernel, *customer, number));
    commit_all(kernel, units, "payments").await;
}

/// So many audit entries, in turn of the customers.
pub(crate) async fn audit(kernel: &Arc<Kernel>, customers: &[Customer], count: usize) {
    let units = (0..count.div_ceil(ENTRIES)).zip(customers.iter().cycle()).map(|(_, customer)| {
        let context = Context::operator(&kernel.clock);
        Unit { audit: (0..ENTRIES).map(|_| entry(*customer, &context)).collect(), ..Unit::default() }
    });
    commit_all(kernel, units, "audit units").await;
}

async fn commit_all(kernel: &Arc<Kernel>, units: impl Iterator<Item = Unit>, what: &str) {
    let mut waiting = JoinSet::new();
    let mut done = 0_usize;
    for unit in units {
        if waiting.len() >= WAITING {
            waiting.join_next().await;
        }
        let kernel = Arc::clone(kernel);
        waiting.spawn(async move { kernel.commit(unit).await.expect("it is stored") });
        done += 1;
        if done.is_multiple_of(100_000) {
            println!("stored {done} {what}");
        }
    }
    waiting.join_all().await;
}

/// A payment as the three cells leave it; additions to balances aside, which grow nothing.
fn payment(kernel: &Kernel, customer: Customer, number: usize) -> Unit {
    let context = Context::operator(&kernel.clock);
    let id = id::uuid(&kernel.clock).to_string();
    let merchant = format!("merchant-{}", number % 100);
    let payment = json!({
        "transaction_id": id, "status": "succeeded", "amount": 1999, "currency": "EUR", "source": "tok_ok",
        "destination": merchant, "created_at": "2026-11-21T12:00:00.000Z",
    })
    .to_string();
    let charge = json!({ "id": id, "status": "succeeded", "amount": 1999, "currency": "EUR" }).to_string();
    let side = |account: &str, direction: &str| json!({ "account": account, "direction": direction, "amount": 1999, "currency": "EUR" });
    let sides = [side("processor-receivable", "debit"), side(&merchant, "credit")];
    let transaction = json!({ "id": id, "posted_at": "2026-11-21T12:00:00.000Z", "entries": sides }).to_string();
    let put = |space: &str, key: String, value: &str| {
        let space = Space { tenant: customer.tenant, name: Arc::from(space) };
        Write::Put(StateKey { space, key }, value.to_owned().into())
    };
    let at = kernel.clock.now().as_millisecond();
    let line = |account: &str| put("ledger", format!("entry/{account}/{at:015}-{id}/000"), &charge);
    let writes = vec![
        put("payment-hub", format!("payment/{id}"), &payment),
        put("processor", format!("charge/{id}"), &charge),
        put("ledger", format!("transaction/{id}"), &transaction),
        line("processor-receivable"),
        line(&merchant),
    ];
    let event = |source: &str, kind: &str, data: &str| Event {
        id: id::uuid(&kernel.clock).to_string(),
        id_chosen: false,
        source: source.to_owned(),
        kind: kind.to_owned(),
        subject: Some(id.clone()),
        time: context.now,
        data: data.to_owned(),
        tenant: customer.tenant,
        actor: format!("user:{}", customer.user),
        correlation: context.correlation,
        traceparent: None,
    };
    let events = vec![
        event("/cells/ledger", "ledger.transaction.posted", &transaction),
        event("/cells/payment-hub", "payment.succeeded", &payment),
    ];
    let reply = reply(customer, &context, &id, payment);
    Unit { writes, events, audit: vec![entry(customer, &context)], reply: Some(reply), ..Unit::default() }
}

fn reply(customer: Customer, context: &Context, id: &str, body: String) -> StoredReply {
    StoredReply {
        key: ReplyKey {
            tenant: customer.tenant,
            principal: format!("user:{}", customer.user),
            route: "/payments/process".to_owned(),
            key: id.to_owned(),
        },
        fingerprint: [7; 32],
        status: 201,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: body.into(),
        created_at: context.now,
        expires_at: context.now.saturating_add(limit::IDEMPOTENCY_LIFE).expect("a time of our days"),
    }
}

/// An entry of the size that a call of three cells leaves.
fn entry(customer: Customer, context: &Context) -> AuditEntry {
    let mut entry = context.entry("cell.call", Party::new("cell", "payment-hub"), Outcome::Success);
    entry.tenant_id = customer.tenant;
    entry.actor = Party::new("user", customer.user);
    entry.correlation_id = CorrelationId::new(&context.clock);
    entry.details.insert("route".to_owned(), "/payments/process".into());
    entry.details.insert("receipt".to_owned(), "r".repeat(1200).into());
    entry
}
