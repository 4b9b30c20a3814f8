//! Reads of state. Each is one statement, and so one snapshot, without a database transaction that a dropped request could
//! leave open.

use std::sync::{Arc, Mutex, PoisonError};

use sqlx::pool::PoolConnection;
use sqlx::{PgExecutor, PgPool, Postgres};

use super::PostgresStorage;
use super::answer::{KeyColumns, column, counters, versions};
use crate::limit;
use crate::state::unit::{Read, ReplyKey, StoredReply};
use crate::state::{Entry, Scan, StateKey, Version, Versioned};
use crate::storage::plan::{Answers, Questions};
use crate::storage::record::{self, EntryRow};
use crate::storage::{StorageError, measured};

const READ: &str = "select state.value, state.version
    from unnest($1::uuid[], $2::text[], $3::text[]) with ordinality as wanted (tenant, space, key, position)
    left join state on state.tenant = wanted.tenant and state.space = wanted.space and state.key = wanted.key
    order by wanted.position";

const REPLIES: &str = "select wanted.position, reply.fingerprint, reply.status, reply.headers, reply.body,
        reply.created_at, reply.expires_at
    from unnest($1::uuid[], $2::text[], $3::text[], $4::text[])
        with ordinality as wanted (tenant, principal, route, idempotency_key, position)
    join idempotency as reply on reply.tenant = wanted.tenant and reply.principal = wanted.principal
        and reply.route = wanted.route and reply.idempotency_key = wanted.idempotency_key";

impl PostgresStorage {
    /// See [`crate::storage::Storage::read`].
    pub async fn read(&self, keys: &[StateKey]) -> Result<Vec<Option<Versioned>>, StorageError> {
        read(&self.readers, keys).await
    }

    /// See [`crate::storage::Storage::read_gathered`].
    pub async fn read_gathered(&self, keys: &[StateKey]) -> Result<Vec<Option<Versioned>>, StorageError> {
        let seat = Seat::new(&self.readers);
        let together = move |keys: Vec<StateKey>| {
            let seat = seat.clone();
            async move {
                let mut connection = seat.take().await?;
                let found = read(&mut *connection, &keys).await?;
                seat.keep(connection);
                Ok(found)
            }
        };
        self.gathered.read(keys, together).await
    }

    /// See [`crate::storage::Storage::scan`].
    pub async fn scan(&self, wanted: &Scan) -> Result<Vec<Entry>, StorageError> {
        scan(&self.readers, wanted).await
    }

    /// See [`crate::storage::Storage::validate`].
    pub async fn validate(&self, reads: &[Read]) -> Result<bool, StorageError> {
        if reads.is_empty() {
            return Ok(true);
        }
        let questions = Questions::of_reads(reads);
        let (versions, ranges) = measured("validate", versions(&self.readers, &questions)).await?;
        // A moment later than the rest: nothing is written on the strength of a promise that is judged here.
        let counters = counters(&self.readers, &questions.counters).await?;
        Ok(Answers { versions, counters, ranges, ..Answers::default() }.confirm(reads))
    }

    /// See [`crate::storage::Storage::reply`].
    pub async fn reply(&self, key: &ReplyKey) -> Result<Option<StoredReply>, StorageError> {
        let seat = Seat::new(&self.readers);
        let together = move |keys: Vec<ReplyKey>| {
            let seat = seat.clone();
            async move {
                let mut connection = seat.take().await?;
                let query = sqlx::query_as(REPLIES)
                    .bind(column(&keys, |key| key.tenant.0))
                    .bind(column(&keys, |key| key.principal.as_str()))
                    .bind(column(&keys, |key| key.route.as_str()))
                    .bind(column(&keys, |key| key.key.as_str()))
                    .fetch_all(&mut *connection);
                let found = measured("reply", query).await?;
                seat.keep(connection);
                Ok(record::replies_in_order(keys.len(), 1, found))
            }
        };
        let row = self.gathered.replies.ask(key.clone(), together).await?;
        row.map(|row| record::reply(key, row)).transpose()
    }
}

/// The connection that those who ask one after the other keep: on its way back to the pool each one is tried, which is a
/// further journey. After a failure none is kept.
#[derive(Clone)]
struct Seat {
    pool: PgPool,
    kept: Arc<Mutex<Option<PoolConnection<Postgres>>>>,
}

impl Seat {
    fn new(pool: &PgPool) -> Self {
        Self { pool: pool.clone(), kept: Arc::default() }
    }

    async fn take(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(kept) = kept { Ok(kept) } else { self.pool.acquire().await }
    }

    /// Keeps it while others find one in the pool, or room to open one.
    fn keep(&self, connection: PoolConnection<Postgres>) {
        if self.pool.num_idle() == 0 && self.pool.size() >= limit::POSTGRES_READERS_MAX {
            return;
        }
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
    }
}

/// Reads keys with one statement.
pub(in crate::storage) async fn read(
    executor: impl PgExecutor<'_>,
    keys: &[StateKey],
) -> Result<Vec<Option<Versioned>>, StorageError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let wanted = KeyColumns::new(keys);
    let query = sqlx::query_as(READ).bind(wanted.tenants).bind(wanted.spaces).bind(wanted.keys).fetch_all(executor);
    let rows: Vec<(Option<Vec<u8>>, Option<Version>)> = measured("read", query).await?;
    Ok(rows
        .into_iter()
        .map(|(value, version)| value.zip(version).map(|(value, version)| record::versioned(value, version)))
        .collect())
}

/// Reads a range with one statement.
pub(in crate::storage) async fn scan(executor: impl PgExecutor<'_>, scan: &Scan) -> Result<Vec<Entry>, StorageError> {
    let (lower, upper) = record::bounds(scan);
    let query = sqlx::query_as(record::SCAN)
        .bind(scan.space.tenant.0)
        .bind(&*scan.space.name)
        .bind(lower)
        .bind(upper)
        .bind(i64::from(scan.limit))
        .fetch_all(executor);
    let rows: Vec<EntryRow> = measured("scan", query).await?;
    Ok(rows.into_iter().map(record::entry).collect())
}
