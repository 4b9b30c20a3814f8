//! A payment as any version of the hub stored it. Format 1 knew only automatic payments and no amounts but the one.

use aibos_cell::{Currency, Timestamp};
use serde::Deserialize;

use crate::order::CaptureMethod;
use crate::payment::{Capture, CapturePlan, Payment, Status};

/// Formats 1 and 2.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Stored {
    transaction_id: String,
    version: Option<u64>,
    status: Status,
    #[serde(default)]
    capture_method: CaptureMethod,
    amount: i64,
    #[serde(default)]
    amount_capturable: i64,
    amount_captured: Option<i64>,
    #[serde(default)]
    amount_released: i64,
    #[serde(default)]
    amount_refunded: i64,
    #[serde(default)]
    amount_refunding: i64,
    currency: Currency,
    source: String,
    destination: String,
    reference: Option<String>,
    decline_code: Option<String>,
    created_at: String,
    expires_at: Option<Timestamp>,
    hold_id: Option<String>,
    #[serde(default)]
    captures: Vec<Capture>,
    capture_waiting: Option<CapturePlan>,
    #[serde(default)]
    refunds_waiting: Vec<String>,
    #[serde(default)]
    refund_count: u32,
}

impl From<Stored> for Payment {
    fn from(stored: Stored) -> Self {
        let taken = if stored.status == Status::Succeeded { stored.amount } else { 0 };
        Self {
            transaction_id: stored.transaction_id,
            version: stored.version.unwrap_or(1),
            status: stored.status,
            capture_method: stored.capture_method,
            amount: stored.amount,
            amount_capturable: stored.amount_capturable,
            amount_captured: stored.amount_captured.unwrap_or(taken),
            amount_released: stored.amount_released,
            amount_refunded: stored.amount_refunded,
            amount_refunding: stored.amount_refunding,
            currency: stored.currency,
            source: stored.source,
            destination: stored.destination,
            reference: stored.reference,
            decline_code: stored.decline_code,
            created_at: stored.created_at,
            expires_at: stored.expires_at,
            hold_id: stored.hold_id,
            captures: stored.captures,
            capture_waiting: stored.capture_waiting,
            refunds_waiting: stored.refunds_waiting,
            refund_count: stored.refund_count,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn payments_of_format_1_are_read() {
        let stored = |status: &str| -> Payment {
            serde_json::from_value(json!({
                "transaction_id": "p1", "status": status, "amount": 1999, "currency": "EUR", "source": "tok_ok",
                "destination": "acme", "created_at": "2026-11-21T07:53:00.000Z",
            }))
            .expect("the form of format 1")
        };
        assert_eq!(stored("succeeded").refundable(), 1999);
        assert_eq!((stored("failed").amount_captured, stored("failed").version), (0, 1));
        let mut waiting = stored("processing");
        waiting.succeed().expect("it was processing");
        assert_eq!(waiting.amount_captured, 1999);
    }
}
