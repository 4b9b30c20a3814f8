//! The embedded database: one file, one process. Write-ahead log with `synchronous=FULL`, so COMMIT returns after the
//! disk has it; one writing connection, because `SQLite` has one writer anyway, and a few that only read.

mod answer;
mod backup;
mod commit;
mod migration;
pub(super) mod read;
mod search;
mod sweep;
pub(super) mod writer;

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{SqliteConnection, SqlitePool};

use super::gather::Gathered;
use super::known::Known;
use super::work::Work;
use super::{StorageError, measured, record};
use crate::limit;
use writer::Writer;

/// An open database file, locked against other processes.
#[derive(Clone, Debug)]
pub struct SqliteStorage {
    pub(super) writer: Writer,
    pub(super) readers: SqlitePool,
    pub(super) gathered: Gathered,
    pub(super) known: Arc<Known>,
    /// None where somebody only looks.
    pub(super) lock: Option<Arc<File>>,
}

impl SqliteStorage {
    /// Opens the file of `sqlite://PATH`; makes it and its directory when they are missing, readable by their owner only.
    pub async fn open(url: &str) -> Result<Self, StorageError> {
        let path = path(url)?;
        create(&path).map_err(|error| unusable(&path, &error))?;
        let path = path.canonicalize().map_err(|error| unusable(&path, &error))?;
        let lock = lock(&path)?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            // Elsewhere than on macOS this changes nothing; there fsync alone does not reach the disk.
            .pragma("fullfsync", "on")
            .foreign_keys(true)
            // Pages: the log is moved into the database file after 32 MiB instead of 4, which a few batches fill.
            .pragma("wal_autocheckpoint", "8000")
            .busy_timeout(limit::CONNECTION_TIMEOUT);
        // KiB, as a negative number: a batch whose pages outgrow the cache would be written to the log twice.
        let writing = options
            .clone()
            .pragma("cache_size", "-32768")
            // The checks say how long ids and hashes are, which their types do here already. They call functions, which may
            // fail, so SQLite would copy each page before a statement of many rows changes it: two thirds of all writing.
            .pragma("ignore_check_constraints", "on");
        let writer = Writer::new(writing);
        let asking = async |connection: &mut SqliteConnection| {
            sqlx::query_scalar("pragma journal_mode").fetch_one(connection).await
        };
        let mode: String = Work::alone(&writer, asking).await?;
        if mode != "wal" {
            return Err(StorageError::Refused(format!(
                "{} is on a file system that cannot keep a write-ahead log: move the database to a local disk",
                path.display()
            )));
        }
        let readers = pool().connect_lazy_with(options.pragma("query_only", "on"));
        Ok(Self { writer, readers, gathered: Gathered::new(), known: Arc::default(), lock: Some(Arc::new(lock)) })
    }

    /// Answers when the database does.
    pub async fn ping(&self) -> Result<(), StorageError> {
        measured("ping", sqlx::query(record::PING).execute(&self.readers)).await?;
        Ok(())
    }

    /// Connections as (in use, idle).
    #[must_use]
    pub fn connections(&self) -> (u32, u32) {
        let all = self.readers.size();
        // The pool raises its two counts one after the other.
        let idle = u32::try_from(self.readers.num_idle()).map_or(all, |idle| idle.min(all));
        let (writing, resting) = self.writer.connections();
        (all - idle + writing, idle + resting)
    }

    /// Closes the connections, then lets another process have the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
        if let Some(Err(error)) = self.lock.as_ref().map(|lock| lock.unlock()) {
            tracing::warn!(%error, "the lock of the database file was not released; the end of the process will");
        }
    }
}

fn pool() -> SqlitePoolOptions {
    // A connection to a file does not go stale.
    SqlitePoolOptions::new()
        .max_connections(limit::SQLITE_READERS_MAX)
        .acquire_timeout(limit::CONNECTION_TIMEOUT)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
}

pub(super) fn path(url: &str) -> Result<PathBuf, StorageError> {
    let path = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:")).unwrap_or(url);
    if path.is_empty() || path.contains(['?', ':']) {
        return Err(StorageError::Refused(
            "DATABASE_URL must name a file and no options, for example sqlite://.aibos/kernel.db; a database in memory \
             would lose what it acknowledged"
                .into(),
        ));
    }
    Ok(PathBuf::from(path))
}

fn create(path: &Path) -> io::Result<()> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    private_file(path).map(drop)
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Takes `PATH.lock` for this process; the operating system lets go of it when the process ends, however it ends.
fn lock(path: &Path) -> Result<File, StorageError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let file = private_file(&lock_path).map_err(|error| unusable(&lock_path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StorageError::Refused(format!(
            "{} is in use by another kernel, which holds {}: stop that one first, or use PostgreSQL, which several \
             kernels can share",
            path.display(),
            lock_path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(unusable(&lock_path, &error)),
    }
}

fn unusable(path: &Path, error: &io::Error) -> StorageError {
    StorageError::Refused(format!("{} cannot be used: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::id;

    #[tokio::test]
    async fn a_statement_of_many_rows_writes_to_no_other_file() {
        let folder = std::env::temp_dir().join(format!("aibos-writes-{}", id::uuid(&Clock::System)));
        let storage = SqliteStorage::open(&format!("sqlite://{}/kernel.db", folder.display())).await.unwrap();
        let asked = async |connection: &mut SqliteConnection| {
            let built: Vec<String> = sqlx::query_scalar("pragma compile_options").fetch_all(&mut *connection).await?;
            let unchecked: bool =
                sqlx::query_scalar("pragma ignore_check_constraints").fetch_one(&mut *connection).await?;
            Ok((built, unchecked))
        };
        let (built, unchecked) = Work::alone(&storage.writer, asked).await.unwrap();
        assert!(unchecked, "an insert keeps no pages to take itself back");
        let kept = "STMTJRNL_SPILL=16777216";
        assert!(
            built.iter().any(|option| option == kept),
            "an upsert keeps them in memory: .cargo/config.toml; {built:?}"
        );
        storage.close().await;
        std::fs::remove_dir_all(folder).unwrap();
    }
}
