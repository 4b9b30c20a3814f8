//! Transactions: at least two entries whose debits equal their credits in every currency. A [`Transaction`] can only be
//! made from a [`Draft`] that passed [`Draft::check`], and is never edited after that.

use std::collections::BTreeMap;

use aibos_cell::money::AMOUNT_MAX;
use aibos_cell::{Currency, FieldError, Money, Timestamp};
use serde::{Deserialize, Serialize};

use crate::account::{self, Direction, Kind};

/// How many entries a transaction holds at most. Each costs up to six of the thousand writes of a call: its account, its
/// line and the two parts of two counters.
pub const ENTRIES_MAX: usize = 100;

/// A transaction as it is asked for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a transaction")]
pub struct Draft {
    /// Chosen by the caller, who can therefore send it again.
    pub id: String,
    /// Two or more.
    pub entries: Vec<DraftEntry>,
    /// The posted transaction that this one takes back, in whole or in part.
    pub reverses: Option<String>,
}

/// One line of a draft.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an entry")]
pub struct DraftEntry {
    /// The account's code; an unknown one is opened.
    pub account: String,
    /// What the caller takes the account for; an account of another kind refuses the transaction.
    pub kind: Kind,
    /// Which side.
    pub direction: Direction,
    /// Minor units, more than zero.
    pub amount: i64,
    /// The currency.
    pub currency: Currency,
}

/// A transaction that balances, not posted yet.
#[derive(Clone, Debug)]
pub struct Balanced {
    id: String,
    entries: Vec<Entry>,
    accounts: BTreeMap<String, Use>,
    reverses: Option<String>,
}

/// What a transaction takes an account for.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    /// What the account must be.
    pub kind: Kind,
    /// The first entry that says so.
    pub entry: usize,
}

/// A posted transaction, as it is stored at `transaction/{id}` and published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// The caller's id.
    pub id: String,
    /// RFC 3339, UTC.
    pub posted_at: String,
    /// In the order of the draft.
    pub entries: Vec<Entry>,
    /// The posted transaction that this one takes back. Since format 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverses: Option<String>,
    /// The hold that this one ended by posting all or part of it. Since format 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolves: Option<String>,
}

/// Where a posted transaction is stored.
#[must_use]
pub fn key(id: &str) -> String {
    format!("transaction/{id}")
}

/// One line of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The account it changes.
    pub account: String,
    /// Which side.
    pub direction: Direction,
    /// Minor units, more than zero.
    pub amount: i64,
    /// The currency.
    pub currency: Currency,
}

/// One line of an account, as it is stored at [`EntryKeys::key`] and listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountEntry {
    /// The transaction it belongs to.
    pub transaction_id: String,
    /// Which side.
    pub direction: Direction,
    /// Minor units, more than zero.
    pub amount: i64,
    /// The currency.
    pub currency: Currency,
    /// RFC 3339, UTC.
    pub posted_at: String,
}

/// The keys of one transaction's entries: `entry/{account}/{posted at}-{transaction}/{n}`, with the time in milliseconds
/// as 15 digits (enough until the year 33658), so that the order of an account's keys is the order of posting.
///
/// The time is when the call that posts began. Calls that run at the same moment may commit in another order than they
/// began: an entry can still appear before newer ones for as long as its call may run, and hosts' clocks may differ.
#[derive(Clone, Debug)]
pub struct EntryKeys {
    posting: String,
}

impl EntryKeys {
    /// The keys of a transaction that is posted now.
    #[must_use]
    pub fn new(now: Timestamp, transaction_id: &str) -> Self {
        Self { posting: format!("{:015}-{transaction_id}", now.milliseconds()) }
    }

    /// The key of the entry at `index` of the transaction.
    #[must_use]
    pub fn key(&self, account: &str, index: usize) -> String {
        let Self { posting } = self;
        format!("entry/{account}/{posting}/{index:03}")
    }

    /// The prefix of one account's entries.
    #[must_use]
    pub fn prefix(account: &str) -> String {
        format!("entry/{account}/")
    }
}

impl Draft {
    /// Checks everything that can be known without the books, and names every wrong field.
    pub fn check(mut self) -> Result<Balanced, Vec<FieldError>> {
        let mut errors = Vec::new();
        if !account::is_code(&self.id) {
            errors.push(FieldError::new("/id", account::CODE_RULE));
        }
        if !(2..=ENTRIES_MAX).contains(&self.entries.len()) {
            let message = format!("must hold 2 to {ENTRIES_MAX} entries");
            errors.push(FieldError::new("/entries", message));
        }
        if !self.reverses.as_deref().is_none_or(account::is_code) {
            errors.push(FieldError::new("/reverses", account::CODE_RULE));
        }
        let mut entries = Vec::with_capacity(self.entries.len());
        let mut accounts: BTreeMap<String, Use> = BTreeMap::new();
        for (index, draft) in std::mem::take(&mut self.entries).into_iter().enumerate() {
            let first = Use { kind: draft.kind, entry: index };
            let first = *accounts.entry(draft.account.clone()).or_insert(first);
            match draft.check(first.kind) {
                Ok(entry) => entries.push(entry),
                Err((field, message)) => errors.push(FieldError::new(entry_pointer(index, field), message)),
            }
        }
        if errors.is_empty() && !balances(&entries) {
            let message = "debits must equal credits in every currency";
            errors.push(FieldError::new("/entries", message));
        }
        let Self { id, reverses, .. } = self;
        if errors.is_empty() { Ok(Balanced { id, entries, accounts, reverses }) } else { Err(errors) }
    }
}

impl DraftEntry {
    /// `kind` is what the first entry on the same account took it for.
    fn check(self, kind: Kind) -> Result<Entry, (&'static str, String)> {
        if !account::is_code(&self.account) {
            return Err(("account", account::CODE_RULE.to_owned()));
        }
        if self.kind != kind || !self.kind.may_be_called(&self.account) {
            return Err(("account", account::wrong_kind(&self.account, self.kind)));
        }
        let money = Money::new(self.amount, self.currency)
            .ok()
            .filter(|money| money.amount() > 0)
            .ok_or_else(|| ("amount", format!("must be an integer from 1 to {AMOUNT_MAX}")))?;
        Ok(Entry {
            account: self.account,
            direction: self.direction,
            amount: money.amount(),
            currency: money.currency(),
        })
    }
}

/// The JSON Pointer of a field of an entry.
#[must_use]
pub fn entry_pointer(index: usize, field: &str) -> String {
    format!("/entries/{index}/{field}")
}

/// Sums in 128 bits: a hundred entries of 53 bits cannot overflow them; a sum that did would not count as balanced.
fn balances(entries: &[Entry]) -> bool {
    let mut sums: BTreeMap<Currency, i128> = BTreeMap::new();
    for entry in entries {
        let amount = i128::from(entry.amount);
        let signed = match entry.direction {
            Direction::Debit => Some(amount),
            Direction::Credit => amount.checked_neg(),
        };
        let sum = sums.entry(entry.currency).or_default();
        match signed.and_then(|signed| sum.checked_add(signed)) {
            Some(next) => *sum = next,
            None => return false,
        }
    }
    sums.values().all(|sum| *sum == 0)
}

impl Balanced {
    /// The caller's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Each account once, with what the transaction takes it for.
    #[must_use]
    pub fn accounts(&self) -> &BTreeMap<String, Use> {
        &self.accounts
    }

    /// The lines.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The posted transaction that this one takes back.
    #[must_use]
    pub fn reverses(&self) -> Option<&str> {
        self.reverses.as_deref()
    }

    /// The transaction as it enters the books.
    #[must_use]
    pub fn post(self, now: Timestamp) -> Transaction {
        let Self { id, entries, reverses, .. } = self;
        Transaction { id, posted_at: now.to_string(), entries, reverses, resolves: None }
    }

    /// Is this what was posted before, the time apart?
    #[must_use]
    pub fn is_repeat_of(&self, posted: &Transaction) -> bool {
        self.entries == posted.entries && self.reverses == posted.reverses
    }
}

impl Entry {
    /// The same line as its account shows it.
    #[must_use]
    pub fn for_account(&self, transaction: &Transaction) -> AccountEntry {
        AccountEntry {
            transaction_id: transaction.id.clone(),
            direction: self.direction,
            amount: self.amount,
            currency: self.currency,
            posted_at: transaction.posted_at.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
