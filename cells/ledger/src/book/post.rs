//! Posting a transaction, reversals too.

use aibos_cell::{FieldError, Problem, Timestamp, state};
use serde::Serialize;

use crate::balance::{Change, Corrupt};
use crate::reversal::{self, Refusal, Reversed};
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

/// Posts reversals, in their order: all of them, or the first reason against one of them, after which the caller keeps none.
pub(crate) fn post_all(drafts: Vec<Balanced>, now: Timestamp) -> Result<Vec<Receipt>, Problem> {
    let one = |draft| match post(draft, now)? {
        Posted::New(receipt) | Posted::Before(receipt) => Ok(receipt),
        Posted::IdTaken => Err(id_taken()),
        Posted::Refused(errors) => Err(Problem::validation(errors)),
    };
    drafts.into_iter().map(one).collect()
}

/// Another transaction has the id.
pub(crate) fn id_taken() -> Problem {
    Problem::new(409, "TRANSACTION_EXISTS", "Another transaction has this id.")
}

/// Checks the reversal against the original and what was taken back of it before, and remembers it.
fn take_back(original: &str, reversal: &Balanced) -> Result<(), Problem> {
    let found = transaction(original)?
        .ok_or_else(|| Problem::new(409, "NOTHING_TO_REVERSE", "The transaction to take back is not in the books."))?;
    let key = reversal::key(original);
    let before = if let Some(before) = state::get(&key)? { before } else { listed(original)? };
    let after = before.take_back(&found, reversal.entries()).map_err(refused)?;
    state::put(&key, &after)?;
    state::put(&format!("{}{}", reversal::prefix(original), reversal.id()), reversal.entries())?;
    Ok(())
}

/// What was taken back by reversals that were written before there was one record of it.
fn listed(original: &str) -> Result<Reversed, Problem> {
    // One more than there may be is enough to see that there are too many.
    let limit = u32::try_from(reversal::REVERSALS_MAX).unwrap_or(u32::MAX).saturating_add(1);
    let before = state::list(&reversal::prefix(original), None, limit)?.into_iter().map(|entry| entry.value.json());
    let before = before.collect::<Result<Vec<Vec<Entry>>, _>>()?;
    Ok(Reversed::sum(&before).ok_or(Corrupt::Overflow)?)
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
