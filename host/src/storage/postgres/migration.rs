//! One step of a migration, inside a database transaction that holds an advisory lock to its end.

use sqlx::PgConnection;

use super::PostgresStorage;
use super::commit::BEGIN;
use crate::storage::StorageError;
use crate::storage::migrate::{self, Applied, Direction, Step};
use crate::storage::work::Work;

/// The number is the word "aibos" as ASCII. A migration may take its time.
const LOCK: &str = "set local statement_timeout = 0; select pg_advisory_xact_lock(418379886451)";

const CREATE: &str = "create table if not exists migration (
    number bigint not null primary key,
    name text not null,
    checksum bytea not null,
    applied_at bigint not null
)";

const EXISTS: &str = "select to_regclass('migration') is not null";

/// Before the audit log is found empty: nobody may write to it between that and its end.
const LOCK_AUDIT: &str = "lock table audit in access exclusive mode";

impl PostgresStorage {
    /// What the database says has been applied, in order.
    pub(in crate::storage) async fn applied(&self) -> Result<Vec<Applied>, StorageError> {
        let exists: bool = sqlx::query_scalar(EXISTS).fetch_one(&self.readers).await?;
        if !exists {
            return Ok(Vec::new());
        }
        Ok(sqlx::query_as(migrate::APPLIED).fetch_all(&self.readers).await?)
    }

    /// Runs the next step in a direction, if there is one.
    pub(in crate::storage) async fn migrate_step(&self, direction: Direction) -> Result<Option<Step>, StorageError> {
        let mut work = Work::begin(&self.writer, BEGIN).await?;
        match run(work.connection(), direction).await {
            Ok(Some(step)) => {
                work.commit().await?;
                Ok(Some(step))
            }
            other => {
                work.rollback().await;
                other
            }
        }
    }
}

async fn run(connection: &mut PgConnection, direction: Direction) -> Result<Option<Step>, StorageError> {
    sqlx::raw_sql(LOCK).execute(&mut *connection).await?;
    sqlx::raw_sql(CREATE).execute(&mut *connection).await?;
    let applied: Vec<Applied> = sqlx::query_as(migrate::APPLIED).fetch_all(&mut *connection).await?;
    let Some(step) = direction.next(migrate::POSTGRES, &applied)? else {
        return Ok(None);
    };
    if step.drops_audit() {
        sqlx::raw_sql(LOCK_AUDIT).execute(&mut *connection).await?;
        if sqlx::query_scalar(migrate::AUDIT_HAS_ENTRIES).fetch_one(&mut *connection).await? {
            return Err(migrate::audit_kept());
        }
    }
    sqlx::raw_sql(step.sql()).execute(&mut *connection).await.map_err(|error| step.refused(error))?;
    let script = step.script;
    let query = match step.direction {
        Direction::Up(now) => sqlx::query(migrate::RECORD)
            .bind(script.number)
            .bind(script.name)
            .bind(script.checksum())
            .bind(now.as_millisecond()),
        Direction::Down => sqlx::query(migrate::FORGET).bind(script.number),
    };
    query.execute(connection).await?;
    Ok(Some(step))
}
