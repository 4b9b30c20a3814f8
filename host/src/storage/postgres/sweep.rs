//! Forgets what has expired, a few rows at a time. The head's lock is not taken, so commits go on meanwhile; rows that
//! another kernel sweeps are left to it.

use super::PostgresStorage;
use crate::limit;
use crate::storage::work::Work;
use crate::storage::{StorageError, measured};

const SWEEP: &str = "delete from idempotency where ctid = any(array(
    select ctid from idempotency where expires_at < $1 order by expires_at limit $2 for update skip locked))";

impl PostgresStorage {
    /// See [`crate::storage::Storage::sweep_replies`].
    pub async fn sweep_replies(&self, before_ms: i64) -> Result<u64, StorageError> {
        // Of the two writing connections at most one commits.
        let sweep = sqlx::query(SWEEP).bind(before_ms).bind(limit::SWEEP_ROWS_MAX);
        let run = Work::alone(&self.writer, async |connection| sweep.execute(connection).await);
        Ok(measured("sweep_replies", run).await?.rows_affected())
    }
}
