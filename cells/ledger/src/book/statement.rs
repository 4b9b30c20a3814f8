//! Statements of an account, read from its entries.

use aibos_cell::{Listing, Page, Problem, Timestamp, cursor, state};

use crate::account::{self, Account};
use crate::balance::Corrupt;
use crate::statement::{Balance, ENTRIES_MAX, Line, Running, is_by};
use crate::transaction::{AccountEntry, EntryKeys};

/// Entries that one list of the host answers here.
const CHUNK: u32 = 1000;

/// What an account held at a moment; none when it was never opened.
pub(crate) fn balances_at(code: &str, at: Timestamp) -> Result<Option<(Account, Vec<Balance>)>, Problem> {
    let Some(account) = state::get::<Account>(&account::key(code))? else { return Ok(None) };
    let prefix = EntryKeys::prefix(code);
    let (mut running, mut added, mut after) = (Running::default(), 0_usize, None::<String>);
    loop {
        let chunk = state::list(&prefix, after.as_deref(), CHUNK)?;
        let last = chunk.len() < usize::try_from(CHUNK).unwrap_or(usize::MAX);
        after = chunk.last().map(|entry| entry.key.clone());
        for entry in chunk {
            if !is_by(entry.key.strip_prefix(&prefix).unwrap_or_default(), at) {
                return Ok(Some((account, running.balances())));
            }
            added = added.saturating_add(1);
            if added > ENTRIES_MAX {
                let detail = format!(
                    "More than {ENTRIES_MAX} entries lie before that moment. Read `/ledger/accounts/{code}/statement` in \
                     pages; its last page has the balances."
                );
                return Err(Problem::new(422, "STATEMENT_TOO_LONG", detail));
            }
            let entry: AccountEntry = entry.value.json()?;
            running.add(&entry, account.normal_balance).ok_or(Corrupt::Overflow)?;
        }
        if last {
            return Ok(Some((account, running.balances())));
        }
    }
}

/// A page of a statement, and the balances at its end.
pub(crate) type StatementPage = (Listing<Line>, Vec<Balance>);

/// One page of an account's entries up to a moment, oldest first, each with the balance after it, and the balances at the
/// end of the page; none when the account was never opened. A page begins with the sums that its cursor brings, so a
/// statement may be as long as it likes.
pub(crate) fn statement(code: &str, at: Timestamp, page: &Page) -> Result<Option<StatementPage>, Problem> {
    let Some(account) = state::get::<Account>(&account::key(code))? else { return Ok(None) };
    let prefix = EntryKeys::prefix(code);
    let (after, mut running) = match &page.after {
        None => (None, Running::default()),
        Some(position) => {
            let (suffix, running) = Running::resume(position)
                .ok_or_else(|| Problem::invalid("/query/cursor", "must be the next_cursor of an earlier page"))?;
            (Some(format!("{prefix}{suffix}")), running)
        }
    };
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let mut entries = state::list(&prefix, after.as_deref(), page.limit.saturating_add(1))?;
    entries.retain(|entry| is_by(entry.key.strip_prefix(&prefix).unwrap_or_default(), at));
    let more = entries.len() > limit;
    entries.truncate(limit);
    let end = entries.last().and_then(|entry| entry.key.strip_prefix(&prefix)).unwrap_or_default().to_owned();
    let mut data = Vec::with_capacity(entries.len());
    for entry in entries {
        let entry: AccountEntry = entry.value.json()?;
        let balance = running.add(&entry, account.normal_balance).ok_or(Corrupt::Overflow)?;
        data.push(Line { entry, balance });
    }
    let next_cursor = more.then(|| cursor::encode(&running.position(&end)));
    Ok(Some((Listing { data, next_cursor }, running.balances())))
}
