//! The answers to a batch's questions. Many keys go into one statement as arrays.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::id::TenantId;
use crate::state::unit::ReplyKey;
use crate::state::{Scan, StateKey, Version};
use crate::storage::plan::{Answers, Questions};
use crate::storage::record;

/// Versions of keys and of the keys in ranges, in one statement and so in one snapshot. Column `scan` is 0 for a single
/// key, whose place is then in `position`, and otherwise the place of the range, counted from 1.
const VERSIONS: &str = r#"
select 0::bigint as scan, wanted.position as position, '' collate "C" as key, state.version as version
from unnest($1::uuid[], $2::text[], $3::text[]) with ordinality as wanted (tenant, space, key, position)
join state on state.tenant = wanted.tenant and state.space = wanted.space and state.key = wanted.key
union all
select wanted.position, 0, found.key, found.version
from unnest($4::uuid[], $5::text[], $6::text[], $7::text[], $8::bigint[])
    with ordinality as wanted (tenant, space, lower, upper, size, position)
cross join lateral (
    select state.key, state.version from state
    where state.tenant = wanted.tenant and state.space = wanted.space
        and state.key >= wanted.lower and state.key < wanted.upper
    order by state.key limit wanted.size
) as found
order by scan, key"#;

const COUNTERS: &str = "select wanted.position, state.value, state.version
    from unnest($1::uuid[], $2::text[], $3::text[]) with ordinality as wanted (tenant, space, key, position)
    join state on state.tenant = wanted.tenant and state.space = wanted.space and state.key = wanted.key";

const REPLIES: &str = "select wanted.position
    from unnest($1::uuid[], $2::text[], $3::text[], $4::text[])
        with ordinality as wanted (tenant, principal, route, key, position)
    join idempotency as reply on reply.tenant = wanted.tenant and reply.principal = wanted.principal
        and reply.route = wanted.route and reply.idempotency_key = wanted.key";

const EVENTS: &str = "select wanted.position
    from unnest($1::uuid[], $2::text[], $3::text[]) with ordinality as wanted (tenant, source, id, position)
    join event on event.tenant = wanted.tenant and event.source = wanted.source and event.id = wanted.id";

const TENANTS: &str = "select tenant, sequence from tenant_sequence where tenant = any($1)";

/// Looks everything up. The caller holds the head's lock, so what separate statements see cannot change between them.
pub(super) async fn answer<'a>(
    connection: &mut PgConnection,
    questions: &Questions<'a>,
) -> Result<Answers<'a>, sqlx::Error> {
    let (versions, ranges) = versions(&mut *connection, questions).await?;
    Ok(Answers {
        versions,
        counters: counters(&mut *connection, &questions.counters).await?,
        ranges,
        replies: replies(&mut *connection, &questions.replies).await?,
        events: events(&mut *connection, &questions.events).await?,
        tenants: tenants(connection, &questions.tenants).await?,
    })
}

/// Keys as three columns.
pub(super) struct KeyColumns<'a> {
    pub(super) tenants: Vec<Uuid>,
    pub(super) spaces: Vec<&'a str>,
    pub(super) keys: Vec<&'a str>,
}

impl<'a> KeyColumns<'a> {
    pub(super) fn new(keys: impl IntoIterator<Item = &'a StateKey>) -> Self {
        let mut columns = Self { tenants: Vec::new(), spaces: Vec::new(), keys: Vec::new() };
        for key in keys {
            columns.tenants.push(key.space.tenant.0);
            columns.spaces.push(&key.space.name);
            columns.keys.push(&key.key);
        }
        columns
    }
}

/// One value of each row.
pub(super) fn column<'a, T, V>(rows: &'a [T], value: impl Fn(&'a T) -> V) -> Vec<V> {
    rows.iter().map(value).collect()
}

/// What stands at a position that a statement names, counted from 1.
fn at<T>(items: &[T], position: i64) -> Option<&T> {
    usize::try_from(position - 1).ok().and_then(|position| items.get(position))
}

/// The versions and ranges among the questions: one statement, so it is exact without a database transaction too.
pub(super) async fn versions<'a>(
    connection: impl PgExecutor<'_>,
    questions: &Questions<'a>,
) -> Result<(HashMap<&'a StateKey, Version>, Vec<Vec<(String, Version)>>), sqlx::Error> {
    let mut versions = HashMap::new();
    let mut ranges = vec![Vec::new(); questions.ranges.len()];
    if questions.versions.is_empty() && ranges.is_empty() {
        return Ok((versions, ranges));
    }
    let keys: Vec<&StateKey> = questions.versions.iter().copied().collect();
    let wanted = KeyColumns::new(keys.iter().copied());
    let scans: &[&Scan] = &questions.ranges;
    let (lower, upper): (Vec<String>, Vec<String>) = scans.iter().map(|scan| record::bounds(scan)).unzip();
    let rows: Vec<(i64, i64, String, Version)> = sqlx::query_as(VERSIONS)
        .bind(wanted.tenants)
        .bind(wanted.spaces)
        .bind(wanted.keys)
        .bind(column(scans, |scan| scan.space.tenant.0))
        .bind(column(scans, |scan| &*scan.space.name))
        .bind(lower)
        .bind(upper)
        .bind(column(scans, |scan| i64::from(scan.limit)))
        .fetch_all(connection)
        .await?;
    for (scan, position, key, version) in rows {
        if scan == 0 {
            versions.extend(at(&keys, position).map(|key| (*key, version)));
        } else if let Some(range) = usize::try_from(scan - 1).ok().and_then(|scan| ranges.get_mut(scan)) {
            range.push((key, version));
        }
    }
    Ok((versions, ranges))
}

pub(super) async fn counters<'a>(
    connection: impl PgExecutor<'_>,
    wanted: &BTreeSet<&'a StateKey>,
) -> Result<HashMap<&'a StateKey, (Bytes, Version)>, sqlx::Error> {
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let keys: Vec<&StateKey> = wanted.iter().copied().collect();
    let columns = KeyColumns::new(keys.iter().copied());
    let rows: Vec<(i64, Vec<u8>, Version)> = sqlx::query_as(COUNTERS)
        .bind(columns.tenants)
        .bind(columns.spaces)
        .bind(columns.keys)
        .fetch_all(connection)
        .await?;
    Ok(rows
        .into_iter()
        .filter_map(|(position, value, version)| at(&keys, position).map(|key| (*key, (Bytes::from(value), version))))
        .collect())
}

async fn replies<'a>(
    connection: impl PgExecutor<'_>,
    wanted: &[&'a ReplyKey],
) -> Result<HashSet<&'a ReplyKey>, sqlx::Error> {
    if wanted.is_empty() {
        return Ok(HashSet::new());
    }
    let found: Vec<i64> = sqlx::query_scalar(REPLIES)
        .bind(column(wanted, |key| key.tenant.0))
        .bind(column(wanted, |key| key.principal.as_str()))
        .bind(column(wanted, |key| key.route.as_str()))
        .bind(column(wanted, |key| key.key.as_str()))
        .fetch_all(connection)
        .await?;
    Ok(found.into_iter().filter_map(|position| at(wanted, position)).copied().collect())
}

async fn events<'a>(
    connection: impl PgExecutor<'_>,
    wanted: &[(TenantId, &'a str, &'a str)],
) -> Result<HashSet<(TenantId, &'a str, &'a str)>, sqlx::Error> {
    if wanted.is_empty() {
        return Ok(HashSet::new());
    }
    let found: Vec<i64> = sqlx::query_scalar(EVENTS)
        .bind(column(wanted, |(tenant, _, _)| tenant.0))
        .bind(column(wanted, |(_, source, _)| *source))
        .bind(column(wanted, |(_, _, id)| *id))
        .fetch_all(connection)
        .await?;
    Ok(found.into_iter().filter_map(|position| at(wanted, position)).copied().collect())
}

async fn tenants(
    connection: impl PgExecutor<'_>,
    wanted: &BTreeSet<TenantId>,
) -> Result<HashMap<TenantId, i64>, sqlx::Error> {
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let tenants: Vec<Uuid> = wanted.iter().map(|tenant| tenant.0).collect();
    let rows: Vec<(Uuid, i64)> = sqlx::query_as(TENANTS).bind(tenants).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(tenant, sequence)| (TenantId(tenant), sequence)).collect())
}
