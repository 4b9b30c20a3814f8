//! A database of a test's own: a `SQLite` file in a temporary directory, or a new database on the `PostgreSQL` server that
//! `AIBOS_TEST_POSTGRES` names. It is removed when it is dropped, also when the test failed.

use std::path::PathBuf;
use std::{env, fs, thread};

use aibos::clock::Clock;
use aibos::id;
use aibos::storage::Storage;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// Which database a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The embedded database.
    Sqlite,
    /// The server.
    Postgres,
}

/// An empty database.
#[derive(Debug)]
pub struct Database {
    url: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Directory(PathBuf),
    Server { admin_url: String, name: String },
}

impl Database {
    /// A new, empty, unmigrated database.
    pub async fn fresh(backend: Backend) -> Self {
        let name = format!("aibos_test_{}", id::uuid(&Clock::System).simple());
        match backend {
            Backend::Sqlite => {
                let directory = env::temp_dir().join(name);
                Self { url: format!("sqlite://{}/kernel.db", directory.display()), place: Place::Directory(directory) }
            }
            Backend::Postgres => {
                let admin_url = postgres_url();
                run_on_server(&admin_url, format!("create database {name}")).await;
                Self { url: with_database(&admin_url, &name), place: Place::Server { admin_url, name } }
            }
        }
    }

    /// What `DATABASE_URL` would say.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Opens it.
    pub async fn open(&self) -> Storage {
        Storage::open(&self.url).await.expect("a fresh database opens")
    }

    /// Opens it with the kernel's schema.
    pub async fn open_migrated(&self) -> Storage {
        let storage = self.open().await;
        storage.migrate_up(Clock::System.now()).await.expect("a fresh database migrates");
        storage
    }

    /// Runs SQL behind the kernel's back, as an intruder or an operator would.
    pub async fn execute(&self, sql: &str) -> Result<(), sqlx::Error> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql));
        match &self.place {
            Place::Directory(_) => {
                let mut connection = sqlx::SqliteConnection::connect(&self.url).await?;
                sql.execute(&mut connection).await?;
                connection.close().await
            }
            Place::Server { .. } => {
                let mut connection = PgConnection::connect(&self.url).await?;
                sql.execute(&mut connection).await?;
                connection.close().await
            }
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        match &self.place {
            Place::Directory(directory) => {
                if directory.exists() {
                    fs::remove_dir_all(directory).expect("the test's directory can be removed");
                }
            }
            Place::Server { admin_url, name } => {
                let (url, sql) = (admin_url.clone(), format!("drop database {name} with (force)"));
                // Dropping is not async, and the test's own runtime may be shutting down.
                let dropping = thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                    runtime.expect("a runtime starts").block_on(run_on_server(&url, sql));
                });
                assert!(dropping.join().is_ok() || thread::panicking(), "database {name} was not dropped");
            }
        }
    }
}

/// The server's own database, from which others are made.
#[must_use]
pub fn postgres_url() -> String {
    #[expect(clippy::disallowed_methods, reason = "a setting of the tests, not of the kernel")]
    let url = env::var("AIBOS_TEST_POSTGRES");
    url.expect("AIBOS_TEST_POSTGRES must name a PostgreSQL server, as postgres://…/postgres; tests/run starts one")
}

/// The same server, another database.
#[must_use]
pub fn with_database(url: &str, name: &str) -> String {
    let (base, options) = url.split_once('?').map_or((url, String::new()), |(base, rest)| (base, format!("?{rest}")));
    let (server, _) = base.rsplit_once('/').expect("the URL ends in a database's name");
    format!("{server}/{name}{options}")
}

async fn run_on_server(url: &str, sql: String) {
    let mut connection = PgConnection::connect(url).await.expect("the PostgreSQL server of the tests answers");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect("the tests may create and drop databases");
    connection.close().await.expect("the connection closes");
}
