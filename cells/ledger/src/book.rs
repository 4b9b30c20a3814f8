//! The books in the cell's state: this file and its folder are the only ones that read and write them.
//!
//! A posting is one `read_many` (the transaction's id and the accounts) and then writes only; balances are added to
//! without being read, so payments to the same account never conflict. Only an account with a limit is asked whether it
//! bears the change, and that too by a counter that the host decides at commit.
//!
//! What is answered is one `list`: the host takes a single read as a snapshot, while several are checked at the end, which
//! under load they would never pass.

mod hold;
mod limit;
mod post;
mod statement;

use std::collections::BTreeMap;

use aibos_cell::state::{self, Error, Value};
use aibos_cell::{FieldError, Listing, Page, Problem, Timestamp, events};

use crate::account::{self, Account, Kind};
use crate::balance::{self, Balance, Change, Corrupt, TrialBalance};
use crate::transaction::{AccountEntry, Balanced, Entry, EntryKeys, Transaction, Use, entry_pointer};

pub(crate) use hold::{expire, hold, post_hold, void};
pub(crate) use limit::limit;
pub(crate) use post::{Posted, Receipt, id_taken, post, post_all, transaction};
pub(crate) use statement::{balances_at, statement};

/// How many keys one list of the host answers at most. There are four counters for each currency of the ISO list, so an
/// account with its record and the totals each fit.
const LIST_MAX: u32 = 1000;

/// The accounts that a change touches, each as it is stored, or as it was opened by this very change.
type Accounts = BTreeMap<String, Account>;

/// Opens the accounts that do not exist yet. `found` is what is stored of each, in their order; the errors name each
/// account that is not what the change takes it for.
fn open_accounts(
    uses: &BTreeMap<String, Use>,
    found: impl Iterator<Item = Option<Value>>,
    now: Timestamp,
) -> Result<Result<Accounts, Vec<FieldError>>, Problem> {
    let mut accounts = Accounts::new();
    let mut errors = Vec::new();
    for ((code, Use { kind, entry }), value) in uses.iter().zip(found) {
        let account = if let Some(value) = value {
            value.json::<Account>()?
        } else {
            let account = Account::open(*kind, now);
            state::put_if_absent(&account::key(code), &account)?;
            account
        };
        if account.kind != *kind {
            errors.push(FieldError::new(entry_pointer(*entry, "account"), account::wrong_kind(code, *kind)));
        }
        accounts.insert(code.clone(), account);
    }
    Ok(if errors.is_empty() { Ok(accounts) } else { Err(errors) })
}

/// What is stored under a key and of the accounts of a draft.
fn look(key: String, balanced: &Balanced) -> Result<(Option<Value>, std::vec::IntoIter<Option<Value>>), Error> {
    let account_keys = balanced.accounts().keys().map(|code| account::key(code));
    let keys: Vec<String> = std::iter::once(key).chain(account_keys).collect();
    let mut values = state::read_many(&keys)?.into_iter();
    Ok((values.next().flatten(), values))
}

/// Adds the changes to every counter that they touch. 409 `ACCOUNT_LIMIT` when an account may not bear them.
fn count(changes: &[(Change, &Entry)], accounts: &Accounts) -> Result<(), Problem> {
    for (key, delta) in balance::additions(changes)? {
        state::add(&key, delta)?;
    }
    for (key, delta, min) in balance::limited(changes, accounts)? {
        if delta >= 0 {
            state::add(&key, delta)?;
        } else if !state::add_bounded(&key, delta, min)? {
            let detail = format!("An account would have less than {min} minor units available, which is its limit.");
            return Err(Problem::new(409, "ACCOUNT_LIMIT", detail));
        }
    }
    Ok(())
}

/// Writes a posted transaction with its lines, and publishes it. The counters are the caller's part.
fn enter(transaction: &Transaction, now: Timestamp) -> Result<(), Problem> {
    state::put(&crate::transaction::key(&transaction.id), transaction)?;
    let keys = EntryKeys::new(now, &transaction.id);
    for (index, entry) in transaction.entries.iter().enumerate() {
        state::put(&keys.key(&entry.account, index), &entry.for_account(transaction))?;
    }
    events::publish("ledger.transaction.posted", Some(&transaction.id), transaction)?;
    Ok(())
}

/// Each entry with the same change.
fn all(change: Change, entries: &[Entry]) -> impl Iterator<Item = (Change, &Entry)> {
    entries.iter().map(move |entry| (change, entry))
}

/// Opens an account if there is none; answers it, or why the one that there is cannot be used.
pub(crate) fn open(code: &str, kind: Kind, now: Timestamp) -> Result<Result<Account, String>, Error> {
    let key = account::key(code);
    let account = if let Some(account) = state::get::<Account>(&key)? {
        account
    } else {
        let account = Account::open(kind, now);
        state::put_if_absent(&key, &account)?;
        account
    };
    Ok(if account.kind == kind { Ok(account) } else { Err(account::wrong_kind(code, kind)) })
}

/// An account and its balances; none when it was never opened.
pub(crate) fn account(code: &str) -> Result<Option<(Account, Vec<Balance>)>, Problem> {
    let prefix = account::prefix(code);
    let mut record = None;
    let mut counters = Vec::new();
    for (name, value) in list(&prefix)? {
        if name == account::RECORD {
            record = Some(value.json::<Account>()?);
        } else {
            counters.push((name, value.counter()?));
        }
    }
    let Some(record) = record else {
        return if counters.is_empty() { Ok(None) } else { Err(Corrupt::NoAccount(code.to_owned()).into()) };
    };
    let balances = balance::of_account(&record, &counters)?;
    Ok(Some((record, balances)))
}

/// One page of an account's entries, oldest first; none when the account was never opened.
pub(crate) fn entries(code: &str, page: &Page) -> Result<Option<Listing<AccountEntry>>, Error> {
    let entries: Listing<AccountEntry> = state::page(&EntryKeys::prefix(code), page)?;
    // Who has entries was opened: the account is asked for only where nothing changes under load.
    let known = !entries.data.is_empty() || state::read(&account::key(code))?.is_some();
    Ok(known.then_some(entries))
}

/// Debits and credits of all accounts.
pub(crate) fn trial_balance() -> Result<Vec<TrialBalance>, Problem> {
    let totals = list(balance::TOTAL_PREFIX)?.into_iter();
    let counters: Vec<(String, i64)> =
        totals.map(|(name, value)| Ok((name, value.counter()?))).collect::<Result<_, Error>>()?;
    Ok(balance::trial(&counters)?)
}

/// Everything under a prefix, by its name there.
fn list(prefix: &str) -> Result<Vec<(String, Value)>, Error> {
    let entries = state::list(prefix, None, LIST_MAX)?.into_iter();
    Ok(entries.map(|entry| (entry.key.strip_prefix(prefix).unwrap_or(&entry.key).to_owned(), entry.value)).collect())
}

/// Wrong books are a failure of the cell, never the caller's.
impl From<Corrupt> for Problem {
    fn from(reason: Corrupt) -> Self {
        Self::internal(format!("the balances are wrong: {reason:?}"))
    }
}
