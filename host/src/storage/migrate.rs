//! The schema's history. The files under `migrations/` are compiled in; table `migration` says which of them a database
//! has, with a checksum, so that an edited or unknown one is refused instead of guessed about. Rules for writing one are in
//! `migrations/README.md`.

use std::fmt;

use aws_lc_rs::digest;
use jiff::Timestamp;

use super::{Storage, StorageError, record};

/// One numbered change of the schema and its way back.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) number: i64,
    pub(super) name: &'static str,
    up: &'static str,
    down: &'static str,
}

macro_rules! scripts {
    ($backend:literal: $($number:literal $name:literal),+ $(,)?) => {
        &[$(Script {
            number: $number,
            name: $name,
            up: include_str!(concat!("../../../migrations/", $backend, "/", "000", $number, "_", $name, ".up.sql")),
            down: include_str!(concat!("../../../migrations/", $backend, "/", "000", $number, "_", $name, ".down.sql")),
        }),+]
    };
}

pub(super) const SQLITE: &[Script] =
    scripts!("sqlite": 1 "head", 2 "state", 3 "event", 4 "audit", 5 "audit_tree", 6 "audit_outcome", 7 "row");
pub(super) const POSTGRES: &[Script] =
    scripts!("postgres": 1 "head", 2 "state", 3 "event", 4 "audit", 5 "audit_tree", 6 "audit_outcome", 7 "row");

pub(super) const APPLIED: &str = "select number, name, checksum, applied_at from migration order by number";
pub(super) const RECORD: &str = "insert into migration (number, name, checksum, applied_at) values ($1, $2, $3, $4)";
pub(super) const FORGET: &str = "delete from migration where number = $1";
pub(super) const AUDIT_HAS_ENTRIES: &str = "select exists (select 1 from audit)";

/// Columns of [`APPLIED`].
pub(super) type Applied = (i64, String, Vec<u8>, i64);

/// A migration and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Its place in the order.
    pub number: i64,
    /// Its name.
    pub name: String,
    /// When it was applied; none while it is pending.
    pub applied_at: Option<Timestamp>,
}

impl fmt::Display for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}_{}", self.number, self.name)
    }
}

/// Which way the runner goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Direction {
    /// Apply the first pending migration, and record that it was applied now.
    Up(Timestamp),
    /// Take the newest applied migration back.
    Down,
}

/// What the runner does next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) script: &'static Script,
    pub(super) direction: Direction,
}

impl Direction {
    /// The next step, decided under the migration lock from what is applied.
    pub(super) fn next(self, scripts: &'static [Script], applied: &[Applied]) -> Result<Option<Step>, StorageError> {
        judge(scripts, applied)?;
        let place = match self {
            Self::Up(_) => Some(applied.len()),
            Self::Down => applied.len().checked_sub(1),
        };
        let script = place.and_then(|place| scripts.get(place));
        Ok(script.map(|script| Step { script, direction: self }))
    }
}

impl Script {
    /// SHA-256 of the text that makes the change.
    pub(super) fn checksum(&self) -> Vec<u8> {
        digest::digest(&digest::SHA256, self.up.as_bytes()).as_ref().to_vec()
    }

    fn migration(&self, applied_at: Option<Timestamp>) -> Migration {
        Migration { number: self.number, name: self.name.to_owned(), applied_at }
    }
}

impl Step {
    /// The SQL of the step.
    pub(super) fn sql(self) -> &'static str {
        match self.direction {
            Direction::Up(_) => self.script.up,
            Direction::Down => self.script.down,
        }
    }

    /// Whether the step would drop the audit log or what was signed of it.
    pub(super) fn drops_audit(self) -> bool {
        matches!(self.direction, Direction::Down) && ["audit", "audit_tree"].contains(&self.script.name)
    }

    /// The database refused the step's own SQL.
    pub(super) fn refused(self, error: sqlx::Error) -> StorageError {
        match error {
            sqlx::Error::Database(cause) => StorageError::Refused(format!(
                "the database refused migration {}: {cause}. Nothing of it was kept.",
                self.script.migration(None)
            )),
            other => StorageError::Unavailable(other),
        }
    }
}

/// The sentence for a refused loss of the audit log.
pub(super) fn audit_kept() -> StorageError {
    StorageError::Refused(
        "the audit log has entries, so the migration that made it is not taken back. To start over, keep this database \
         and name another one in DATABASE_URL."
            .into(),
    )
}

impl Storage {
    /// Applies what is pending, each migration in a database transaction of its own, and answers with what it applied.
    /// Safe when several kernels start at once.
    pub async fn migrate_up(&self, now: Timestamp) -> Result<Vec<Migration>, StorageError> {
        let mut done = Vec::new();
        while let Some(step) = self.migrate_step(Direction::Up(now)).await? {
            done.push(step.script.migration(Some(now)));
        }
        Ok(done)
    }

    /// Takes the newest migration back, and answers with it; refuses to drop an audit log that has entries.
    pub async fn migrate_down(&self) -> Result<Option<Migration>, StorageError> {
        let step = self.migrate_step(Direction::Down).await?;
        Ok(step.map(|step| step.script.migration(None)))
    }

    /// All migrations that this kernel knows, in order, applied or pending.
    pub async fn migration_status(&self) -> Result<Vec<Migration>, StorageError> {
        let (scripts, applied) = match self {
            Self::Sqlite(backend) => (SQLITE, backend.applied().await?),
            Self::Postgres(backend) => (POSTGRES, backend.applied().await?),
        };
        judge(scripts, &applied)?;
        let mut times = applied.iter().map(|(.., applied_at)| *applied_at);
        scripts
            .iter()
            .map(|script| {
                let applied_at = times.next().map(|at| record::timestamp("migration", at)).transpose()?;
                Ok(script.migration(applied_at))
            })
            .collect()
    }

    /// Refuses a database whose schema is not exactly the one that this kernel was built for.
    pub async fn check_schema(&self) -> Result<(), StorageError> {
        let status = self.migration_status().await?;
        match status.iter().find(|migration| migration.applied_at.is_none()) {
            None => Ok(()),
            Some(pending) => Err(StorageError::Refused(format!(
                "migration {pending} has not been applied to the database: run `aibos migrate up`"
            ))),
        }
    }

    async fn migrate_step(&self, direction: Direction) -> Result<Option<Step>, StorageError> {
        let step = match self {
            Self::Sqlite(backend) => backend.migrate_step(direction).await,
            Self::Postgres(backend) => backend.migrate_step(direction).await,
        };
        // Nothing that was known of the tables holds for those that came.
        self.known().forget();
        step
    }
}

/// Whether what is applied is an unchanged beginning of what this kernel knows.
fn judge(scripts: &[Script], applied: &[Applied]) -> Result<(), StorageError> {
    let mut scripts = scripts.iter();
    for (number, name, checksum, _) in applied {
        match scripts.next() {
            Some(script) if script.number == *number && script.name == name => {
                if script.checksum() != *checksum {
                    return Err(StorageError::Refused(format!(
                        "migration {number:04}_{name} was edited after it had been applied: restore its file and put \
                         the change into a new migration"
                    )));
                }
            }
            Some(_) | None => {
                return Err(StorageError::Refused(format!(
                    "migration {number:04}_{name} is applied to the database but unknown to this kernel: run the \
                     version of the kernel that brought it, or take it back with that version's `aibos migrate down`"
                )));
            }
        }
    }
    Ok(())
}
