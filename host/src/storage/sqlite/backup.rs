//! Copies the database to a new file, from one state of it, beside the kernel that uses it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use super::{SqliteStorage, path, unusable};
use crate::limit;
use crate::storage::StorageError;

impl SqliteStorage {
    /// Writes a copy, readable by its owner only, and brings it to the disk; answers its length in bytes. The copy reads one
    /// state and holds no lock that a writer needs.
    pub async fn back_up(url: &str, to: &Path) -> Result<u64, StorageError> {
        let from = path(url)?;
        if !from.is_file() {
            return Err(StorageError::Refused(format!("there is no database at {}", from.display())));
        }
        let Some(target) = to.to_str() else {
            return Err(StorageError::Refused(format!("{} cannot be named to the database", to.display())));
        };
        // The statement takes an empty file, which nobody else could read, and refuses every other.
        let made = OpenOptions::new().create_new(true).write(true).mode(0o600).open(to);
        made.map_err(|error| unusable(to, &error))?;
        let options = SqliteConnectOptions::new().filename(&from).create_if_missing(false);
        let mut connection = options.busy_timeout(limit::CONNECTION_TIMEOUT).connect().await?;
        let copied = sqlx::query("vacuum into $1").bind(target).execute(&mut connection).await;
        connection.close().await?;
        copied?;
        let file = File::open(to).map_err(|error| unusable(to, &error))?;
        file.sync_all().and_then(|()| file.metadata()).map(|found| found.len()).map_err(|error| unusable(to, &error))
    }
}
