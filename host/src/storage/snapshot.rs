//! One state of the database, held for as long as somebody reads it. For a call that kept meeting changes of others between
//! its reads: what it reads here belongs together, so it needs no check. It holds a connection until it is ended, so it is the
//! exception.

use sqlx::pool::PoolConnection;
use sqlx::{Postgres, Sqlite};
use tokio::sync::Mutex;

use super::work::Work;
use super::{Storage, StorageError, in_time, postgres, sqlite};
use crate::limit;
use crate::state::{Entry, Scan, StateKey, Versioned};

/// A state of the database.
pub struct Snapshot {
    /// None once it has ended.
    pinned: Mutex<Option<Pinned>>,
}

enum Pinned {
    Sqlite(Work<PoolConnection<Sqlite>>),
    Postgres(Work<PoolConnection<Postgres>>),
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Snapshot")
    }
}

impl Storage {
    /// Holds the state as it is at the first read.
    pub async fn snapshot(&self) -> Result<Snapshot, StorageError> {
        let pinned = match self {
            Self::Sqlite(backend) => Pinned::Sqlite(Work::begin(&backend.readers, "begin deferred").await?),
            Self::Postgres(backend) => {
                let begin = "begin isolation level repeatable read read only";
                Pinned::Postgres(Work::begin(&backend.readers, begin).await?)
            }
        };
        Ok(Snapshot { pinned: Mutex::new(Some(pinned)) })
    }
}

impl Snapshot {
    /// The values of `keys`, in their order.
    pub async fn read(&self, keys: &[StateKey]) -> Result<Vec<Option<Versioned>>, StorageError> {
        let wait = limit::ANSWER_TIMEOUT;
        match &mut *self.pinned.lock().await {
            Some(Pinned::Sqlite(work)) => in_time(wait, sqlite::read::read(work.connection(), keys)).await,
            Some(Pinned::Postgres(work)) => in_time(wait, postgres::read::read(work.connection(), keys)).await,
            None => Err(ended()),
        }
    }

    /// The entries of a range in key order.
    pub async fn scan(&self, scan: &Scan) -> Result<Vec<Entry>, StorageError> {
        let wait = limit::ANSWER_TIMEOUT;
        match &mut *self.pinned.lock().await {
            Some(Pinned::Sqlite(work)) => in_time(wait, sqlite::read::scan(work.connection(), scan)).await,
            Some(Pinned::Postgres(work)) => in_time(wait, postgres::read::scan(work.connection(), scan)).await,
            None => Err(ended()),
        }
    }

    /// Gives the connection back. Dropped without it, the connection is closed: a new one costs a server a process.
    pub async fn end(&self) {
        match self.pinned.lock().await.take() {
            Some(Pinned::Sqlite(work)) => work.rollback().await,
            Some(Pinned::Postgres(work)) => work.rollback().await,
            None => {}
        }
    }
}

fn ended() -> StorageError {
    StorageError::Refused("a state of the database was read after it had been given back".into())
}
