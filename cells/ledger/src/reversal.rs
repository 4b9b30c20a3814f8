//! Reversals: a posted transaction is corrected by another one that takes it back, line by line, in whole or in part. All
//! reversals of a transaction together never take back more than it posted.

use std::collections::BTreeMap;

use aibos_cell::Currency;

use crate::account::Direction;
use crate::transaction::{Entry, Transaction};

/// How many reversals a transaction may have: all are read to judge the next one, in one list.
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

/// May these entries take back this transaction, of which others took back some before?
pub fn check(original: &Transaction, before: &[Vec<Entry>], entries: &[Entry]) -> Result<(), Refusal> {
    if original.reverses.is_some() {
        return Err(Refusal::OfReversal);
    }
    if before.len() >= REVERSALS_MAX {
        return Err(Refusal::TooMany);
    }
    let mut left: BTreeMap<Line<'_>, i128> = BTreeMap::new();
    for entry in &original.entries {
        let sum = left.entry(line(entry, entry.direction)).or_default();
        *sum = sum.checked_add(i128::from(entry.amount)).ok_or(Refusal::TooMuch)?;
    }
    for entry in before.iter().flatten().chain(entries) {
        let sum = left.get_mut(&line(entry, opposite(entry.direction))).ok_or(Refusal::TooMuch)?;
        *sum = sum.checked_sub(i128::from(entry.amount)).filter(|left| *left >= 0).ok_or(Refusal::TooMuch)?;
    }
    Ok(())
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
        let check = |entries: &[Entry]| check(&original(5, None), &[], entries);
        assert_eq!(check(&entries("acme", "receivable", 5)), Ok(()));
        assert_eq!(check(&entries("acme", "receivable", 6)), Err(Refusal::TooMuch));
        assert_eq!(check(&entries("receivable", "acme", 5)), Err(Refusal::TooMuch));
        assert_eq!(check(&entries("other", "receivable", 5)), Err(Refusal::TooMuch));
    }

    #[test]
    fn a_reversal_is_not_reversed() {
        let back = entries("acme", "receivable", 5);
        assert_eq!(check(&original(5, Some("t0")), &[], &back), Err(Refusal::OfReversal));
    }

    #[test]
    fn there_is_an_end_to_reversals() {
        let one = entries("acme", "receivable", 1);
        let before = vec![one.clone(); REVERSALS_MAX];
        assert_eq!(check(&original(10_000, None), &before, &one), Err(Refusal::TooMany));
    }

    proptest! {
        #[test]
        fn all_reversals_together_take_back_no_more_than_was_posted(
            posted in 1..1_000_i64,
            amounts in prop::collection::vec(1..400_i64, 1..20),
        ) {
            let (mut before, mut back) = (Vec::new(), 0);
            for amount in amounts {
                let entries = entries("acme", "receivable", amount);
                let fits = back + amount <= posted;
                prop_assert_eq!(check(&original(posted, None), &before, &entries).is_ok(), fits);
                if fits {
                    back += amount;
                    before.push(entries);
                }
            }
        }
    }
}
