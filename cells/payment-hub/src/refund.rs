//! A refund of a payment: money given back, as reversals of the transactions that took it.

use aibos_cell::{Currency, Timestamp};
use serde::{Deserialize, Serialize};

use crate::payment::Payment;

/// Where a refund stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundStatus {
    /// The processor was asked and nobody knows its answer yet. A timeout is not a failure.
    Pending,
    /// Given back and posted.
    Succeeded,
    /// Declined.
    Failed,
}

impl RefundStatus {
    /// The event that announces a refund of this status.
    #[must_use]
    pub fn event(self) -> &'static str {
        match self {
            Self::Pending => "refund.created",
            Self::Succeeded => "refund.succeeded",
            Self::Failed => "refund.failed",
        }
    }
}

/// What a refund takes back of one capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The ledger's transaction, once it is posted.
    pub transaction_id: String,
    /// The transaction that it takes back: the payment's own, or that of a capture.
    pub reverses: String,
    /// Minor units.
    pub amount: i64,
}

impl Part {
    /// The n-th part of a refund.
    #[must_use]
    pub fn new(refund_id: &str, number: usize, reverses: String, amount: i64) -> Self {
        Self { transaction_id: format!("{refund_id}:{number}"), reverses, amount }
    }
}

/// A refund, as it is stored at `refund/{payment}/{refund}`, answered and published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// Its id, and that of the processor's operation.
    pub refund_id: String,
    /// The payment.
    pub transaction_id: String,
    /// Where it stands.
    pub status: RefundStatus,
    /// Minor units.
    pub amount: i64,
    /// The currency.
    pub currency: Currency,
    /// The caller's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it was declined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decline_code: Option<String>,
    /// RFC 3339, UTC.
    pub created_at: Timestamp,
    /// What it takes back of which capture.
    pub parts: Vec<Part>,
}

impl Refund {
    /// A refund that is about to be asked for.
    #[must_use]
    pub fn begin(id: String, payment: &Payment, parts: Vec<Part>, reason: Option<String>, now: Timestamp) -> Self {
        Self {
            refund_id: id,
            transaction_id: payment.transaction_id.clone(),
            status: RefundStatus::Pending,
            amount: parts.iter().fold(0, |sum, part| part.amount.saturating_add(sum)),
            currency: payment.currency,
            reason,
            decline_code: None,
            created_at: now,
            parts,
        }
    }
}

/// The prefix under which a payment's refunds are listed; their ids sort by time.
#[must_use]
pub fn prefix(payment_id: &str) -> String {
    format!("refund/{payment_id}/")
}

/// Where a refund is stored.
#[must_use]
pub fn key(payment_id: &str, refund_id: &str) -> String {
    format!("refund/{payment_id}/{refund_id}")
}
