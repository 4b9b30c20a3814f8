//! The answers to a batch's questions. Many keys go into one statement as a JSON array, which has no limit of bound values:
//! the counterpart of `unnest` on `PostgreSQL`.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use serde::Serialize;
use sqlx::{SqliteConnection, SqliteExecutor};

use crate::id::TenantId;
use crate::state::unit::ReplyKey;
use crate::state::{Scan, StateKey, Version};
use crate::storage::plan::{Answers, Questions};
use crate::storage::record;

// `cross join` keeps SQLite from turning the loops around: it goes through the array and finds each key by the index.
const VERSIONS: &str = "select wanted.key, state.version from json_each($1) as wanted cross join state
    on state.tenant = unhex(wanted.value ->> 0) and state.space = wanted.value ->> 1 and state.key = wanted.value ->> 2";

const COUNTERS: &str = "select wanted.key, state.value, state.version from json_each($1) as wanted cross join state
    on state.tenant = unhex(wanted.value ->> 0) and state.space = wanted.value ->> 1 and state.key = wanted.value ->> 2";

const RANGE: &str = "select key, version from state
    where tenant = $1 and space = $2 and key >= $3 and key < $4 order by key limit $5";

const REPLIES: &str = "select wanted.key from json_each($1) as wanted cross join idempotency as reply
    on reply.tenant = unhex(wanted.value ->> 0) and reply.principal = wanted.value ->> 1
        and reply.route = wanted.value ->> 2 and reply.idempotency_key = wanted.value ->> 3";

const EVENTS: &str = "select wanted.key from json_each($1) as wanted cross join event
    on event.tenant = unhex(wanted.value ->> 0) and event.source = wanted.value ->> 1 and event.id = wanted.value ->> 2";

const TENANTS: &str = "select wanted.key, tenant_sequence.sequence from json_each($1) as wanted
    cross join tenant_sequence on tenant_sequence.tenant = unhex(wanted.value)";

/// Looks everything up, on one connection: inside a database transaction it is one snapshot.
pub(super) async fn answer<'a>(
    connection: &mut SqliteConnection,
    questions: &Questions<'a>,
) -> Result<Answers<'a>, sqlx::Error> {
    let mut ranges = Vec::with_capacity(questions.ranges.len());
    for scan in &questions.ranges {
        ranges.push(range(&mut *connection, scan).await?);
    }
    Ok(Answers {
        versions: versions(&mut *connection, &questions.versions).await?,
        counters: counters(&mut *connection, &questions.counters).await?,
        ranges,
        replies: replies(&mut *connection, &questions.replies).await?,
        events: events(&mut *connection, &questions.events).await?,
        tenants: tenants(connection, &questions.tenants).await?,
    })
}

/// Keys as the statements here take them.
pub(super) fn key_array<'a>(keys: impl IntoIterator<Item = &'a StateKey>) -> String {
    array(keys.into_iter().map(|key| (hex(key.space.tenant), &*key.space.name, key.key.as_str())))
}

pub(super) fn reply_array<'a>(keys: impl IntoIterator<Item = &'a ReplyKey>) -> String {
    array(keys.into_iter().map(|key| (hex(key.tenant), &*key.principal, &*key.route, &*key.key)))
}

fn array<T: Serialize>(items: impl Iterator<Item = T>) -> String {
    // Serializing strings into memory has no way to fail.
    serde_json::to_string(&items.collect::<Vec<_>>()).unwrap_or_default()
}

fn hex(tenant: TenantId) -> String {
    tenant.0.simple().to_string()
}

/// What stands at a position that a statement names.
fn at<T>(items: &[T], position: i64) -> Option<&T> {
    usize::try_from(position).ok().and_then(|position| items.get(position))
}

async fn versions<'a>(
    connection: impl SqliteExecutor<'_>,
    wanted: &BTreeSet<&'a StateKey>,
) -> Result<HashMap<&'a StateKey, Version>, sqlx::Error> {
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let keys: Vec<_> = wanted.iter().copied().collect();
    let rows: Vec<(i64, Version)> =
        sqlx::query_as(VERSIONS).bind(key_array(keys.iter().copied())).fetch_all(connection).await?;
    Ok(rows.into_iter().filter_map(|(position, version)| at(&keys, position).map(|key| (*key, version))).collect())
}

async fn counters<'a>(
    connection: impl SqliteExecutor<'_>,
    wanted: &BTreeSet<&'a StateKey>,
) -> Result<HashMap<&'a StateKey, (Bytes, Version)>, sqlx::Error> {
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let keys: Vec<_> = wanted.iter().copied().collect();
    let rows: Vec<(i64, Vec<u8>, Version)> =
        sqlx::query_as(COUNTERS).bind(key_array(keys.iter().copied())).fetch_all(connection).await?;
    Ok(rows
        .into_iter()
        .filter_map(|(position, value, version)| at(&keys, position).map(|key| (*key, (Bytes::from(value), version))))
        .collect())
}

async fn range(connection: impl SqliteExecutor<'_>, scan: &Scan) -> Result<Vec<(String, Version)>, sqlx::Error> {
    let (lower, upper) = record::bounds(scan);
    sqlx::query_as(RANGE)
        .bind(scan.space.tenant.0)
        .bind(&*scan.space.name)
        .bind(lower)
        .bind(upper)
        .bind(i64::from(scan.limit))
        .fetch_all(connection)
        .await
}

async fn replies<'a>(
    connection: impl SqliteExecutor<'_>,
    wanted: &[&'a ReplyKey],
) -> Result<HashSet<&'a ReplyKey>, sqlx::Error> {
    if wanted.is_empty() {
        return Ok(HashSet::new());
    }
    let keys = reply_array(wanted.iter().copied());
    let found: Vec<i64> = sqlx::query_scalar(REPLIES).bind(keys).fetch_all(connection).await?;
    Ok(found.into_iter().filter_map(|position| at(wanted, position)).copied().collect())
}

async fn events<'a>(
    connection: impl SqliteExecutor<'_>,
    wanted: &[(TenantId, &'a str, &'a str)],
) -> Result<HashSet<(TenantId, &'a str, &'a str)>, sqlx::Error> {
    if wanted.is_empty() {
        return Ok(HashSet::new());
    }
    let keys = array(wanted.iter().map(|(tenant, source, id)| (hex(*tenant), *source, *id)));
    let found: Vec<i64> = sqlx::query_scalar(EVENTS).bind(keys).fetch_all(connection).await?;
    Ok(found.into_iter().filter_map(|position| at(wanted, position)).copied().collect())
}

async fn tenants(
    connection: impl SqliteExecutor<'_>,
    wanted: &BTreeSet<TenantId>,
) -> Result<HashMap<TenantId, i64>, sqlx::Error> {
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let keys: Vec<_> = wanted.iter().copied().collect();
    let rows: Vec<(i64, i64)> =
        sqlx::query_as(TENANTS).bind(array(keys.iter().map(|tenant| hex(*tenant)))).fetch_all(connection).await?;
    Ok(rows
        .into_iter()
        .filter_map(|(position, sequence)| at(&keys, position).map(|tenant| (*tenant, sequence)))
        .collect())
}
