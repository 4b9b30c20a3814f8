//! A storage whose every read sees one and the same state, for who checks all of it while kernels go on writing. It has one
//! connection, which begins a reading transaction when it is made and keeps it to the end; a second connection would see
//! another state, so it is refused. It takes no lock that a kernel holds, and nothing can be written through it.
//!
//! While it is open, the database keeps what is superseded: `SQLite`'s log grows, and `PostgreSQL` cleans nothing up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{Executor, Pool, pool::PoolOptions};

use super::{PostgresStorage, SqliteStorage, Storage, StorageError, postgres, record, sqlite};
use crate::limit;

impl Storage {
    /// Opens a database as it is now, beside the kernels that use it.
    pub async fn open_pinned(url: &str) -> Result<Self, StorageError> {
        if url.starts_with("sqlite:") {
            let path = sqlite::path(url)?;
            if !path.is_file() {
                return Err(StorageError::Refused(format!("there is no database at {}", path.display())));
            }
            let options = SqliteConnectOptions::new()
                .filename(&path)
                .create_if_missing(false)
                .pragma("query_only", "on")
                .busy_timeout(limit::CONNECTION_TIMEOUT);
            let writer = sqlite::writer::Writer::closed(options.clone());
            return Ok(Self::Sqlite(SqliteStorage {
                writer,
                readers: pinned(SqlitePoolOptions::new(), "begin deferred").connect_with(options).await?,
                gathered: super::gather::Gathered::new(),
                known: Arc::default(),
                lock: None,
            }));
        }
        let options: PgConnectOptions = url.parse().map_err(|error| {
            StorageError::Refused(format!("DATABASE_URL must be sqlite://PATH or postgres://… ({error})"))
        })?;
        let options = options.application_name("aibos verify").options(postgres::settings());
        let begin = "begin isolation level repeatable read read only";
        let pool: Pool<_> = pinned(PgPoolOptions::new(), begin).connect_with(options).await?;
        Ok(Self::Postgres(PostgresStorage {
            writer: pool.clone(),
            readers: pool,
            gathered: super::gather::Gathered::new(),
            known: Arc::default(),
        }))
    }
}

/// A pool that connects once; the first statement after BEGIN takes the snapshot.
fn pinned<DB>(options: PoolOptions<DB>, begin: &'static str) -> PoolOptions<DB>
where
    DB: sqlx::Database,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    let connected = Arc::new(AtomicBool::new(false));
    options
        .max_connections(1)
        .acquire_timeout(limit::CONNECTION_TIMEOUT)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .after_connect(move |connection, _| {
            let connected = Arc::clone(&connected);
            Box::pin(async move {
                if connected.swap(true, Ordering::SeqCst) {
                    return Err(sqlx::Error::Protocol("the connection that holds the snapshot was lost".into()));
                }
                connection.execute(sqlx::raw_sql(begin)).await?;
                connection.execute(sqlx::raw_sql(record::PING)).await?;
                Ok(())
            })
        })
}
