//! Balances: counters to which every posting adds without reading them, so that an account which every payment touches
//! never makes two payments conflict. Each posting adds to its accounts and, with the same amounts, to the totals of its
//! currencies: the trial balance reads only those.
//!
//! A counter of the host has 63 bits and one amount up to 53, so a thousand large amounts would fill it, and every later
//! payment would fail. Each sum is therefore kept in two counters, a high and a low part: `high · 10^9 + low`. The low one
//! grows by less than 10^9 with a posting and the high one by less still: nine billion postings cannot fill either.
//!
//! What is held is counted on one counter for each side, because an account's record and all its counters must fit into
//! one list of the host. It goes down again with each hold that ends: a thousand of the largest amounts fit at one time,
//! and the next would be refused, not counted wrong.
//!
//! Sums leave this file in 128 bits, which they cannot fill, and replies show them as JSON integers with every digit. JSON
//! sets no limit; a reader that keeps numbers as doubles is exact up to 2^53 − 1 (RFC 8259 section 6). Nothing is refused
//! or cut off for its size.

use std::collections::BTreeMap;

use aibos_cell::Currency;
use serde::Serialize;

use crate::account::{self, Account, Direction};
use crate::transaction::Entry;

/// The prefix of the totals over all accounts.
pub const TOTAL_PREFIX: &str = "total/";

/// How much one unit of a high part counts for. The low part of an amount is less.
const HIGH_UNIT: i64 = 1_000_000_000;

/// What an account holds in one currency, in minor units, positive on the account's normal side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Balance {
    /// The currency.
    pub currency: Currency,
    /// The sum of all posted entries.
    pub posted: i128,
    /// The sum of what is held and not posted yet.
    pub pending: i128,
    /// What can be used now: `posted` without what is held to go out.
    pub available: i128,
    /// How low `available` may fall, where the account has a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_available: Option<i64>,
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It enters the books.
    Post,
    /// It is held.
    Hold,
    /// It is no longer held.
    Release,
}

/// All debits and all credits of one currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrialBalance {
    /// The currency.
    pub currency: Currency,
    /// The sum of all debits.
    pub debits: i128,
    /// The sum of all credits.
    pub credits: i128,
}

/// Why the counters do not add up to balances. Never the caller's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Corrupt {
    /// A counter of a name that this version did not write.
    UnknownCounter(String),
    /// Counters of an account that has no record.
    NoAccount(String),
    /// A sum leaves its bits.
    Overflow,
}

/// The sums of one currency.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    debits: i128,
    credits: i128,
    held_debits: i128,
    held_credits: i128,
}

/// What one counter counts.
#[derive(Clone, Copy, Debug)]
enum Counted {
    Posted(Direction, Part),
    Held(Direction),
}

/// Whose sums: each has its words for the two sides.
#[derive(Clone, Copy, Debug)]
enum Scope {
    Account,
    Total,
}

impl Scope {
    fn side(self, direction: Direction) -> &'static str {
        match (self, direction) {
            (Self::Account, Direction::Debit) => "posted-debits",
            (Self::Account, Direction::Credit) => "posted-credits",
            (Self::Total, Direction::Debit) => "debits",
            (Self::Total, Direction::Credit) => "credits",
        }
    }

    /// What a counter counts, from its name under the prefix.
    fn parse(self, name: &str) -> Option<(Currency, Counted)> {
        let (currency, rest) = name.split_once('/')?;
        let currency = Currency::parse(currency)?;
        let sides = [Direction::Debit, Direction::Credit];
        let Some((side, part)) = rest.split_once('/') else {
            let held = |direction: &Direction| matches!(self, Self::Account) && held_side(*direction) == rest;
            return Some((currency, Counted::Held(sides.into_iter().find(held)?)));
        };
        let direction = sides.into_iter().find(|it| self.side(*it) == side)?;
        let part = [Part::High, Part::Low].into_iter().find(|it| it.name() == part)?;
        Some((currency, Counted::Posted(direction, part)))
    }

    /// The sums of the counters given, by currency.
    fn sums(self, counters: &[(String, i64)]) -> Result<BTreeMap<Currency, Sums>, Corrupt> {
        let mut sums: BTreeMap<Currency, Sums> = BTreeMap::new();
        for (name, value) in counters {
            let unknown = || Corrupt::UnknownCounter(name.clone());
            let (currency, counted) = self.parse(name).ok_or_else(unknown)?;
            let of = sums.entry(currency).or_default();
            let (sum, worth) = match counted {
                Counted::Posted(Direction::Debit, part) => (&mut of.debits, part.worth(*value)),
                Counted::Posted(Direction::Credit, part) => (&mut of.credits, part.worth(*value)),
                Counted::Held(Direction::Debit) => (&mut of.held_debits, Some(i128::from(*value))),
                Counted::Held(Direction::Credit) => (&mut of.held_credits, Some(i128::from(*value))),
            };
            *sum = worth.and_then(|worth| sum.checked_add(worth)).ok_or(Corrupt::Overflow)?;
        }
        Ok(sums)
    }
}

/// The counter of what is held on a side of an account.
fn held_side(direction: Direction) -> &'static str {
    match direction {
        Direction::Debit => "pending-debits",
        Direction::Credit => "pending-credits",
    }
}

/// One of the two counters of a sum.
#[derive(Clone, Copy, Debug)]
enum Part {
    High,
    Low,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Low => "low",
        }
    }

    fn of(self, amount: i64) -> i64 {
        match self {
            Self::High => amount / HIGH_UNIT,
            Self::Low => amount % HIGH_UNIT,
        }
    }

    fn worth(self, value: i64) -> Option<i128> {
        match self {
            Self::High => i128::from(value).checked_mul(i128::from(HIGH_UNIT)),
            Self::Low => Some(i128::from(value)),
        }
    }
}

/// What changes add to which counter: one addition for each counter, also when several entries share it, and none of
/// zero.
pub fn additions(changes: &[(Change, &Entry)]) -> Result<Vec<(String, i64)>, Corrupt> {
    let mut posted: BTreeMap<String, i64> = BTreeMap::new();
    let mut held: BTreeMap<String, i64> = BTreeMap::new();
    for (change, entry) in changes {
        let prefix = account::prefix(&entry.account);
        let currency = entry.currency.code();
        match change {
            Change::Post => {
                for (scope, prefix) in [(Scope::Account, &*prefix), (Scope::Total, TOTAL_PREFIX)] {
                    let key = [prefix, currency, "/", scope.side(entry.direction)].concat();
                    count(&mut posted, key, entry.amount)?;
                }
            }
            Change::Hold | Change::Release => {
                let key = [&prefix, currency, "/", held_side(entry.direction)].concat();
                count(&mut held, key, if *change == Change::Hold { entry.amount } else { negative(entry.amount)? })?;
            }
        }
    }
    let mut additions = Vec::with_capacity(posted.len().saturating_add(held.len()));
    for (key, sum) in posted {
        for part in [Part::High, Part::Low] {
            additions.push(([&key, "/", part.name()].concat(), part.of(sum)));
        }
    }
    additions.extend(held);
    additions.retain(|(_, delta)| *delta != 0);
    Ok(additions)
}

/// How much less or more is available on the accounts that have a limit, with the limit. What is held to come in is not
/// available before it is posted; what is held to go out is not available any more.
pub fn limited(
    changes: &[(Change, &Entry)],
    accounts: &BTreeMap<String, Account>,
) -> Result<Vec<(String, i64, i64)>, Corrupt> {
    let mut deltas: BTreeMap<(&str, Currency), i64> = BTreeMap::new();
    for (change, entry) in changes {
        let account = accounts.get(&entry.account).ok_or_else(|| Corrupt::NoAccount(entry.account.clone()))?;
        if !account.min_available.contains_key(&entry.currency) {
            continue;
        }
        let delta = match (change, entry.direction == account.normal_balance) {
            (Change::Post, true) | (Change::Release, false) => entry.amount,
            (Change::Post | Change::Hold, false) => negative(entry.amount)?,
            (Change::Hold | Change::Release, true) => 0,
        };
        count(&mut deltas, (entry.account.as_str(), entry.currency), delta)?;
    }
    let limit = |((code, currency), delta): ((&str, Currency), i64)| {
        let min = *accounts.get(code)?.min_available.get(&currency)?;
        Some((account::available_key(code, currency), delta, min))
    };
    Ok(deltas.into_iter().filter(|(_, delta)| *delta != 0).filter_map(limit).collect())
}

fn count<K: Ord>(sums: &mut BTreeMap<K, i64>, key: K, amount: i64) -> Result<(), Corrupt> {
    let sum = sums.entry(key).or_default();
    *sum = sum.checked_add(amount).ok_or(Corrupt::Overflow)?;
    Ok(())
}

fn negative(amount: i64) -> Result<i64, Corrupt> {
    amount.checked_neg().ok_or(Corrupt::Overflow)
}

/// The balances of one account, by currency, from its counters by their names under the account's prefix.
pub fn of_account(account: &Account, counters: &[(String, i64)]) -> Result<Vec<Balance>, Corrupt> {
    let balance = |(currency, sums): (Currency, Sums)| {
        let Sums { debits, credits, held_debits, held_credits } = sums;
        let (grown, shrunk, held_in, held_out) = match account.normal_balance {
            Direction::Debit => (debits, credits, held_debits, held_credits),
            Direction::Credit => (credits, debits, held_credits, held_debits),
        };
        let posted = grown.checked_sub(shrunk)?;
        let pending = held_in.checked_sub(held_out)?;
        let available = posted.checked_sub(held_out)?;
        Some(Balance {
            currency,
            posted,
            pending,
            available,
            min_available: account.min_available.get(&currency).copied(),
        })
    };
    Scope::Account.sums(counters)?.into_iter().map(|sums| balance(sums).ok_or(Corrupt::Overflow)).collect()
}

/// All debits and all credits, by currency, from the totals by their names under [`TOTAL_PREFIX`].
pub fn trial(totals: &[(String, i64)]) -> Result<Vec<TrialBalance>, Corrupt> {
    let sums = Scope::Total.sums(totals)?.into_iter();
    Ok(sums.map(|(currency, Sums { debits, credits, .. })| TrialBalance { currency, debits, credits }).collect())
}

#[cfg(test)]
mod tests;
