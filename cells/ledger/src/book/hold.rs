//! Holds in the books: opened, posted, voided, expired.

use aibos_cell::{Problem, Timestamp, events, state};

use crate::account::{self, Account};
use crate::balance::Change;
use crate::hold::{self, End, EndStatus, Hold, Refusal};
use crate::transaction::{self, Balanced, Entry, Transaction};

use super::{Accounts, all, count, enter, look, open_accounts};

/// Holds what the draft says, opening the accounts that do not exist yet, and publishes `ledger.transaction.pending`.
pub(crate) fn hold(balanced: &Balanced, expires_at: Timestamp, now: Timestamp) -> Result<Hold, Problem> {
    let (before, found) = look(hold::key(balanced.id()), balanced)?;
    if before.is_some() {
        return Err(taken());
    }
    let accounts = open_accounts(balanced.accounts(), found, now)?.map_err(Problem::validation)?;
    let hold = Hold::begin(balanced, expires_at, now);
    open(&hold)?;
    let changes: Vec<_> = all(Change::Hold, &hold.entries).collect();
    count(&changes, &accounts)?;
    Ok(hold)
}

/// Posts all or part of a hold as the transaction `posted_id`. What is left goes on as the hold `rest_id`, or is released.
pub(crate) fn post_hold(
    id: &str,
    posted_id: &str,
    amount: Option<i64>,
    rest_id: Option<&str>,
    now: Timestamp,
) -> Result<Transaction, Problem> {
    let hold = still_open(id, EndStatus::Posted, now)?;
    let accounts = accounts_of(&hold.entries)?;
    let (posted, left) = hold.part(posted_id, amount.unwrap_or(hold.amount()), now).map_err(refused)?;
    if state::read(&transaction::key(posted_id))?.is_some() {
        return Err(taken());
    }
    let rest = rest_id.filter(|_| left > 0).map(|rest_id| hold.rest(rest_id, left, now));
    if let Some(rest) = &rest {
        if state::read(&hold::key(&rest.id))?.is_some() {
            return Err(taken());
        }
        open(rest)?;
    }
    let ended = hold.end(EndStatus::Posted, now);
    let rest_id = rest.as_ref().map(|rest| rest.id.clone());
    state::put(&hold::end_key(id), &End { transaction_id: Some(posted.id.clone()), rest: rest_id, ..ended })?;
    enter(&posted, now)?;
    let kept = rest.iter().flat_map(|rest| all(Change::Hold, &rest.entries));
    let changes: Vec<_> =
        all(Change::Release, &hold.entries).chain(all(Change::Post, &posted.entries)).chain(kept).collect();
    count(&changes, &accounts)?;
    Ok(posted)
}

/// Gives a hold up, and publishes `ledger.transaction.voided`.
pub(crate) fn void(id: &str, now: Timestamp) -> Result<End, Problem> {
    release(id, EndStatus::Voided, "ledger.transaction.voided", now)
}

/// Ends a hold whose time is over, and publishes `ledger.transaction.expired`.
pub(crate) fn expire(id: &str, now: Timestamp) -> Result<End, Problem> {
    release(id, EndStatus::Expired, "ledger.transaction.expired", now)
}

fn release(id: &str, how: EndStatus, event: &str, now: Timestamp) -> Result<End, Problem> {
    let hold = still_open(id, how, now)?;
    let accounts = accounts_of(&hold.entries)?;
    let end = hold.end(how, now);
    state::put(&hold::end_key(id), &end)?;
    let changes: Vec<_> = all(Change::Release, &hold.entries).collect();
    count(&changes, &accounts)?;
    events::publish(event, Some(id), &end)?;
    Ok(end)
}

fn open(hold: &Hold) -> Result<(), Problem> {
    state::put(&hold::key(&hold.id), hold)?;
    events::publish("ledger.transaction.pending", Some(&hold.id), hold)?;
    Ok(())
}

/// The hold, if it may end in this way now.
fn still_open(id: &str, how: EndStatus, now: Timestamp) -> Result<Hold, Problem> {
    let mut values = state::read_many(&[hold::key(id), hold::end_key(id)])?.into_iter().flatten();
    let hold: Hold = values.next().ok_or_else(|| Problem::not_found("There is no hold with this id."))?.json()?;
    let end = values.next().map(|value| value.json::<End>()).transpose()?;
    hold.may_end(end.as_ref(), how, now).map_err(refused)?;
    Ok(hold)
}

fn accounts_of(entries: &[Entry]) -> Result<Accounts, Problem> {
    let keys: Vec<String> = entries.iter().map(|entry| account::key(&entry.account)).collect();
    let mut accounts = Accounts::new();
    for (entry, value) in entries.iter().zip(state::read_many(&keys)?) {
        let missing = || Problem::internal(format!("{} has a hold and no record", entry.account));
        accounts.insert(entry.account.clone(), value.ok_or_else(missing)?.json::<Account>()?);
    }
    Ok(accounts)
}

fn taken() -> Problem {
    Problem::new(409, "TRANSACTION_EXISTS", "Another transaction or hold has this id.")
}

fn refused(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::Ended(status) => {
            let status = match status {
                EndStatus::Posted => "posted",
                EndStatus::Voided => "voided",
                EndStatus::Expired => "expired",
            };
            Problem::new(409, "HOLD_ENDED", format!("The hold is {status}; a hold ends once.")).member("status", status)
        }
        Refusal::Expired => Problem::new(409, "HOLD_EXPIRED", "The hold's time is over; it can only expire."),
        Refusal::NotExpired => Problem::new(409, "HOLD_NOT_EXPIRED", "The hold's time is not over."),
        Refusal::Amount { held } => {
            let detail = format!("From 1 to {held} minor units can be posted, which is what is held.");
            Problem::new(422, "HOLD_EXCEEDED", detail).member("held", held)
        }
    }
}
