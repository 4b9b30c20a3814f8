//! `aibos audit`: proves the audit log, against a kernel, against the database, or offline from an export.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::output::{Failure, say, say_json, text};
use crate::audit::check::{self, Fault, Finding, Report};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::export;
use crate::audit::note::VerifierKey;
use crate::audit::proof::ConsistencyProof;
use crate::auth::checkpoint_key;
use crate::config::{Config, Overrides, Profile};
use crate::storage::Storage;

/// Prove the audit log and keep what proves it.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Prove the audit log, and name the first violation.
    #[command(after_help = "Examples:\n  aibos audit verify\n  \
                            aibos audit verify --checkpoint kept.txt\n  \
                            DATABASE_URL=postgres://localhost/aibos aibos audit verify --database --checkpoint kept.txt\n  \
                            aibos audit verify --export log.ndjson --checkpoint kept.txt")]
    Verify(Verify),
    /// Write the tenant's log to a file that proves itself.
    #[command(after_help = "Example: aibos audit export log.ndjson")]
    Export(Export),
    /// Write the newest signed checkpoint to a file, to be kept where the kernel's operator cannot change it.
    #[command(after_help = "Example: aibos audit checkpoint kept-$(date +%F).txt")]
    Checkpoint(Keep),
}

/// `aibos audit verify`
#[derive(Debug, Args)]
pub struct Verify {
    /// Verify this export, offline.
    #[arg(long, value_name = "FILE", conflicts_with = "database")]
    export: Option<PathBuf>,
    /// A checkpoint that was kept: also finds a cut-off tail and a rewritten history. Can be given several times.
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// The verifier key, from GET /.well-known/audit-key when the log was new; without it, the key that the log names.
    #[arg(long, value_name = "KEY")]
    key: Option<VerifierKey>,
    /// Read the database of `DATABASE_URL` itself instead of asking a kernel.
    #[arg(long)]
    database: bool,
    #[command(flatten)]
    client: Client,
}

/// `aibos audit export`
#[derive(Debug, Args)]
pub struct Export {
    /// Where to.
    file: PathBuf,
    /// The first index whose entry has its text.
    #[arg(long)]
    from: Option<u64>,
    /// The index before which it ends.
    #[arg(long)]
    to: Option<u64>,
    /// A checkpoint that was kept, so that the export can be compared with it. Can be given several times.
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    #[command(flatten)]
    client: Client,
}

/// `aibos audit checkpoint`
#[derive(Debug, Args)]
pub struct Keep {
    /// Where to; a file that is there already is left as it is.
    file: PathBuf,
    /// The verifier key, from GET /.well-known/audit-key when the log was new; without it, the key that the kernel names.
    #[arg(long, value_name = "KEY")]
    key: Option<VerifierKey>,
    #[command(flatten)]
    client: Client,
}

impl Audit {
    /// Runs the command.
    pub async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Verify(command) => command.run().await,
            Self::Export(command) => command.run().await,
            Self::Checkpoint(command) => command.run().await,
        }
    }
}

impl Verify {
    async fn run(self) -> Result<(), Failure> {
        let report = match (&self.export, self.database) {
            (Some(file), _) => self.offline(file)?,
            (None, true) => self.stored().await?,
            (None, false) => self.live().await?,
        };
        if self.client.json {
            say_json(&report)?;
        }
        let problem = report.problem.as_deref().unwrap_or("the verification does not say why");
        match report.finding {
            Finding::Broken => Err(Failure(format!("the audit log does not hold: {problem}"))),
            Finding::Open => Err(Failure(problem.to_owned())),
            Finding::Holds if self.client.json => Ok(()),
            Finding::Holds => say(format_args!(
                "the audit log holds: {} entries checked, {} under a checkpoint{}",
                report.checked,
                report.sealed,
                match self.checkpoint.len() {
                    0 => String::new(),
                    kept => format!(", {kept} kept checkpoints compared"),
                }
            )),
        }
    }

    fn offline(&self, file: &Path) -> Result<Report, Failure> {
        let open = || File::open(file).map(BufReader::new).map_err(|cause| unreadable(file, &cause));
        let key = match &self.key {
            Some(key) => key.clone(),
            None => match export::key(open()?) {
                Some(key) => key,
                None => return Ok(export::verify(open()?, None, &[])?),
            },
        };
        let kept = self.kept(&key)?;
        Ok(export::verify(open()?, Some(&key), &kept)?)
    }

    async fn stored(&self) -> Result<Report, Failure> {
        let config = Config::load(Profile::Tool, &Overrides::default())?;
        exists(&config.database_url)?;
        let storage = Storage::open(&config.database_url).await?;
        let report = self.read(&storage).await;
        storage.close().await;
        report
    }

    async fn read(&self, storage: &Storage) -> Result<Report, Failure> {
        storage.check_schema().await?;
        let key = match &self.key {
            Some(key) => key.clone(),
            None => checkpoint_key::public(storage).await?.ok_or_else(|| {
                Failure(
                    "the database has no key for checkpoints: start a kernel on it first, or name one with --key"
                        .into(),
                )
            })?,
        };
        Ok(check::verify(storage, &key, &self.kept(&key)?).await?)
    }

    /// Asks the kernel to verify its log, and checks here that the log continues what was kept.
    async fn live(&self) -> Result<Report, Failure> {
        let latest = self.client.send(Method::GET, "/api/v1/audit/checkpoints/latest", None).await?;
        let key = match &self.key {
            Some(key) => key.clone(),
            None => text(&latest, "key").parse()?,
        };
        let note = text(&latest, "checkpoint");
        let newest = Checkpoint::open(&note, &key)?;
        let kept = self.kept(&key)?;
        for old in &kept {
            if let Some(fault) = self.continues(old, &newest).await? {
                return Ok(Report::new(0, newest.size, Some(fault)));
            }
        }
        let notes = self.checkpoint.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?;
        let body = json!({ "checkpoints": notes });
        let report = self.client.send(Method::POST, "/api/v1/audit/verify", Some(&body)).await?;
        Ok(told(&report))
    }

    /// Whether the log continues a kept checkpoint; the proof is checked here.
    async fn continues(&self, old: &Checkpoint, new: &Checkpoint) -> Result<Option<Fault>, Failure> {
        if old.size > new.size {
            let sentence = format!(
                "the log was cut off: its newest checkpoint is of {} entries, the kept one of {}",
                new.size, old.size
            );
            return Ok(Some(Fault::at(new.size, sentence)));
        }
        let path = format!("/api/v1/audit/consistency?from={}&to={}", old.size, new.size);
        let proof: ConsistencyProof = serde_json::from_value(self.client.send(Method::GET, &path, None).await?)?;
        if proof.holds(old, new) {
            return Ok(None);
        }
        let sentence =
            format!("the log was rewritten: it does not continue the kept checkpoint of {} entries", old.size);
        Ok(Some(Fault::at(0, sentence)))
    }

    fn kept(&self, key: &VerifierKey) -> Result<Vec<Checkpoint>, Failure> {
        let open = |file: &PathBuf| {
            Checkpoint::open(&read(file)?, key).map_err(|cause| Failure(format!("{}: {cause}", file.display())))
        };
        self.checkpoint.iter().map(open).collect()
    }
}

/// Refuses a missing file of SQLite: opening would make it, and an empty log always holds.
fn exists(database_url: &str) -> Result<(), Failure> {
    let Some(file) = database_url.strip_prefix("sqlite:") else { return Ok(()) };
    let file = Path::new(file.strip_prefix("//").unwrap_or(file));
    std::fs::metadata(file).map(drop).map_err(|cause| unreadable(file, &cause))
}

/// The report of a kernel. Only its `ok` says that the log holds.
fn told(report: &Value) -> Report {
    let number = |name: &str| report.get(name).and_then(Value::as_u64);
    let ok = report.get("ok").and_then(Value::as_bool).unwrap_or(false);
    Report {
        ok,
        checked: number("checked").unwrap_or(0),
        sealed: number("sealed").unwrap_or(0),
        first_bad_index: number("first_bad_index"),
        problem: report.get("problem").and_then(Value::as_str).map(str::to_owned),
        finding: if ok { Finding::Holds } else { Finding::Broken },
    }
}

impl Export {
    async fn run(self) -> Result<(), Failure> {
        let mut query = Vec::new();
        query.extend(self.from.map(|from| format!("from={from}")));
        query.extend(self.to.map(|to| format!("to={to}")));
        let sizes = self.checkpoint.iter().map(|file| size(file)).collect::<Result<Vec<_>, _>>()?;
        query.extend((!sizes.is_empty()).then(|| format!("at={}", sizes.join(","))));
        let path = format!("/api/v1/audit/export?{}", query.join("&"));
        let bytes = self.client.download(&path, &self.file).await?;
        if self.client.json {
            return say_json(&json!({ "file": self.file, "bytes": bytes }));
        }
        let file = self.file.display();
        say(format_args!("wrote {bytes} bytes to {file}; prove it with `aibos audit verify --export {file}`"))
    }
}

impl Keep {
    async fn run(self) -> Result<(), Failure> {
        let latest = self.client.send(Method::GET, "/api/v1/audit/checkpoints/latest", None).await?;
        let key: VerifierKey = match self.key {
            Some(key) => key,
            None => text(&latest, "key").parse()?,
        };
        let note = text(&latest, "checkpoint");
        let Checkpoint { size, root } = Checkpoint::open(&note, &key)?;
        write_new(&self.file, note.as_bytes()).map_err(|cause| unreadable(&self.file, &cause))?;
        if self.client.json {
            return say_json(&json!({ "file": self.file, "size": size, "root": root, "key": key.to_string() }));
        }
        say(format_args!("wrote the checkpoint of {size} entries to {}\nverifier key: {key}", self.file.display()))
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|cause| unreadable(file, &cause))
}

/// The size that a checkpoint names. Its signature is checked when the export is compared with it.
fn size(file: &Path) -> Result<String, Failure> {
    let size = read(file)?.lines().nth(1).and_then(|size| size.parse::<u64>().ok());
    size.map(|size| size.to_string()).ok_or_else(|| Failure(format!("{}: it is no checkpoint", file.display())))
}

/// Writes what may be the only copy of a checkpoint.
fn write_new(file: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(file)?;
    file.write_all(content)?;
    file.sync_all()
}

fn unreadable(file: &Path, cause: &io::Error) -> Failure {
    Failure(format!("{}: {cause}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_database_is_not_made() {
        let file = std::env::temp_dir().join(format!("aibos-missing-{}.db", std::process::id()));
        assert!(exists(&format!("sqlite://{}", file.display())).is_err() && !file.exists());
        assert!(exists(&format!("sqlite:{}", std::env::temp_dir().display())).is_ok());
        assert!(exists("postgres://localhost/aibos").is_ok());
    }

    #[test]
    fn a_report_holds_only_if_it_says_so() {
        for report in [json!({}), json!({ "ok": false, "first_bad_index": 3 }), json!({ "ok": "true" })] {
            assert_eq!(told(&report).finding, Finding::Broken, "{report}");
        }
        assert_eq!(told(&json!({ "ok": true, "checked": 3 })).finding, Finding::Holds);
    }
}
