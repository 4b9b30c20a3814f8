//! The records of the finance cells, as far as they are checked. They are written down here anew, from the documents.
#![expect(clippy::struct_field_names, reason = "the names are those of the stored JSON")]

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// A side of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Side {
    Debit,
    Credit,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Debit => Self::Credit,
            Self::Credit => Self::Debit,
        }
    }

    /// The place of a side in a pair of sums.
    pub(super) fn of(self, [debits, credits]: [i128; 2]) -> i128 {
        match self {
            Self::Debit => debits,
            Self::Credit => credits,
        }
    }

    /// Both sums, with something added on this side.
    pub(super) fn add(self, [debits, credits]: [i128; 2], amount: i128) -> [i128; 2] {
        match self {
            Self::Debit => [debits.saturating_add(amount), credits],
            Self::Credit => [debits, credits.saturating_add(amount)],
        }
    }
}

/// A line of a transaction or a hold.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Entry {
    pub(super) account: String,
    pub(super) direction: Side,
    pub(super) amount: i64,
    pub(super) currency: String,
}

/// `transaction/{id}`
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Transaction {
    pub(super) id: String,
    pub(super) posted_at: Timestamp,
    pub(super) entries: Vec<Entry>,
    pub(super) reverses: Option<String>,
    pub(super) resolves: Option<String>,
}

/// `entry/{account}/{ms}-{transaction}/{n}`
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Line {
    pub(super) transaction_id: String,
    pub(super) direction: Side,
    pub(super) amount: i64,
    pub(super) currency: String,
}

/// `hold/{id}`
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Hold {
    pub(super) id: String,
    pub(super) entries: Vec<Entry>,
    pub(super) continues: Option<String>,
}

impl Hold {
    pub(super) fn amount(&self) -> i64 {
        self.entries.first().map_or(0, |entry| entry.amount)
    }
}

/// `hold-end/{id}`
#[derive(Clone, Debug, Deserialize)]
pub(super) struct End {
    pub(super) id: String,
    pub(super) status: String,
    pub(super) transaction_id: Option<String>,
    pub(super) rest: Option<String>,
}

/// `account/{code}/about`
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Account {
    pub(super) normal_balance: Side,
    #[serde(default)]
    pub(super) min_available: BTreeMap<String, i64>,
}

/// A capture of a payment.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Capture {
    pub(super) capture_id: String,
    pub(super) amount: i64,
    pub(super) amount_reversed: i64,
}

/// `payment/{id}`
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Payment {
    pub(super) transaction_id: String,
    /// Absent in format 1.
    pub(super) version: Option<u64>,
    pub(super) status: String,
    pub(super) capture_method: Option<String>,
    pub(super) amount: i64,
    #[serde(default)]
    pub(super) amount_capturable: i64,
    pub(super) amount_captured: Option<i64>,
    #[serde(default)]
    pub(super) amount_refunded: i64,
    #[serde(default)]
    pub(super) amount_refunding: i64,
    pub(super) currency: String,
    pub(super) destination: String,
    pub(super) hold_id: Option<String>,
    #[serde(default)]
    pub(super) captures: Vec<Capture>,
    pub(super) capture_waiting: Option<Value>,
    #[serde(default)]
    pub(super) refunds_waiting: Vec<String>,
}

impl Payment {
    pub(super) fn is_manual(&self) -> bool {
        self.capture_method.as_deref() == Some("manual")
    }

    pub(super) fn captured(&self) -> i64 {
        let all = if self.status == "succeeded" { self.amount } else { 0 };
        self.amount_captured.unwrap_or(all)
    }
}

/// What a refund takes back of a capture.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Part {
    pub(super) transaction_id: String,
    pub(super) reverses: String,
    pub(super) amount: i64,
}

/// `refund/{payment}/{refund}`
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Refund {
    pub(super) refund_id: String,
    pub(super) transaction_id: String,
    pub(super) status: String,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) parts: Vec<Part>,
}

/// `charge/{id}` of the processor.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Charge {
    pub(super) status: String,
    pub(super) amount: i64,
    pub(super) currency: String,
}
