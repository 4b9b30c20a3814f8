//! Reversals: a posted transaction is corrected by another one that takes it back, line by line, in whole or in part. All
//! reversals of a transaction together never take back more than it posted.

use std::collections::BTreeMap;

use aibos_cell::Currency;
use serde::{Deserialize, Serialize};

use crate::account::Direction;
use crate::transaction::{Entry, Transaction};

/// How many reversals a transaction may have.
pub const REVERSALS_MAX: usize = 500;

/// Why a reversal is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The original is itself a reversal: what was taken back by mistake is posted anew.
    OfReversal,
    /// Some line takes back more than is left, or what the original never posted.
    TooMuch,
    /// There are [`REVERSALS_MAX`] already.
    TooMany,
}

/// What a line changes: an account's side in a currency.
type Line<'a> = (&'a str, Currency, &'static str);

/// What was taken back of a transaction so far, as it is stored at [`key`]: the next reversal is judged by this one record,
/// which does not grow with the number of reversals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reversed {
    /// How many reversals there are.
    pub count: usize,
    /// What they took back together: one entry for each line of the original.
    pub entries: Vec<Entry>,
}

impl Reversed {
    /// Adds up reversals that were written before there was this record; none when they leave their bits.
    #[must_use]
    pub fn sum(before: &[Vec<Entry>]) -> Option<Self> {
        before.iter().try_fold(Self::default(), |sum, entries| sum.and(entries))
    }

    /// May these entries take back some of this transaction, too? Answers what is taken back then.
    pub fn take_back(self, original: &Transaction, entries: &[Entry]) -> Result<Self, Refusal> {
        if original.reverses.is_some() {
            return Err(Refusal::OfReversal);
        }
        if self.count >= REVERSALS_MAX {
            return Err(Refusal::TooMany);
        }
        let mut left: BTreeMap<Line<'_>, i128> = BTreeMap::new();
        for entry in &original.entries {
            let sum = left.entry(line(entry, entry.direction)).or_default();
            *sum = sum.checked_add(i128::from(entry.amount)).ok_or(Refusal::TooMuch)?;
        }
        // A hundred amounts of 53 bits fit into 63: more than that was never posted.
        let next = self.and(entries).ok_or(Refusal::TooMuch)?;
        let fits = |entry: &Entry| {
            left.get(&line(entry, opposite(entry.direction))).is_some_and(|left| i128::from(entry.amount) <= *left)
        };
        if next.entries.iter().all(fits) { Ok(next) } else { Err(Refusal::TooMuch) }
    }

    fn and(mut self, entries: &[Entry]) -> Option<Self> {
        for entry in entries {
            let side = line(entry, entry.direction);
            match self.entries.iter_mut().find(|known| line(known, known.direction) == side) {
                Some(known) => known.amount = known.amount.checked_add(entry.amount)?,
                None => self.entries.push(entry.clone()),
            }
        }
        self.count = self.count.checked_add(1)?;
        Some(self)
    }
}

fn line(entry: &Entry, direction: Direction) -> Line<'_> {
    let side = match direction {
        Direction::Debit => "debit",
        Direction::Credit => "credit",
    };
    (&entry.account, entry.currency, side)
}

fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Debit => Direction::Credit,
        Direction::Credit => Direction::Debit,
    }
}

/// Where it is stored what was taken back of a transaction.
#[must_use]
pub fn key(original: &str) -> String {
    format!("reversed/{original}")
}

/// The prefix under which a transaction's reversals are listed.
#[must_use]
pub fn prefix(original: &str) -> String {
    format!("reversal/{original}/")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(debited: &str, credited: &str, amount: i64) -> Vec<Entry> {
        let entry = |account: &str, direction| Entry {
            account: account.to_owned(),
            direction,
            amount,
            currency: Currency::parse("EUR").expect("known"),
        };
        vec![entry(debited, Direction::Debit), entry(credited, Direction::Credit)]
    }

    fn original(amount: i64, reverses: Option<&str>) -> Transaction {
        Transaction {
            id: "t1".to_owned(),
            posted_at: String::new(),
            entries: entries("receivable", "acme", amount),
            reverses: reverses.map(str::to_owned),
            resolves: None,
        }
    }

    #[test]
    fn only_the_lines_of_the_original_can_be_taken_back() {
        let check =
            |entries: &[Entry]| Reversed::default().take_back(&original(5, None), entries).map(|next| next.count);
        assert_eq!(check(&entries("acme", "receivable", 5)), Ok(1));
        assert_eq!(check(&entries("acme", "receivable", 6)), Err(Refusal::TooMuch));
        assert_eq!(check(&entries("receivable", "acme", 5)), Err(Refusal::TooMuch));
        assert_eq!(check(&entries("other", "receivable", 5)), Err(Refusal::TooMuch));
    }

    #[test]
    fn a_reversal_is_not_reversed() {
        let back = entries("acme", "receivable", 5);
        let refused = Reversed::default().take_back(&original(5, Some("t0")), &back);
        assert_eq!(refused, Err(Refusal::OfReversal));
    }

    #[test]
    fn there_is_an_end_to_reversals() {
        let one = entries("acme", "receivable", 1);
        let before = Reversed::sum(&vec![one.clone(); REVERSALS_MAX]).expect("in range");
        assert_eq!((before.count, before.entries.len(), before.entries[0].amount), (500, 2, 500));
        assert_eq!(before.take_back(&original(10_000, None), &one), Err(Refusal::TooMany));
    }

    proptest! {
        #[test]
        fn all_reversals_together_take_back_no_more_than_was_posted(
            posted in 1..1_000_i64,
            amounts in prop::collection::vec(1..400_i64, 1..20),
        ) {
            let (mut before, mut record, mut back) = (Vec::new(), Reversed::default(), 0);
            for amount in amounts {
                let entries = entries("acme", "receivable", amount);
                let fits = back + amount <= posted;
                let next = record.clone().take_back(&original(posted, None), &entries);
                prop_assert_eq!(next.is_ok(), fits);
                if let Ok(next) = next {
                    back += amount;
                    before.push(entries);
                    record = next;
                }
                // What was written without the record is the same.
                prop_assert_eq!(Reversed::sum(&before), Some(record.clone()));
            }
        }
    }
}
