//! Balances: counters to which every posting adds without reading them, so that an account which every payment touches
//! never makes two payments conflict. Each posting adds to its accounts and, with the same amounts, to the totals of its
//! currencies: the trial balance reads only those.
//!
//! A counter of the host has 63 bits and one amount up to 53, so a thousand large amounts would fill it, and every later
//! payment would fail. Each sum is therefore kept in two counters, a high and a low part: `high · 10^9 + low`. The low one
//! grows by less than 10^9 with a posting and the high one by less still: nine billion postings cannot fill either.
//!
//! Sums leave this file in 128 bits, which they cannot fill, and replies show them as JSON integers with every digit. JSON
//! sets no limit; a reader that keeps numbers as doubles is exact up to 2^53 − 1 (RFC 8259 section 6). Nothing is refused
//! or cut off for its size.

use std::collections::BTreeMap;

use aibos_cell::Currency;
use serde::Serialize;

use crate::account::{self, Direction};
use crate::transaction::Transaction;

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
    /// The sum of what is held and not posted yet: zero while no holds exist.
    pub pending: i128,
    /// What can be used now: `posted` without what is held to go out.
    pub available: i128,
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
    fn parse(self, name: &str) -> Option<(Currency, Direction, Part)> {
        let (currency, rest) = name.split_once('/')?;
        let (side, part) = rest.split_once('/')?;
        let direction = [Direction::Debit, Direction::Credit].into_iter().find(|it| self.side(*it) == side)?;
        let part = [Part::High, Part::Low].into_iter().find(|it| it.name() == part)?;
        Some((Currency::parse(currency)?, direction, part))
    }

    /// Debits and credits of the counters given, by currency.
    fn sums(self, counters: &[(String, i64)]) -> Result<BTreeMap<Currency, (i128, i128)>, Corrupt> {
        let mut sums: BTreeMap<Currency, (i128, i128)> = BTreeMap::new();
        for (name, value) in counters {
            let unknown = || Corrupt::UnknownCounter(name.clone());
            let (currency, direction, part) = self.parse(name).ok_or_else(unknown)?;
            let (debits, credits) = sums.entry(currency).or_default();
            let side = match direction {
                Direction::Debit => debits,
                Direction::Credit => credits,
            };
            let worth = part.worth(*value).ok_or(Corrupt::Overflow)?;
            *side = side.checked_add(worth).ok_or(Corrupt::Overflow)?;
        }
        Ok(sums)
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

/// What a transaction adds to which counter: one addition for each counter, also when several entries share it, and none
/// of zero.
pub fn additions(transaction: &Transaction) -> Result<Vec<(String, i64)>, Corrupt> {
    let mut sums: BTreeMap<String, i64> = BTreeMap::new();
    for entry in &transaction.entries {
        for (scope, prefix) in [(Scope::Account, &*account::prefix(&entry.account)), (Scope::Total, TOTAL_PREFIX)] {
            let key = [prefix, entry.currency.code(), "/", scope.side(entry.direction)].concat();
            let sum = sums.entry(key).or_default();
            *sum = sum.checked_add(entry.amount).ok_or(Corrupt::Overflow)?;
        }
    }
    let mut additions = Vec::with_capacity(sums.len());
    for (key, sum) in sums {
        for part in [Part::High, Part::Low] {
            let delta = part.of(sum);
            if delta != 0 {
                additions.push(([&key, "/", part.name()].concat(), delta));
            }
        }
    }
    Ok(additions)
}

/// The balances of one account, by currency, from its counters by their names under the account's prefix.
pub fn of_account(normal_balance: Direction, counters: &[(String, i64)]) -> Result<Vec<Balance>, Corrupt> {
    let balance = |(currency, (debits, credits)): (Currency, (i128, i128))| {
        let posted = match normal_balance {
            Direction::Debit => debits.checked_sub(credits),
            Direction::Credit => credits.checked_sub(debits),
        };
        let posted = posted.ok_or(Corrupt::Overflow)?;
        Ok(Balance { currency, posted, pending: 0, available: posted })
    };
    Scope::Account.sums(counters)?.into_iter().map(balance).collect()
}

/// All debits and all credits, by currency, from the totals by their names under [`TOTAL_PREFIX`].
pub fn trial(totals: &[(String, i64)]) -> Result<Vec<TrialBalance>, Corrupt> {
    let sums = Scope::Total.sums(totals)?.into_iter();
    Ok(sums.map(|(currency, (debits, credits))| TrialBalance { currency, debits, credits }).collect())
}

#[cfg(test)]
mod tests;
