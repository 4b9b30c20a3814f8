//! Posting a transaction, reversals too.

use aibos_cell::{FieldError, Problem, Timestamp, state};
use serde::Serialize;

use crate::balance::Change;
use crate::reversal::{self, Refusal};
use crate::transaction::{self, Balanced, Entry, Transaction};

use super::{all, count, enter, look, open_accounts};

/// What became of a transaction.
pub(crate) enum Posted {
    /// It is in the books now.
    New(Receipt),
    /// It was in the books already.
    Before(Receipt),
    /// Another transaction has its id.
    IdTaken,
    /// An account is not what the transaction takes it for.
    Refused(Vec<FieldError>),
}

/// What the caller is told of a posted transaction, whose entries it knows.
#[derive(Serialize)]
pub(crate) struct Receipt {
    id: String,
    posted_at: String,
}

impl From<Transaction> for Receipt {
    fn from(transaction: Transaction) -> Self {
        Self { id: transaction.id, posted_at: transaction.posted_at }
    }
}

/// Posts a transaction, opening the accounts that do not exist yet, and publishes `ledger.transaction.posted`.
pub(crate) fn post(balanced: Balanced, now: Timestamp) -> Result<Posted, Problem> {
    let (before, found) = look(transaction::key(balanced.id()), &balanced)?;
    if let Some(before) = before {
        let before: Transaction = before.json()?;
        return Ok(if balanced.is_repeat_of(&before) { Posted::Before(before.into()) } else { Posted::IdTaken });
    }
    let accounts = match open_accounts(balanced.accounts(), found, now)? {
        Ok(accounts) => accounts,
        Err(errors) => return Ok(Posted::Refused(errors)),
    };
    if let Some(original) = balanced.reverses() {
        take_back(original, &balanced)?;
    }
    let posted = balanced.post(now);
    enter(&posted, now)?;
    let changes: Vec<_> = all(Change::Post, &posted.entries).collect();
    count(&changes, &accounts)?;
    Ok(Posted::New(posted.into()))
}

/// A posted transaction; none when there is none with this id.
pub(crate) fn transaction(id: &str) -> Result<Option<Transaction>, Problem> {
    Ok(state::get(&transaction::key(id))?)
}

/// Checks the reversal against the original and everything that took some of it back before, and remembers it.
fn take_back(original: &str, reversal: &Balanced) -> Result<(), Problem> {
    let prefix = reversal::prefix(original);
    let found = transaction(original)?
        .ok_or_else(|| Problem::new(409, "NOTHING_TO_REVERSE", "The transaction to take back is not in the books."))?;
    // One more than there may be is enough to see that there are too many.
    let limit = u32::try_from(reversal::REVERSALS_MAX).unwrap_or(u32::MAX).saturating_add(1);
    let before = state::list(&prefix, None, limit)?.into_iter().map(|entry| entry.value.json());
    let before = before.collect::<Result<Vec<Vec<Entry>>, _>>()?;
    reversal::check(&found, &before, reversal.entries()).map_err(refused)?;
    state::put(&format!("{prefix}{}", reversal.id()), reversal.entries())?;
    Ok(())
}

fn refused(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::OfReversal => {
            let detail = "A reversal is not reversed; post what it took back anew.";
            Problem::new(409, "REVERSAL_OF_REVERSAL", detail)
        }
        Refusal::TooMuch => {
            let detail = "All reversals of a transaction together take back no more than it posted.";
            Problem::new(409, "REVERSAL_TOO_LARGE", detail)
        }
        Refusal::TooMany => {
            let detail = format!("A transaction has at most {} reversals.", reversal::REVERSALS_MAX);
            Problem::new(409, "TOO_MANY_REVERSALS", detail)
        }
    }
}
