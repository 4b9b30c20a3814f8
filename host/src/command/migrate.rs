//! `aibos migrate`: the database's schema, forward and back.

use clap::Subcommand;

use super::output::{Failure, say};
use crate::clock::Clock;
use crate::config::{Config, Overrides, Profile};
use crate::storage::Storage;

/// Bring the database to this version's schema, or back.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Migrate {
    /// Apply what is pending.
    #[command(after_help = "Example: DATABASE_URL=postgres://localhost/aibos aibos migrate up")]
    Up,
    /// Take the newest migration back; refuses to drop an audit log that has entries.
    #[command(after_help = "Example: aibos migrate down")]
    Down,
    /// Say which migrations are applied.
    #[command(after_help = "Example: aibos migrate status")]
    Status,
}

impl Migrate {
    /// Runs the command.
    pub async fn run(self) -> Result<(), Failure> {
        let config = Config::load(Profile::Tool, &Overrides::default())?;
        let storage = Storage::open(&config.database_url).await?;
        let done = self.act(&storage).await;
        storage.close().await;
        done
    }

    async fn act(self, storage: &Storage) -> Result<(), Failure> {
        let now = Clock::System.now();
        match self {
            Self::Up => {
                let applied = storage.migrate_up(now).await?;
                for migration in &applied {
                    say(format_args!("applied {migration}"))?;
                }
                if applied.is_empty() { say("nothing is pending") } else { Ok(()) }
            }
            Self::Down => match storage.migrate_down().await? {
                Some(migration) => say(format_args!("took back {migration}")),
                None => say("nothing is applied"),
            },
            Self::Status => {
                for migration in storage.migration_status().await? {
                    match migration.applied_at {
                        Some(at) => say(format_args!("applied {at}  {migration}"))?,
                        None => say(format_args!("pending               {migration}"))?,
                    }
                }
                Ok(())
            }
        }
    }
}
