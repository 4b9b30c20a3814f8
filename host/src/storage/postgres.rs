//! The server that several kernels share. One or two connections commit, the others only read, so that a crowd of readers
//! never keeps a commit waiting. A server that could lose an acknowledged commit is refused.

mod answer;
mod commit;
mod migration;
pub(super) mod read;
mod search;
mod sweep;

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgPool};

use super::gather::Gathered;
use super::known::Known;
use super::{StorageError, measured, record};
use crate::limit;

/// One commit at a time, and one more connection for a migration or while a broken one is being replaced.
const WRITERS_MAX: u32 = 2;

/// Idle for so long, a connection is tried before it is used; the server may have been restarted.
const FRESH: Duration = Duration::from_secs(1);

const SETTINGS: &str = "select name, setting from pg_settings
    where name in ('fsync', 'server_encoding', 'synchronous_commit')";

/// A connected server.
#[derive(Clone, Debug)]
pub struct PostgresStorage {
    pub(super) writer: PgPool,
    pub(super) readers: PgPool,
    pub(super) gathered: Gathered,
    pub(super) known: Arc<Known>,
}

impl PostgresStorage {
    /// Connects to `postgres://…`.
    pub async fn open(url: &str) -> Result<Self, StorageError> {
        let options: PgConnectOptions = url.parse().map_err(|error| {
            StorageError::Refused(format!(
                "DATABASE_URL is not understood ({error}); it should look like postgres://user:password@host/database"
            ))
        })?;
        let options = options.application_name("aibos").options(settings());
        let writer = pool(WRITERS_MAX).connect_with(options.clone()).await?;
        check_settings(&writer).await?;
        let readers = pool(limit::POSTGRES_READERS_MAX).connect_lazy_with(options);
        Ok(Self { writer, readers, gathered: Gathered::new(), known: Arc::default() })
    }

    /// Answers when the database does.
    pub async fn ping(&self) -> Result<(), StorageError> {
        measured("ping", sqlx::query(record::PING).execute(&self.readers)).await?;
        Ok(())
    }

    /// Connections as (in use, idle).
    #[must_use]
    pub fn connections(&self) -> (u32, u32) {
        let all = self.writer.size() + self.readers.size();
        // The pool raises its two counts one after the other.
        let idle = u32::try_from(self.writer.num_idle() + self.readers.num_idle()).map_or(all, |idle| idle.min(all));
        (all - idle, idle)
    }

    /// Waits until the connections are closed.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Settings of each session. Every statement here is served by an index; a plan that was made while a table was nearly
/// empty must not read the whole table once it has grown, so the planner is told to prefer indexes and loops over them.
#[doc(hidden)]
#[must_use]
pub fn settings() -> [(&'static str, String); 9] {
    [
        ("statement_timeout", format!("{}ms", limit::STATEMENT_TIMEOUT.as_millis())),
        ("idle_in_transaction_session_timeout", format!("{}ms", limit::SILENT_COMMIT_TIMEOUT.as_millis())),
        ("enable_seqscan", "off".into()),
        // It loses the order, so that a page would be cut from everything that is found, sorted.
        ("enable_bitmapscan", "off".into()),
        ("enable_hashjoin", "off".into()),
        ("enable_mergejoin", "off".into()),
        // An index whose rows lie apart is no worse: one that is in the order of the table but answers something else is.
        ("random_page_cost", "1".into()),
        // Planned once for each connection: planning the look-ups of a small batch costs more than running them.
        ("plan_cache_mode", "force_generic_plan".into()),
        // The cost of a discouraged plan would otherwise start the compiler.
        ("jit", "off".into()),
    ]
}

fn pool(connections_max: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(limit::CONNECTION_TIMEOUT)
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > FRESH {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
}

async fn check_settings(pool: &PgPool) -> Result<(), StorageError> {
    let settings: Vec<(String, String)> = sqlx::query_as(SETTINGS).fetch_all(pool).await?;
    for (name, setting) in settings {
        let remedy = match (name.as_str(), setting.as_str()) {
            ("fsync", "off") => "set `fsync = on` in postgresql.conf and reload the server",
            ("synchronous_commit", "off") => {
                "set `synchronous_commit = on` in postgresql.conf, and for this role and database where they override it"
            }
            ("server_encoding", encoding) if encoding != "UTF8" => "create the database with `ENCODING 'UTF8'`",
            _ => continue,
        };
        return Err(StorageError::Refused(format!(
            "PostgreSQL runs with {name} = {setting}, under which the kernel cannot keep its books: {remedy}"
        )));
    }
    Ok(())
}
