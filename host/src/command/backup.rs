//! `aibos backup`: a copy of the embedded database, also while a kernel serves. One statement of the database makes it from
//! one state, so nothing else needs to be installed and no file is copied under a writer's feet.

use std::path::PathBuf;

use clap::Args;

use super::output::{Failure, say, say_json};
use crate::config::{Config, Overrides, Profile};
use crate::storage::SqliteStorage;

/// Copy the embedded database to a file, also while a kernel serves.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: aibos backup /backup/kernel.db\n\nFor PostgreSQL use pg_dump; see docs/operations.md."
)]
pub struct Backup {
    /// Where to; it must not exist.
    file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Backup {
    /// Runs the command.
    pub async fn run(self) -> Result<(), Failure> {
        let config = Config::load(Profile::Tool, &Overrides::default())?;
        if !config.database_url.starts_with("sqlite:") {
            return Err(Failure("the database is PostgreSQL: back it up with pg_dump, see docs/operations.md".into()));
        }
        let bytes = SqliteStorage::back_up(&config.database_url, &self.file).await?;
        if self.json {
            return say_json(&serde_json::json!({ "file": self.file, "bytes": bytes }));
        }
        let file = self.file.display();
        say(format_args!(
            "wrote {bytes} bytes to {file}; prove it with `DATABASE_URL=sqlite://{file} aibos verify`, and keep \
             AIBOS_MASTER_KEY elsewhere"
        ))
    }
}
