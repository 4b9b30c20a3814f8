//! Reads of state. Each is one statement, and so one snapshot; only a check of several lists, or of a list and
//! keys, needs a database transaction.

use sqlx::SqliteExecutor;

use super::SqliteStorage;
use super::answer::{answer, key_array, reply_array};
use crate::state::unit::{Read, ReplyKey, StoredReply};
use crate::state::{Entry, Scan, StateKey, Version, Versioned};
use crate::storage::plan::Questions;
use crate::storage::record::{self, EntryRow};
use crate::storage::work::Work;
use crate::storage::{StorageError, measured};

const READ: &str = "select state.value, state.version from json_each($1) as wanted left join state
    on state.tenant = unhex(wanted.value ->> 0) and state.space = wanted.value ->> 1 and state.key = wanted.value ->> 2
    order by wanted.key";

const REPLIES: &str = "select wanted.key, fingerprint, status, headers, body, created_at, expires_at
    from json_each($1) as wanted cross join idempotency as reply
    on reply.tenant = unhex(wanted.value ->> 0) and reply.principal = wanted.value ->> 1
        and reply.route = wanted.value ->> 2 and reply.idempotency_key = wanted.value ->> 3";

impl SqliteStorage {
    /// See [`crate::storage::Storage::read`].
    pub async fn read(&self, keys: &[StateKey]) -> Result<Vec<Option<Versioned>>, StorageError> {
        read(&self.readers, keys).await
    }

    /// See [`crate::storage::Storage::read_gathered`].
    pub async fn read_gathered(&self, keys: &[StateKey]) -> Result<Vec<Option<Versioned>>, StorageError> {
        let readers = self.readers.clone();
        let together = move |keys: Vec<StateKey>| {
            let readers = readers.clone();
            async move { read(&readers, &keys).await }
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
        let keyed = [questions.versions.is_empty(), questions.counters.is_empty()];
        let statements = questions.ranges.len() + keyed.iter().filter(|empty| !**empty).count();
        let answers = if statements == 1 {
            let mut connection = self.readers.acquire().await?;
            measured("validate", answer(&mut connection, &questions)).await?
        } else {
            // The snapshot of a deferred transaction is that of its first statement.
            let mut work = Work::begin(&self.readers, "begin deferred").await?;
            let answers = measured("validate", answer(work.connection(), &questions)).await;
            work.rollback().await;
            answers?
        };
        Ok(answers.confirm(reads))
    }

    /// See [`crate::storage::Storage::reply`].
    pub async fn reply(&self, key: &ReplyKey) -> Result<Option<StoredReply>, StorageError> {
        let readers = self.readers.clone();
        let together = move |keys: Vec<ReplyKey>| {
            let readers = readers.clone();
            async move {
                let query = sqlx::query_as(REPLIES).bind(reply_array(&keys)).fetch_all(&readers);
                Ok(record::replies_in_order(keys.len(), 0, measured("reply", query).await?))
            }
        };
        let row = self.gathered.replies.ask(key.clone(), together).await?;
        row.map(|row| record::reply(key, row)).transpose()
    }
}

/// Reads keys with one statement.
pub(in crate::storage) async fn read(
    executor: impl SqliteExecutor<'_>,
    keys: &[StateKey],
) -> Result<Vec<Option<Versioned>>, StorageError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let query = sqlx::query_as(READ).bind(key_array(keys)).fetch_all(executor);
    let rows: Vec<(Option<Vec<u8>>, Option<Version>)> = measured("read", query).await?;
    Ok(rows
        .into_iter()
        .map(|(value, version)| value.zip(version).map(|(value, version)| record::versioned(value, version)))
        .collect())
}

/// Reads a range with one statement.
pub(in crate::storage) async fn scan(
    executor: impl SqliteExecutor<'_>,
    scan: &Scan,
) -> Result<Vec<Entry>, StorageError> {
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
