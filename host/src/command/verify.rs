//! `aibos verify`: proves every invariant of the stored data, in one state of the database, beside the kernels that go on
//! writing. It is an implementation of its own: it reads the records that `docs/ARCHITECTURE.md` describes and shares no rule
//! with the cells that wrote them. Its memory grows with the number of accounts, of tenants and of replies that are kept, not
//! with that of payments.

mod accounts;
mod events;
mod hold;
mod ledger;
mod payments;
mod reader;
mod record;
mod refund;
mod replies;
mod report;

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;

use super::output::{Failure, say, say_json};
use crate::audit::check;
use crate::audit::checkpoint::Checkpoint;
use crate::audit::note::VerifierKey;
use crate::auth::checkpoint_key;
use crate::config::{Config, Overrides, Profile};
use crate::id::TenantId;
use crate::limit;
use crate::state::Space;
use crate::storage::Storage;

use events::Published;
use reader::Reader;
pub use report::{Counts, Report, Violation};
use report::{Stop, claim};

/// Prove every invariant of the stored data, and name the first violation.
#[derive(Debug, Args)]
#[command(after_help = "Example: DATABASE_URL=postgres://localhost/aibos aibos verify\n\n\
                        Reads the database itself; a kernel may serve meanwhile.")]
pub struct Verify {
    /// A checkpoint of the audit log that was kept: also finds a cut-off tail. Can be given several times.
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// The verifier key of the audit log; without it, the one that the database names.
    #[arg(long, value_name = "KEY")]
    key: Option<VerifierKey>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Verify {
    /// Runs the command.
    pub async fn run(self) -> Result<(), Failure> {
        let config = Config::load(Profile::Tool, &Overrides::default())?;
        let mut notes = Vec::with_capacity(self.checkpoint.len());
        for file in &self.checkpoint {
            let note = std::fs::read_to_string(file);
            notes.push(note.map_err(|cause| Failure(format!("{}: {cause}", file.display())))?);
        }
        let report = verify(&config.database_url, self.key, &notes).await?;
        if self.json {
            say_json(&report)?;
        }
        match report.violation {
            Some(violation) => Err(Failure(format!("the stored data do not hold: {violation}"))),
            None if self.json => Ok(()),
            None => say(format_args!("the stored data hold: {}", report.checked)),
        }
    }
}

/// Checks the database of a URL as it is now. `notes` are checkpoints that the caller kept.
pub async fn verify(url: &str, key: Option<VerifierKey>, notes: &[String]) -> Result<Report, Failure> {
    let storage = Storage::open_pinned(url).await?;
    let mut counts = Counts::default();
    let checked = Box::pin(check(&storage, key, notes, &mut counts)).await;
    storage.close().await;
    match checked {
        Ok(()) => Ok(Report { ok: true, checked: counts, violation: None }),
        Err(Stop::Violation(violation)) => Ok(Report { ok: false, checked: counts, violation: Some(violation) }),
        Err(Stop::Failure(failure)) => Err(failure),
    }
}

async fn check(storage: &Storage, key: Option<VerifierKey>, notes: &[String], counts: &mut Counts) -> Result<(), Stop> {
    storage.check_schema().await?;
    let (sequence, audit_index) = storage.head().await?;
    counts.commits = sequence;
    audit(storage, audit_index, key, notes, counts).await?;
    let mut tenants = versions(storage, sequence, counts).await?;
    let given = events::tenants(storage).await?;
    tenants.extend(given.keys());
    for tenant in tenants {
        let reader = Reader { storage, tenant };
        let published = events::check(&reader, sequence, given.get(&tenant).copied().unwrap_or(0), counts).await?;
        let books = ledger::check(&reader, counts).await?;
        let payments = payments::check(&reader, &books, counts).await?;
        events::compare(&reader, &published, &Published { payments, ..books.published }).await?;
        counts.tenants += 1;
    }
    replies::check(storage, counts).await
}

/// The audit log with its tree and checkpoints.
async fn audit(
    storage: &Storage,
    last: i64,
    key: Option<VerifierKey>,
    notes: &[String],
    counts: &mut Counts,
) -> Result<(), Stop> {
    let key = match key {
        Some(key) => Some(key),
        None => checkpoint_key::public(storage).await?,
    };
    let Some(key) = key else {
        let text = "the database has no key for checkpoints: start a kernel on it first, or name one with --key";
        return if last < 0 { Ok(()) } else { Err(Failure(text.into()).into()) };
    };
    let kept = notes.iter().map(|note| Checkpoint::open(note, &key)).collect::<Result<Vec<_>, _>>();
    let report = check::verify(storage, &key, &kept?).await?;
    (counts.audit_entries, counts.audit_sealed) = (report.checked, report.sealed);
    let place = report.first_bad_index.map_or_else(|| "audit log".to_owned(), |index| format!("audit index {index}"));
    match report.problem {
        Some(problem) => Err(Violation::new(None, place, problem).into()),
        None => Ok(()),
    }
}

/// No record is of a commit that the head does not know. Answers the tenants.
async fn versions(storage: &Storage, head: i64, counts: &mut Counts) -> Result<BTreeSet<TenantId>, Stop> {
    let mut after = Space::kernel(TenantId::PLATFORM).key("");
    let mut tenants = BTreeSet::new();
    after.space.name = "".into();
    loop {
        let page = storage.state_versions(&after, limit::VERIFY_PAGE * 10).await?;
        let Some((tenant, space, key, _)) = page.last() else { return Ok(tenants) };
        after = Space { tenant: TenantId(*tenant), name: space.as_str().into() }.key(key);
        for (tenant, space, key, version) in page {
            counts.records += 1;
            tenants.insert(TenantId(tenant));
            claim((1..=head).contains(&version), TenantId(tenant), || {
                let found = format!("expected a version from 1 to that of the head, {head}, found {version}");
                (format!("record {key} of {space}"), found)
            })?;
        }
    }
}
