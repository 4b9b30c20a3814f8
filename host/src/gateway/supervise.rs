//! Carries out what a supervisor decided: records the quarantine of a cell, or the end of a canary, with its audit entry.
//! A decision that cannot be recorded now is made again by the next failure.

use jiff::Timestamp;

use crate::audit::{AuditEntry, CellReference, Outcome, Party};
use crate::cell::catalog::{CellRecord, Quarantine, QuarantinedBy};
use crate::cell::registry::cell_key;
use crate::cell::supervisor::{Judgement, Pass, Trial, Verdict};
use crate::context::Context;
use crate::id::TenantId;
use crate::kernel::Kernel;
use crate::limit;
use crate::state::committer::CommitError;
use crate::state::unit;
use crate::state::work::{Work, WorkError};
use crate::storage::StorageError;

/// What a decision needs from the database.
#[derive(Debug, thiserror::Error)]
enum SuperviseError {
    #[error(transparent)]
    Work(#[from] WorkError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Judges a call of a cell and does what follows.
pub(super) async fn judge(kernel: &Kernel, context: &Context, cell: &CellReference, pass: Pass, verdict: Verdict) {
    settle(kernel, context, cell, pass.judge(verdict, kernel.clock.now())).await;
}

/// Counts a call that a canary failed at and the active version then did.
pub(super) async fn failed_alone(kernel: &Kernel, context: &Context, cell: &CellReference, trial: &Trial) {
    settle(kernel, context, cell, trial.failed_alone()).await;
}

/// Does what a judgement asks for.
async fn settle(kernel: &Kernel, context: &Context, cell: &CellReference, judgement: Judgement) {
    if judgement == Judgement::Nothing {
        return;
    }
    for _ in 0..limit::CONFLICT_ATTEMPTS_MAX {
        match carry_out(kernel, context, cell, judgement).await {
            Ok(unit::Verdict::Committed(_)) => return,
            Ok(unit::Verdict::Conflicted(_)) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(cell = cell.name, version = cell.version, error, "{judgement:?} is not recorded yet");
                return;
            }
        }
    }
}

async fn carry_out(
    kernel: &Kernel,
    context: &Context,
    cell: &CellReference,
    judgement: Judgement,
) -> Result<unit::Verdict, SuperviseError> {
    let work = Work::new(kernel.storage.clone());
    let record = work.load::<CellRecord>(&cell_key(&cell.name)).await?;
    let decided = record.and_then(|record| decide(record, &cell.version, judgement, kernel.clock.now()));
    let Some((record, action, reason)) = decided else {
        // It is recorded already: whoever still meets the cell serves an old snapshot.
        kernel.refresh().await?;
        return Ok(unit::Verdict::Committed(unit::Receipt::default()));
    };
    work.save(cell_key(&cell.name), &record)?;
    work.note(entry(context, cell, action, reason));
    tracing::warn!(cell = cell.name, version = cell.version, action, reason, "the supervisor acted");
    Ok(kernel.commit(work.finish()).await?)
}

/// The changed record; none when the decision has been overtaken.
fn decide(
    mut record: CellRecord,
    version: &str,
    judgement: Judgement,
    now: Timestamp,
) -> Option<(CellRecord, &'static str, &'static str)> {
    match judgement {
        Judgement::Quarantine if record.quarantine.is_none() && record.active.as_deref() == Some(version) => {
            let reason = "it kept failing for everybody";
            record.quarantine = Some(Quarantine { since: now, by: QuarantinedBy::Supervisor, reason: reason.into() });
            Some((record, "cell.quarantine", reason))
        }
        Judgement::EndCanary if record.canary.as_ref().is_some_and(|canary| canary.version == version) => {
            record.canary = None;
            Some((record, "cell.rollback", "the canary failed more often than the active version"))
        }
        Judgement::Nothing | Judgement::Quarantine | Judgement::EndCanary => None,
    }
}

/// The kernel acts on the operator's cells, so the entry is the operator's.
fn entry(context: &Context, cell: &CellReference, action: &str, reason: &str) -> AuditEntry {
    let mut entry = context.entry(action, Party::new("cell", &cell.name), Outcome::Success);
    entry.tenant_id = TenantId::PLATFORM;
    entry.actor = Party::new("kernel", "supervisor");
    entry.details.insert("version".into(), cell.version.as_str().into());
    entry.details.insert("reason".into(), reason.into());
    entry.cell = Some(cell.clone());
    entry
}
