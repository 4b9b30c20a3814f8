//! The storage contract, kept by both backends: each test that `on_both_backends!` names runs on `SQLite` and on
//! `PostgreSQL`.

use aibos::audit::{AuditEntry, Outcome, Party};
use aibos::clock::Clock;
use aibos::event::Event;
use aibos::id::{AuditId, BatchId, CorrelationId, NodeId, TenantId};
use aibos::state::unit::{Receipt, ReplyKey, StoredReply, Unit, Verdict, Write};
use aibos::state::{Scan, Space, StateKey, Version};
use aibos::storage::{Storage, StorageError};
use bytes::Bytes;
use jiff::Timestamp;
use suite::database::{Backend, Database};

/// Generates `sqlite::NAME` and `postgres::NAME` for each async function that takes a [`Subject`].
macro_rules! on_both_backends {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::storage::Subject::new(suite::database::Backend::Sqlite).await).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::storage::Subject::new(suite::database::Backend::Postgres).await).await;
            })+
        }
    };
}

mod append_only;
mod conflict;
mod cut_off;
mod known;
mod log;
mod many_kernels;
mod migration;
mod model;
mod open;
mod plans;
mod state;
mod sweep;

/// A migrated database and a kernel process that uses it.
struct Subject {
    storage: Storage,
    database: Database,
    clock: Clock,
    node: NodeId,
    tenant: TenantId,
}

impl Subject {
    async fn new(backend: Backend) -> Self {
        let database = Database::fresh(backend).await;
        let clock = Clock::manual(Timestamp::from_second(1_800_000_000).unwrap());
        let (node, tenant) = (NodeId::new(&clock), TenantId::new(&clock));
        Self { storage: database.open_migrated().await, database, clock, node, tenant }
    }

    /// A space of the subject's tenant.
    fn space(&self) -> Space {
        Space { tenant: self.tenant, name: "ledger".into() }
    }

    fn key(&self, key: &str) -> StateKey {
        self.space().key(key)
    }

    fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Scan {
        Scan { space: self.space(), prefix: prefix.into(), after: after.map(Into::into), limit }
    }

    async fn try_commit(&self, units: &[Unit]) -> Result<Vec<Verdict>, StorageError> {
        self.storage.commit(self.node, BatchId::new(&self.clock), units).await
    }

    async fn commit(&self, units: &[Unit]) -> Vec<Verdict> {
        self.try_commit(units).await.expect("the database takes the batch")
    }

    /// Commits one unit that must not conflict.
    async fn accept(&self, unit: Unit) -> Receipt {
        match self.commit(&[unit]).await.remove(0) {
            Verdict::Committed(receipt) => receipt,
            Verdict::Conflicted(conflict) => panic!("conflicted: {conflict:?}"),
        }
    }

    /// What another process would leave that wrote one key.
    async fn commit_elsewhere(&self, key: &StateKey, value: &str, version: Version) {
        let tenant = key.space.tenant.0;
        let hex = value.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let (tenant, value) = match &self.storage {
            Storage::Sqlite(_) => (format!("x'{}'", tenant.simple()), format!("x'{hex}'")),
            Storage::Postgres(_) => (format!("'{tenant}'"), format!("'\\x{hex}'")),
        };
        let write = format!(
            "insert into state (tenant, space, key, value, version)
                values ({tenant}, '{}', '{}', {value}, {version})
                on conflict (tenant, space, key) do update set value = excluded.value, version = excluded.version;
            update head set sequence = {version}",
            key.space.name, key.key
        );
        self.database.execute(&write).await.unwrap();
    }

    /// Value and version of a key.
    async fn read(&self, key: &str) -> Option<(String, Version)> {
        let found = self.storage.read(&[self.key(key)]).await.unwrap().remove(0);
        found.map(|found| (String::from_utf8(found.value.to_vec()).unwrap(), found.version))
    }

    async fn value(&self, key: &str) -> Option<String> {
        self.read(key).await.map(|(value, _)| value)
    }

    fn put(&self, key: &str, value: &str) -> Write {
        Write::Put(self.key(key), Bytes::copy_from_slice(value.as_bytes()))
    }

    fn add(&self, key: &str, delta: i64, min: Option<i64>) -> Write {
        Write::Add { key: self.key(key), delta, min }
    }

    fn event(&self, kind: &str) -> Event {
        Event {
            id: aibos::id::uuid(&self.clock).to_string(),
            id_chosen: false,
            source: "/cells/payment-hub".into(),
            kind: kind.into(),
            subject: None,
            time: self.clock.now(),
            data: r#"{"amount":100}"#.into(),
            tenant: self.tenant,
            actor: "user:ada".into(),
            correlation: CorrelationId::new(&self.clock),
            traceparent: None,
        }
    }

    fn chosen_event(&self, id: &str) -> Event {
        Event { id: id.into(), id_chosen: true, ..self.event("payment.created") }
    }

    fn entry(&self, action: &str) -> AuditEntry {
        AuditEntry {
            id: AuditId::new(&self.clock),
            at: self.clock.now(),
            tenant_id: self.tenant,
            actor: Party::new("user", "ada"),
            action: action.into(),
            target: Party::new("payment", "p-1"),
            outcome: Outcome::Success,
            correlation_id: CorrelationId::new(&self.clock),
            details: serde_json::Map::new(),
            cell: None,
            receipt: None,
        }
    }

    fn reply(&self, key: &str) -> StoredReply {
        StoredReply {
            key: ReplyKey {
                tenant: self.tenant,
                principal: "user:ada".into(),
                route: "/payments/process".into(),
                key: key.into(),
            },
            fingerprint: [7; 32],
            status: 201,
            headers: vec![("content-type".into(), "application/json".into()), ("x-odd".into(), "a \"b\" é".into())],
            body: Bytes::from_static(b"{\"ok\":true}\x00\xff"),
            created_at: self.clock.now(),
            expires_at: self.clock.now(),
        }
    }
}

/// A unit that only writes.
fn writing(writes: impl IntoIterator<Item = Write>) -> Unit {
    Unit { writes: writes.into_iter().collect(), ..Unit::default() }
}

fn receipt(verdict: &Verdict) -> &Receipt {
    match verdict {
        Verdict::Committed(receipt) => receipt,
        Verdict::Conflicted(conflict) => panic!("conflicted: {conflict:?}"),
    }
}

/// The sentence of a refusal.
fn refusal<T>(outcome: Result<T, StorageError>) -> String {
    match outcome {
        Err(StorageError::Refused(sentence)) => sentence,
        Err(other) => panic!("failed otherwise: {other:?}"),
        Ok(_) => panic!("was not refused"),
    }
}
