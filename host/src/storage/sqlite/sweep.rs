//! Forgets what has expired, a few rows at a time: the writing connection is one, and commits wait for it.

use super::SqliteStorage;
use crate::limit;
use crate::storage::work::Work;
use crate::storage::{StorageError, measured};

const SWEEP: &str = "delete from idempotency where (tenant, principal, route, idempotency_key) in
    (select tenant, principal, route, idempotency_key from idempotency where expires_at < $1
    order by expires_at limit $2)";

impl SqliteStorage {
    /// See [`crate::storage::Storage::sweep_replies`].
    pub async fn sweep_replies(&self, before_ms: i64) -> Result<u64, StorageError> {
        let sweep = sqlx::query(SWEEP).bind(before_ms).bind(limit::SWEEP_ROWS_MAX);
        let run = Work::alone(&self.writer, async |connection| sweep.execute(connection).await);
        Ok(measured("sweep_replies", run).await?.rows_affected())
    }
}
