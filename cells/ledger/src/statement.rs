//! Statements: what an account held at a point in time, computed from its entries and from nothing else. The counters of
//! the balances are not asked, so a statement is also a check on them.

use std::collections::BTreeMap;

use aibos_cell::{Currency, Timestamp};
use serde::Serialize;

use crate::account::Direction;
use crate::transaction::AccountEntry;

/// How many entries one answer adds up, which takes about 12,000 of fuel for each. Past it, the statement is read in pages.
pub const ENTRIES_MAX: usize = 2_500;

/// An account's posted balances after so many of its entries, by currency.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Running {
    balances: BTreeMap<Currency, i128>,
}

/// One balance of a statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Balance {
    /// The currency.
    pub currency: Currency,
    /// The sum of the posted entries, in minor units, positive on the account's normal side.
    pub posted: i128,
}

/// An entry with what the account held after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The entry.
    #[serde(flatten)]
    pub entry: AccountEntry,
    /// The posted balance in the entry's currency.
    pub balance: i128,
}

impl Running {
    /// Adds an entry and answers the balance in its currency; none when the sum leaves its bits.
    pub fn add(&mut self, entry: &AccountEntry, normal_balance: Direction) -> Option<i128> {
        let amount = i128::from(entry.amount);
        let signed = if entry.direction == normal_balance { amount } else { amount.checked_neg()? };
        let balance = self.balances.entry(entry.currency).or_default();
        *balance = balance.checked_add(signed)?;
        Some(*balance)
    }

    /// The balances.
    #[must_use]
    pub fn balances(&self) -> Vec<Balance> {
        self.balances.iter().map(|(currency, posted)| Balance { currency: *currency, posted: *posted }).collect()
    }

    /// The position of a next page: where this one ends and what the account held there.
    #[must_use]
    pub fn position(&self, suffix: &str) -> String {
        let balances = self.balances.iter().map(|(currency, posted)| format!(" {currency}={posted}"));
        std::iter::once(suffix.to_owned()).chain(balances).collect()
    }

    /// Reads a position back.
    #[must_use]
    pub fn resume(position: &str) -> Option<(&str, Self)> {
        let mut parts = position.split(' ');
        let suffix = parts.next().filter(|suffix| !suffix.is_empty())?;
        let balance = |part: &str| {
            let (currency, posted) = part.split_once('=')?;
            Some((Currency::parse(currency)?, posted.parse().ok()?))
        };
        Some((suffix, Self { balances: parts.map(balance).collect::<Option<_>>()? }))
    }
}

/// Was the entry at this place under its account's prefix posted by then? Unreadable places sort after every time.
#[must_use]
pub fn is_by(suffix: &str, at: Timestamp) -> bool {
    let posted_at = suffix.split_once('-').and_then(|(time, _)| time.parse().ok());
    posted_at.is_some_and(|posted_at: u64| posted_at <= at.milliseconds())
}

#[cfg(test)]
mod tests {
    use aibos_cell::cursor;
    use proptest::prelude::*;

    use super::*;
    use crate::transaction::EntryKeys;

    fn entry(direction: Direction, amount: i64, code: &str) -> AccountEntry {
        AccountEntry {
            transaction_id: "t1".to_owned(),
            direction,
            amount,
            currency: Currency::parse(code).expect("known"),
            posted_at: String::new(),
        }
    }

    #[test]
    fn entries_add_up_on_the_normal_side() {
        let mut running = Running::default();
        assert_eq!(running.add(&entry(Direction::Credit, 5, "EUR"), Direction::Credit), Some(5));
        assert_eq!(running.add(&entry(Direction::Debit, 7, "EUR"), Direction::Credit), Some(-2));
        assert_eq!(running.add(&entry(Direction::Credit, 1, "JPY"), Direction::Credit), Some(1));
    }

    #[test]
    fn a_cursor_holds_every_currency_at_its_largest() {
        let letters = || (b'A'..=b'Z').map(char::from);
        let codes = letters().flat_map(|a| letters().flat_map(move |b| letters().map(move |c| [a, b, c])));
        let currencies = codes.filter_map(|code| Currency::parse(&String::from_iter(code)));
        let running = Running { balances: currencies.map(|currency| (currency, i128::MIN)).collect() };
        assert!(running.balances.len() >= 160, "{}", running.balances.len());
        let suffix = EntryKeys::new(Timestamp::from_milliseconds(0), &"t".repeat(64)).key("", 99);
        let position = running.position(&suffix);
        let cursor = cursor::encode(&position);
        assert!(cursor.len() < 16 * 1024, "{}", cursor.len());
        assert_eq!(cursor::decode(&cursor).as_deref(), Some(&*position));
        assert_eq!(Running::resume(&position), Some((&*suffix, running)));
    }

    #[test]
    fn a_forged_position_is_refused() {
        for wrong in ["", " EUR=1", "x EUR", "x EUR=", "x EUR=1.5", "x XXX=1", "x EUR=1  JPY=1"] {
            assert_eq!(Running::resume(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_entry_belongs_to_the_moment_of_its_key() {
        let key = EntryKeys::new(Timestamp::from_milliseconds(1_000), "t-1").key("acme", 0);
        let suffix = key.strip_prefix(&EntryKeys::prefix("acme")).expect("its own");
        assert!(!is_by(suffix, Timestamp::from_milliseconds(999)));
        assert!(is_by(suffix, Timestamp::from_milliseconds(1_000)));
        assert!(!is_by("what", Timestamp::from_milliseconds(u64::MAX)));
    }

    proptest! {
        #[test]
        fn a_page_goes_on_where_the_last_one_ended(
            entries in prop::collection::vec((any::<bool>(), 1..i64::MAX, "EUR|JPY|BHD"), 0..30),
            cut in any::<prop::sample::Index>(),
        ) {
            let entries: Vec<AccountEntry> = entries
                .into_iter()
                .map(|(debit, amount, code)| {
                    entry(if debit { Direction::Debit } else { Direction::Credit }, amount, &code)
                })
                .collect();
            let (first, second) = entries.split_at(cut.index(entries.len() + 1));
            let fold = |mut running: Running, entries: &[AccountEntry]| {
                for entry in entries {
                    running.add(entry, Direction::Debit).expect("in range");
                }
                running
            };
            let position = fold(Running::default(), first).position("here");
            let (suffix, resumed) = Running::resume(&position).expect("our own");
            prop_assert_eq!(suffix, "here");
            prop_assert_eq!(fold(resumed, second), fold(Running::default(), &entries));
        }
    }
}
