//! Why a call of a cell has no reply of its own. What a client hears of it is the edge's to say.

use crate::cell::outcome::Outcome;
use crate::cell::supervisor::Refused;
use crate::state::committer::CommitError;
use crate::state::work::WorkError;

/// Why a call has no reply of its own.
#[derive(Debug)]
pub enum CallError {
    /// The cell is not active.
    Inactive(String),
    /// All slots are taken.
    Overloaded,
    /// Its breaker is open.
    BreakerOpen(Refused),
    /// It is quarantined.
    Quarantined,
    /// The cell failed; nothing remains but the report.
    Failed(Outcome),
    /// The cell answered with a 5xx other than 503.
    Withheld(u16),
    /// It kept conflicting.
    Conflicted,
    /// The idempotency key belongs to another request.
    KeyReused,
    /// The first request with this key is still running.
    KeyInUse,
    /// The database failed below a read.
    Work(WorkError),
    /// The commit failed.
    Commit(CommitError),
}

impl From<WorkError> for CallError {
    fn from(error: WorkError) -> Self {
        Self::Work(error)
    }
}

impl From<CommitError> for CallError {
    fn from(error: CommitError) -> Self {
        Self::Commit(error)
    }
}
