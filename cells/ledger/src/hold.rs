//! Holds: pending transactions. Money that is held is not in the books yet; a hold ends once, by being posted (all or part
//! of it), voided or expired, and never changes otherwise. What is left of a hold after a part was posted is released, or
//! held on by a new hold: then the two are one change.

use aibos_cell::{FieldError, Timestamp};
use serde::{Deserialize, Serialize};

use crate::transaction::{Balanced, Draft, DraftEntry, Entry, Transaction};

/// A hold as it is asked for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a hold")]
pub struct HoldDraft {
    /// Chosen by the caller.
    pub id: String,
    /// From then on it can only expire.
    pub expires_at: Timestamp,
    /// One debit and one credit, so that a part of it is one amount.
    pub entries: Vec<DraftEntry>,
}

/// A hold as it is stored at [`key`] and published. It is never edited: its [`End`] is a record of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The caller's id.
    pub id: String,
    /// RFC 3339, UTC.
    pub created_at: Timestamp,
    /// RFC 3339, UTC.
    pub expires_at: Timestamp,
    /// One debit and one credit of the same amount.
    pub entries: Vec<Entry>,
    /// The hold of which this one is what was left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<String>,
}

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndStatus {
    /// All or part of it is in the books; the rest was released or is held on.
    Posted,
    /// Given up.
    Voided,
    /// Too late.
    Expired,
}

/// The end of a hold, as it is stored at [`end_key`] and published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The hold.
    pub id: String,
    /// How.
    pub status: EndStatus,
    /// When.
    pub ended_at: Timestamp,
    /// The transaction that posted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction_id: Option<String>,
    /// The hold that goes on with the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<String>,
}

/// Why a hold cannot end so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It ended before.
    Ended(EndStatus),
    /// Its time is over: it can only expire.
    Expired,
    /// Its time is not over.
    NotExpired,
    /// More than is held, or not more than zero.
    Amount {
        /// What is held.
        held: i64,
    },
}

impl HoldDraft {
    /// Checks everything that can be known without the books, and names every wrong field.
    pub fn check(self, now: Timestamp) -> Result<(Balanced, Timestamp), Vec<FieldError>> {
        let Self { id, expires_at, entries } = self;
        let two = entries.len() == 2;
        let balanced = Draft { id, entries, reverses: None }.check()?;
        if !two {
            return Err(vec![FieldError::new("/entries", "a hold has one debit and one credit")]);
        }
        if expires_at <= now {
            return Err(vec![FieldError::new("/expires_at", "must be later than now")]);
        }
        Ok((balanced, expires_at))
    }
}

impl Hold {
    /// A hold that begins now.
    #[must_use]
    pub fn begin(balanced: &Balanced, expires_at: Timestamp, now: Timestamp) -> Self {
        Self {
            id: balanced.id().to_owned(),
            created_at: now,
            expires_at,
            entries: balanced.entries().to_vec(),
            continues: None,
        }
    }

    /// What is held, in minor units.
    #[must_use]
    pub fn amount(&self) -> i64 {
        self.entries.first().map_or(0, |entry| entry.amount)
    }

    /// May this hold, which ended so or not at all, end in this way now?
    pub fn may_end(&self, before: Option<&End>, how: EndStatus, now: Timestamp) -> Result<(), Refusal> {
        if let Some(end) = before {
            return Err(Refusal::Ended(end.status));
        }
        match (how, now >= self.expires_at) {
            (EndStatus::Posted | EndStatus::Voided, true) => Err(Refusal::Expired),
            (EndStatus::Expired, false) => Err(Refusal::NotExpired),
            _ => Ok(()),
        }
    }

    /// The transaction that posts so much of it, and what is left.
    pub fn part(&self, id: &str, amount: i64, now: Timestamp) -> Result<(Transaction, i64), Refusal> {
        let held = self.amount();
        let rest = held.checked_sub(amount).filter(|rest| *rest >= 0 && amount > 0).ok_or(Refusal::Amount { held })?;
        let entries = self.with_amount(amount);
        let posted_at = now.to_string();
        let resolves = Some(self.id.clone());
        Ok((Transaction { id: id.to_owned(), posted_at, entries, reverses: None, resolves }, rest))
    }

    /// The hold that goes on with the rest, as long as this one would have.
    #[must_use]
    pub fn rest(&self, id: &str, amount: i64, now: Timestamp) -> Self {
        Self {
            id: id.to_owned(),
            created_at: now,
            expires_at: self.expires_at,
            entries: self.with_amount(amount),
            continues: Some(self.id.clone()),
        }
    }

    /// The end of this hold.
    #[must_use]
    pub fn end(&self, status: EndStatus, now: Timestamp) -> End {
        End { id: self.id.clone(), status, ended_at: now, transaction_id: None, rest: None }
    }

    fn with_amount(&self, amount: i64) -> Vec<Entry> {
        self.entries.iter().map(|entry| Entry { amount, ..entry.clone() }).collect()
    }
}

/// Where a hold is stored.
#[must_use]
pub fn key(id: &str) -> String {
    format!("hold/{id}")
}

/// Where its end is stored.
#[must_use]
pub fn end_key(id: &str) -> String {
    format!("hold-end/{id}")
}

#[cfg(test)]
mod tests {
    use aibos_cell::Currency;
    use proptest::prelude::*;

    use super::*;
    use crate::account::{Direction, Kind};

    const START: Timestamp = Timestamp::from_milliseconds(1_000);
    const OVER: Timestamp = Timestamp::from_milliseconds(2_000);

    fn draft(amount: i64) -> HoldDraft {
        let entry = |account: &str, kind, direction| DraftEntry {
            account: account.to_owned(),
            kind,
            direction,
            amount,
            currency: Currency::parse("EUR").expect("known"),
        };
        let entries = vec![
            entry("receivable", Kind::ProcessorReceivable, Direction::Debit),
            entry("acme", Kind::MerchantPayable, Direction::Credit),
        ];
        HoldDraft { id: "h1".to_owned(), expires_at: OVER, entries }
    }

    fn hold(amount: i64) -> Hold {
        let (balanced, expires_at) = draft(amount).check(START).expect("a hold");
        Hold::begin(&balanced, expires_at, START)
    }

    #[test]
    fn a_hold_has_two_entries_and_a_future() {
        let pointers = |draft: HoldDraft| -> Vec<String> {
            draft.check(START).expect_err("wrong").into_iter().map(|error| error.pointer).collect()
        };
        assert_eq!(pointers(HoldDraft { expires_at: START, ..draft(5) }), ["/expires_at"]);
        let mut four = draft(5);
        four.entries.extend(draft(5).entries);
        assert_eq!(pointers(four), ["/entries"]);
        let mut uneven = draft(5);
        uneven.entries[0].amount = 6;
        assert_eq!(pointers(uneven), ["/entries"]);
    }

    #[test]
    fn its_time_decides_how_it_may_end() {
        let hold = hold(5);
        let may = |how, at| hold.may_end(None, how, Timestamp::from_milliseconds(at));
        for how in [EndStatus::Posted, EndStatus::Voided] {
            assert_eq!(may(how, 1_999), Ok(()));
            assert_eq!(may(how, 2_000), Err(Refusal::Expired));
        }
        assert_eq!(may(EndStatus::Expired, 1_999), Err(Refusal::NotExpired));
        assert_eq!(may(EndStatus::Expired, 2_000), Ok(()));
    }

    #[test]
    fn it_ends_once() {
        let hold = hold(5);
        let all = [EndStatus::Posted, EndStatus::Voided, EndStatus::Expired];
        for before in all {
            let end = hold.end(before, START);
            for how in all {
                for now in [START, OVER] {
                    assert_eq!(hold.may_end(Some(&end), how, now), Err(Refusal::Ended(before)));
                }
            }
        }
    }

    #[test]
    fn it_posts_what_it_holds_and_not_one_more() {
        let part = |amount| hold(5).part("t1", amount, START).map(|(_, rest)| rest);
        assert_eq!((part(1), part(5)), (Ok(4), Ok(0)));
        for amount in [-1, 0, 6] {
            assert_eq!(part(amount), Err(Refusal::Amount { held: 5 }));
        }
    }

    proptest! {
        #[test]
        fn what_is_posted_and_what_is_left_are_what_was_held(held in 1..1_000_i64, amount in -5..1_010_i64) {
            let hold = hold(held);
            match hold.part("t1", amount, START) {
                Ok((posted, rest)) => {
                    prop_assert!(amount > 0 && rest >= 0);
                    prop_assert_eq!(amount + rest, held);
                    prop_assert!(posted.entries.iter().all(|entry| entry.amount == amount));
                    prop_assert_eq!(posted.resolves.as_deref(), Some("h1"));
                    prop_assert_eq!(hold.rest("h2", rest, START).amount(), rest);
                }
                Err(refusal) => {
                    prop_assert!(amount < 1 || amount > held);
                    prop_assert_eq!(refusal, Refusal::Amount { held });
                }
            }
        }
    }
}
