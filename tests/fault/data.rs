//! What the database holds, read in one snapshot past the kernel: the checker must not believe the kernel's own words.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::{Connection, PgConnection, SqliteConnection};
use uuid::Uuid;

/// Everything that the checker looks at.
#[derive(Clone, Debug, Default)]
pub(super) struct Data {
    /// The last commit and the last index of the audit log.
    pub(super) head: (i64, i64),
    /// The last event sequence of each tenant.
    pub(super) tenants: BTreeMap<Uuid, i64>,
    pub(super) state: Vec<Row>,
    /// By tenant and sequence.
    pub(super) events: Vec<Event>,
    /// By index.
    pub(super) audit: Vec<Entry>,
    pub(super) replies: Vec<Reply>,
}

/// A key of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) tenant: Uuid,
    pub(super) space: String,
    pub(super) key: String,
    /// The commit that wrote it.
    pub(super) version: i64,
    pub(super) value: Vec<u8>,
}

impl Row {
    /// The value as JSON; null when it is none.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.value).unwrap_or_default()
    }
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) tenant: Uuid,
    pub(super) sequence: i64,
    pub(super) id: String,
    pub(super) source: String,
    pub(super) kind: String,
    pub(super) subject: Option<String>,
    pub(super) data: String,
    pub(super) correlation: Uuid,
    pub(super) commit: i64,
}

/// An audit entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) index: i64,
    pub(super) body: String,
    pub(super) leaf: Vec<u8>,
    pub(super) tenant: Uuid,
    pub(super) correlation: Uuid,
    pub(super) commit: i64,
}

/// A stored reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) tenant: Uuid,
    pub(super) route: String,
    pub(super) key: String,
    pub(super) status: i32,
    pub(super) body: Vec<u8>,
}

/// Components are no business of the checker, and long.
const STATE: &str = "select tenant, space, key, version, value from state where space <> 'kernel' or key like 'user/%'
    order by tenant, space, key";
const EVENTS: &str = "select tenant, sequence, id, source, kind, subject, data, correlation, commit_sequence from event
    order by tenant, sequence";
const AUDIT: &str = "select idx, body, leaf, tenant, correlation, commit_sequence from audit order by idx";
const REPLIES: &str = "select tenant, route, idempotency_key, status, body from idempotency";

/// Reads all tables; the two databases answer the same statements.
macro_rules! read {
    ($connection:ident, $begin:literal) => {{
        sqlx::raw_sql($begin).execute(&mut $connection).await?;
        let head = sqlx::query_as("select sequence, audit_index from head").fetch_one(&mut $connection).await?;
        let tenants: Vec<(Uuid, i64)> =
            sqlx::query_as("select tenant, sequence from tenant_sequence").fetch_all(&mut $connection).await?;
        let state: Vec<(Uuid, String, String, i64, Vec<u8>)> =
            sqlx::query_as(STATE).fetch_all(&mut $connection).await?;
        let events: Vec<(Uuid, i64, String, String, String, Option<String>, String, Uuid, i64)> =
            sqlx::query_as(EVENTS).fetch_all(&mut $connection).await?;
        let audit: Vec<(i64, String, Vec<u8>, Uuid, Uuid, i64)> =
            sqlx::query_as(AUDIT).fetch_all(&mut $connection).await?;
        let replies: Vec<(Uuid, String, String, i32, Vec<u8>)> =
            sqlx::query_as(REPLIES).fetch_all(&mut $connection).await?;
        sqlx::raw_sql("rollback").execute(&mut $connection).await?;
        $connection.close().await?;
        Data {
            head,
            tenants: tenants.into_iter().collect(),
            state: state.into_iter().map(row).collect(),
            events: events.into_iter().map(event).collect(),
            audit: audit.into_iter().map(entry).collect(),
            replies: replies.into_iter().map(reply).collect(),
        }
    }};
}

impl Data {
    /// Reads the database of a URL.
    pub(super) async fn read(url: &str) -> Result<Self, sqlx::Error> {
        Ok(if url.starts_with("sqlite") {
            let mut connection = SqliteConnection::connect(url).await?;
            read!(connection, "begin")
        } else {
            let mut connection = PgConnection::connect(url).await?;
            read!(connection, "begin isolation level repeatable read read only")
        })
    }
}

fn row((tenant, space, key, version, value): (Uuid, String, String, i64, Vec<u8>)) -> Row {
    Row { tenant, space, key, version, value }
}

type EventColumns = (Uuid, i64, String, String, String, Option<String>, String, Uuid, i64);

fn event((tenant, sequence, id, source, kind, subject, data, correlation, commit): EventColumns) -> Event {
    Event { tenant, sequence, id, source, kind, subject, data, correlation, commit }
}

fn entry((index, body, leaf, tenant, correlation, commit): (i64, String, Vec<u8>, Uuid, Uuid, i64)) -> Entry {
    Entry { index, body, leaf, tenant, correlation, commit }
}

fn reply((tenant, route, key, status, body): (Uuid, String, String, i32, Vec<u8>)) -> Reply {
    Reply { tenant, route, key, status, body }
}
