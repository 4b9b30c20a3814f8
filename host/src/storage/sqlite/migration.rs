//! One step of a migration, inside a database transaction that holds the file's write lock from its beginning.

use sqlx::SqliteConnection;

use super::SqliteStorage;
use super::commit::BEGIN;
use crate::storage::StorageError;
use crate::storage::migrate::{self, Applied, Direction, Step};
use crate::storage::work::Work;

const CREATE: &str = "create table if not exists migration (
    number integer not null primary key,
    name text not null,
    checksum blob not null,
    applied_at integer not null
) strict";

const EXISTS: &str = "select exists (select 1 from sqlite_master where type = 'table' and name = 'migration')";

impl SqliteStorage {
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

async fn run(connection: &mut SqliteConnection, direction: Direction) -> Result<Option<Step>, StorageError> {
    sqlx::raw_sql(CREATE).execute(&mut *connection).await?;
    let applied: Vec<Applied> = sqlx::query_as(migrate::APPLIED).fetch_all(&mut *connection).await?;
    let Some(step) = direction.next(migrate::SQLITE, &applied)? else {
        return Ok(None);
    };
    if step.drops_audit() && sqlx::query_scalar(migrate::AUDIT_HAS_ENTRIES).fetch_one(&mut *connection).await? {
        return Err(migrate::audit_kept());
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
