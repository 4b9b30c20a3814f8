//! The storage contract: read keys, scan a range, check reads, commit a batch, page a log. Two backends keep it, with the
//! same file names and one suite of tests: an embedded `SQLite` file and `PostgreSQL`.
//!
//! Commits are serial, also across processes: a committing batch takes the log's head first. That makes validation exact
//! and the sequences gapless and in commit order. Not here: retries, or any rule about what the data means.

macro_rules! on_backend {
    ($self:ident, $backend:ident => $call:expr) => {
        match $self {
            Storage::Sqlite($backend) => $call,
            Storage::Postgres($backend) => $call,
        }
    };
}

pub mod audit_tree;
pub mod known;
pub mod migrate;
pub mod pinned;
pub mod plan;
pub mod postgres;
pub mod snapshot;
pub mod sqlite;
pub mod whole;

mod gather;
mod log;
mod record;
mod search;
mod work;

use std::time::{Duration, Instant};

use tokio::time::timeout;

use jiff::Timestamp;

use crate::id::{BatchId, NodeId};
use crate::limit;
use crate::state::unit::{Read, ReplyKey, StoredReply, Unit, Verdict};
use crate::state::{Entry, Scan, StateKey, Version, Versioned};

use known::{Known, Recalled};
pub use postgres::PostgresStorage;
pub use sqlite::SqliteStorage;

/// A failure of the database. What happened to a commit is never left open, except in `CommitUnknown`.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The database cannot be reached or refused the statement; nothing happened.
    #[error("the database is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// The connection broke during COMMIT, and whether it happened is not known yet.
    #[error("the outcome of a commit is unknown")]
    CommitUnknown {
        /// What holds if it did happen, which [`Storage::last_batch`] tells.
        verdicts: Vec<Verdict>,
        /// What broke.
        source: sqlx::Error,
    },
    /// What is stored cannot be what this kernel wrote.
    #[error("table {table} is corrupt: {what}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// The database cannot be used as it is; the text says what to do.
    #[error("{0}")]
    Refused(String),
}

impl StorageError {
    /// The same failure for another of those who asked together.
    #[must_use]
    pub fn shared(&self) -> Self {
        match self {
            Self::Corrupt { table, what } => Self::Corrupt { table, what: what.clone() },
            Self::Refused(text) => Self::Refused(text.clone()),
            Self::Unavailable(cause) | Self::CommitUnknown { source: cause, .. } => {
                Self::Unavailable(sqlx::Error::Io(std::io::Error::other(cause.to_string())))
            }
        }
    }
}

impl From<sqlx::Error> for StorageError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(error)
    }
}

/// What the kernel needs of a database. Cheap to clone; clones share the connections.
#[derive(Clone, Debug)]
pub enum Storage {
    /// One file, one process.
    Sqlite(SqliteStorage),
    /// A server that several kernels share.
    Postgres(PostgresStorage),
}

impl Storage {
    /// Opens `sqlite://PATH` (created when missing) or `postgres://…`. Does not migrate.
    ///
    /// Refuses a database that could lose an acknowledged commit: `PostgreSQL` without `fsync` or `synchronous_commit`.
    pub async fn open(url: &str) -> Result<Self, StorageError> {
        match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("sqlite") => SqliteStorage::open(url).await.map(Self::Sqlite),
            Some("postgres" | "postgresql") => PostgresStorage::open(url).await.map(Self::Postgres),
            Some(_) | None => Err(StorageError::Refused(
                "DATABASE_URL must start with sqlite:// or postgres://, for example sqlite://.aibos/kernel.db".into(),
            )),
        }
    }

    /// The values of `keys`, in their order, in one snapshot.
    pub async fn read(&self, keys: &[StateKey]) -> Result<Vec<Option<Versioned>>, StorageError> {
        in_time(limit::ANSWER_TIMEOUT, async { on_backend!(self, backend => backend.read(keys).await) }).await
    }

    /// The same for a request among many: reads of few keys gather in common statements.
    pub async fn read_gathered(&self, keys: &[StateKey]) -> Result<Vec<Option<Versioned>>, StorageError> {
        if keys.len() > limit::GATHERED_KEYS_EACH_MAX {
            return self.read(keys).await;
        }
        in_time(limit::ANSWER_TIMEOUT, async { on_backend!(self, backend => backend.read_gathered(keys).await) }).await
    }

    /// The newest commit that every read sees which begins from now on, as far as this process knows.
    #[must_use]
    pub fn as_of(&self) -> Option<Version> {
        self.known().as_of()
    }

    /// What these keys hold, where this process knows it. Another process may have changed it: whoever rests on it has it
    /// checked at the end.
    #[must_use]
    pub fn recall(&self, keys: &[StateKey]) -> Vec<Option<Recalled>> {
        self.known().recall(keys)
    }

    /// Remembers what was read. `as_of` is what [`Storage::as_of`] said before the question was sent.
    pub fn learn(&self, as_of: Option<Version>, keys: &[StateKey], found: &[Option<Versioned>]) {
        self.known().learn(as_of, keys, found);
    }

    fn known(&self) -> &Known {
        on_backend!(self, backend => &backend.known)
    }

    /// The entries of a range in key order, in one snapshot.
    pub async fn scan(&self, scan: &Scan) -> Result<Vec<Entry>, StorageError> {
        in_time(limit::ANSWER_TIMEOUT, async { on_backend!(self, backend => backend.scan(scan).await) }).await
    }

    /// Every entry under a prefix in key order, page by page: each page is one snapshot, all of them together are not.
    pub async fn scan_all(&self, prefix: StateKey) -> Result<Vec<Entry>, StorageError> {
        let mut scan = Scan { space: prefix.space, prefix: prefix.key, after: None, limit: limit::STATE_PAGE_MAX };
        let mut entries = Vec::new();
        loop {
            let page = self.scan(&scan).await?;
            let full = page.len() >= limit::STATE_PAGE_MAX as usize;
            scan.after = page.last().map(|entry| entry.key.clone());
            entries.extend(page);
            if !full {
                return Ok(entries);
            }
        }
    }

    /// Whether everything that was read is still so, judged in one snapshot.
    pub async fn validate(&self, reads: &[Read]) -> Result<bool, StorageError> {
        in_time(limit::ANSWER_TIMEOUT, async { on_backend!(self, backend => backend.validate(reads).await) }).await
    }

    /// Commits units together, durably; a conflicting unit is left out and told so. Answers one verdict for each unit.
    pub async fn commit(&self, node: NodeId, batch: BatchId, units: &[Unit]) -> Result<Vec<Verdict>, StorageError> {
        let committed = on_backend!(self, backend => backend.commit(node, batch, units).await);
        // Should what is known ever be wrong, it is not wrong twice.
        if committed.is_err() {
            self.known().forget();
        }
        committed
    }

    /// The last batch that this node committed: answers the question that `CommitUnknown` leaves open.
    pub async fn last_batch(&self, node: NodeId) -> Result<Option<BatchId>, StorageError> {
        on_backend!(self, backend => backend.last_batch(node).await)
    }

    /// The stored reply of an idempotency key.
    pub async fn reply(&self, key: &ReplyKey) -> Result<Option<StoredReply>, StorageError> {
        in_time(limit::ANSWER_TIMEOUT, async { on_backend!(self, backend => backend.reply(key).await) }).await
    }

    /// Forgets a few stored replies that expired before a moment; answers how many. A commit that met one of them runs again
    /// and finds it gone, so sweeping needs no turn among the commits.
    pub async fn sweep_replies(&self, before: Timestamp) -> Result<u64, StorageError> {
        in_time(limit::COMMIT_TIMEOUT, async {
            on_backend!(self, backend => backend.sweep_replies(before.as_millisecond()).await)
        })
        .await
    }

    /// Answers when the database does.
    pub async fn ping(&self) -> Result<(), StorageError> {
        in_time(limit::PING_TIMEOUT, async { on_backend!(self, backend => backend.ping().await) }).await
    }

    /// Connections as (in use, idle).
    #[must_use]
    pub fn connections(&self) -> (u32, u32) {
        on_backend!(self, backend => backend.connections())
    }

    /// Waits until the connections are closed.
    pub async fn close(&self) {
        on_backend!(self, backend => backend.close().await);
    }
}

/// A read that is not answered in time failed: who asked is told, and its connection is given up.
async fn in_time<T>(
    limit: Duration,
    reading: impl Future<Output = Result<T, StorageError>>,
) -> Result<T, StorageError> {
    timeout(limit, reading).await.unwrap_or_else(|_| Err(work::timed_out().into()))
}

/// Runs a query and records how long it took under its name.
async fn measured<T>(query: &'static str, running: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let outcome = running.await;
    metrics::histogram!("db_query_duration_seconds", "query" => query).record(begun.elapsed());
    outcome
}
