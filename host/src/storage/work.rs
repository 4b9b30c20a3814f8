//! A database transaction that cannot leak. sqlx 0.9.0 returns a connection to its pool in the middle of a transaction when
//! the future of `Pool::begin` is dropped (launchbadge/sqlx#4393), and an axum handler is dropped whenever a client hangs
//! up; the next user of that connection would work inside a stranger's transaction. Here the connection goes back only
//! after COMMIT or ROLLBACK has answered. In every other case, cancellation among them, it is closed, which rolls back.

use std::io;

use sqlx::pool::PoolConnection;
use sqlx::{Database, Executor, Pool};
use tokio::time::timeout;

use super::known::Known;
use super::plan::{Head, Plan};
use super::{StorageError, measured};
use crate::limit;
use crate::state::unit::Verdict;

/// Who has connections.
pub(super) trait Lender {
    type Lent: Lent;

    /// Waits for one.
    fn lend(&self) -> impl Future<Output = Result<Self::Lent, sqlx::Error>> + Send;
}

impl<DB: Database> Lender for Pool<DB> {
    type Lent = PoolConnection<DB>;

    fn lend(&self) -> impl Future<Output = Result<PoolConnection<DB>, sqlx::Error>> + Send {
        self.acquire()
    }
}

/// A connection that somebody else has next.
pub(super) trait Lent {
    /// Of this database.
    type Database: Database;

    fn connection(&mut self) -> &mut <Self::Database as Database>::Connection;

    /// Called before it is dropped. One that is not fit may be in the middle of something: it is closed.
    fn give_back(&mut self, is_fit: bool);
}

impl<DB: Database> Lent for PoolConnection<DB> {
    type Database = DB;

    fn connection(&mut self) -> &mut DB::Connection {
        self
    }

    fn give_back(&mut self, is_fit: bool) {
        if !is_fit {
            self.close_on_drop();
        }
    }
}

/// A connection inside a database transaction.
pub(super) struct Work<L: Lent> {
    lent: L,
    ended: bool,
}

impl<L: Lent> Work<L>
where
    for<'c> &'c mut <L::Database as Database>::Connection: Executor<'c, Database = L::Database>,
{
    /// Begins with the given statement.
    pub(super) async fn begin(lender: &impl Lender<Lent = L>, statement: &'static str) -> Result<Self, sqlx::Error> {
        let mut work = Self::on(lender).await?;
        let begin = sqlx::raw_sql(statement).execute(work.connection());
        timeout(limit::ANSWER_TIMEOUT, begin).await.map_err(|_| timed_out())??;
        Ok(work)
    }

    /// Runs one statement, which is a transaction of its own. After an error the connection is closed.
    pub(super) async fn alone<T>(
        lender: &impl Lender<Lent = L>,
        run: impl AsyncFnOnce(&mut <L::Database as Database>::Connection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let mut work = Self::on(lender).await?;
        let done = run(work.connection()).await?;
        work.ended = true;
        Ok(done)
    }

    async fn on(lender: &impl Lender<Lent = L>) -> Result<Self, sqlx::Error> {
        // In a box: opening a connection is rare, and everybody who waits for one would carry its state.
        Ok(Self { lent: Box::pin(lender.lend()).await?, ended: false })
    }

    pub(super) fn connection(&mut self) -> &mut <L::Database as Database>::Connection {
        self.lent.connection()
    }

    /// Commits a batch that was planned on `before` and written, and remembers it; rolls back one that changes nothing.
    pub(super) async fn end(
        self,
        known: &Known,
        before: Head,
        mut plan: Plan<'_>,
    ) -> Result<Vec<Verdict>, StorageError> {
        let verdicts = std::mem::take(&mut plan.verdicts);
        if plan.head == before {
            self.rollback().await;
            return Ok(verdicts);
        }
        match measured("commit_end", self.commit()).await {
            Ok(()) => {
                known.keep(before, plan);
                Ok(verdicts)
            }
            Err(source) => Err(StorageError::CommitUnknown { verdicts, source }),
        }
    }

    /// After an error it is open whether the commit happened.
    pub(super) async fn commit(mut self) -> Result<(), sqlx::Error> {
        let commit = sqlx::raw_sql("commit").execute(self.connection());
        timeout(limit::COMMIT_TIMEOUT, commit).await.map_err(|_| timed_out())??;
        self.ended = true;
        Ok(())
    }

    /// Ends the work without effect.
    pub(super) async fn rollback(mut self) {
        let rollback = sqlx::raw_sql("rollback").execute(self.connection());
        match timeout(limit::ANSWER_TIMEOUT, rollback).await.unwrap_or_else(|_| Err(timed_out())) {
            Ok(_) => self.ended = true,
            Err(error) => tracing::debug!(%error, "a rollback failed; its connection is closed instead"),
        }
    }
}

impl<L: Lent> Drop for Work<L> {
    fn drop(&mut self) {
        self.lent.give_back(self.ended);
    }
}

/// The error of a database that did not answer in time.
pub(super) fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(io::Error::from(io::ErrorKind::TimedOut))
}
