//! The books in the cell's state: the only file that reads and writes them.
//!
//! A posting is one `read_many` (the transaction's id and the accounts) and then writes only; balances are added to
//! without being read, so payments to the same account never conflict.
//!
//! What is answered is one `list`: the host takes a single read as a snapshot, while several are checked at the end, which
//! under load they would never pass.

use aibos_cell::state::{self, Error, Value};
use aibos_cell::{FieldError, Listing, Page, Problem, Timestamp, events};
use serde::Serialize;

use crate::account::{self, Account, Kind};
use crate::balance::{self, Balance, Corrupt, TrialBalance};
use crate::transaction::{AccountEntry, Balanced, EntryKeys, Transaction, Use, entry_pointer};

/// How many keys one list of the host answers at most. There are four counters for each currency of the ISO list, so an
/// account with its record and the totals each fit.
const LIST_MAX: u32 = 1000;

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
    let key = format!("transaction/{}", balanced.id());
    let account_keys = balanced.accounts().keys().map(|code| account::key(code));
    let keys: Vec<String> = std::iter::once(key.clone()).chain(account_keys).collect();
    let mut values = state::read_many(&keys)?.into_iter();
    if let Some(before) = values.next().flatten() {
        let before: Transaction = before.json()?;
        return Ok(if balanced.is_repeat_of(&before) { Posted::Before(before.into()) } else { Posted::IdTaken });
    }
    let mut errors = Vec::new();
    for ((code, Use { kind, entry }), value) in balanced.accounts().iter().zip(values) {
        match value.map(|value| value.json::<Account>()).transpose()? {
            None => {
                state::put_if_absent(&account::key(code), &Account::open(*kind, now))?;
            }
            Some(account) if account.kind == *kind => {}
            Some(_) => errors.push(FieldError::new(entry_pointer(*entry, "account"), account::wrong_kind(code, *kind))),
        }
    }
    if !errors.is_empty() {
        return Ok(Posted::Refused(errors));
    }
    let transaction = balanced.post(now);
    write(&key, &transaction, now)?;
    Ok(Posted::New(transaction.into()))
}

fn write(key: &str, transaction: &Transaction, now: Timestamp) -> Result<(), Problem> {
    state::put(key, transaction)?;
    let keys = EntryKeys::new(now, &transaction.id);
    for (index, entry) in transaction.entries.iter().enumerate() {
        state::put(&keys.key(&entry.account, index), &entry.for_account(transaction))?;
    }
    for (key, delta) in balance::additions(transaction)? {
        state::add(&key, delta)?;
    }
    events::publish("ledger.transaction.posted", Some(&transaction.id), transaction)?;
    Ok(())
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
    let balances = balance::of_account(record.normal_balance, &counters)?;
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
