//! The one connection that writes. It is in no pool: on its way back there it would be asked whether it still answers
//! (`return_to_pool` of sqlx), and the next commit would wait for that, a tenth of its own time. Where somebody was interrupted
//! in the middle of a statement or a database transaction, the next one opens another.

use std::sync::Arc;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Sqlite, SqliteConnection};
use tokio::sync::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard};
use tokio::time::timeout;

use crate::limit;
use crate::storage::work::{Lender, Lent};

/// Lends the writing connection to one after the other, in the order of asking. Clones share it.
#[derive(Clone, Debug)]
pub(in crate::storage) struct Writer {
    options: Arc<SqliteConnectOptions>,
    desk: Arc<Mutex<Desk>>,
}

/// Where the connection is while nobody has it.
#[derive(Debug, Default)]
struct Desk {
    kept: Option<Kept>,
    is_closed: bool,
}

#[derive(Debug)]
struct Kept {
    connection: SqliteConnection,
    /// Nobody was interrupted while he had it.
    is_fit: bool,
}

/// The writing connection, until it is dropped.
#[derive(Debug)]
pub(in crate::storage) struct Writing(OwnedMappedMutexGuard<Desk, Kept>);

impl Writer {
    /// Opens a connection when it is asked for.
    pub(super) fn new(options: SqliteConnectOptions) -> Self {
        Self { options: Arc::new(options), desk: Arc::default() }
    }

    /// Lends nothing.
    pub(in crate::storage) fn closed(options: SqliteConnectOptions) -> Self {
        Self { options: Arc::new(options), desk: Arc::new(Mutex::new(Desk { kept: None, is_closed: true })) }
    }

    /// Connections as (in use, idle).
    pub(super) fn connections(&self) -> (u32, u32) {
        self.desk.try_lock().map_or((1, 0), |desk| (0, u32::from(desk.kept.is_some())))
    }

    /// Closes it, once whoever has it is done.
    pub(super) async fn close(&self) {
        let mut desk = self.desk.lock().await;
        desk.is_closed = true;
        if let Some(Kept { connection, .. }) = desk.kept.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the database file was not closed well; the next start mends it");
        }
    }
}

impl Lender for Writer {
    type Lent = Writing;

    /// Waits for its turn.
    async fn lend(&self) -> Result<Writing, sqlx::Error> {
        let turn = timeout(limit::CONNECTION_TIMEOUT, Arc::clone(&self.desk).lock_owned());
        let mut desk = turn.await.map_err(|_| sqlx::Error::PoolTimedOut)?;
        if desk.is_closed {
            return Err(sqlx::Error::PoolClosed);
        }
        let connection = match desk.kept.take() {
            Some(Kept { connection, is_fit: true }) => connection,
            unfit => {
                // Its end rolls back, for which the new one waits when it wants the file's lock.
                drop(unfit);
                self.options.connect().await?
            }
        };
        Ok(Writing(OwnedMutexGuard::map(desk, |desk| desk.kept.insert(Kept { connection, is_fit: false }))))
    }
}

impl Lent for Writing {
    type Database = Sqlite;

    fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.0.connection
    }

    fn give_back(&mut self, is_fit: bool) {
        self.0.is_fit = is_fit;
    }
}

#[cfg(test)]
mod tests;
