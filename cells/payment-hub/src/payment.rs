//! A payment and the edges along which it may move. Its status changes here only, and only along [`EDGES`].

use std::fmt;

use aibos_cell::{Currency, Timestamp};
use serde::{Deserialize, Serialize};

use crate::order::Order;

/// Where a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The processor was asked and nobody knows its answer yet. A timeout is not a failure.
    Processing,
    /// Charged and posted.
    Succeeded,
    /// Declined.
    Failed,
}

/// The moves that there are. Everything else is [`Unexpected`].
pub const EDGES: [(Status, Status); 2] =
    [(Status::Processing, Status::Succeeded), (Status::Processing, Status::Failed)];

impl Status {
    /// The event that announces a payment of this status.
    #[must_use]
    pub fn event(self) -> &'static str {
        match self {
            Self::Processing => "payment.created",
            Self::Succeeded => "payment.succeeded",
            Self::Failed => "payment.failed",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Processing => "processing",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        })
    }
}

/// A move that is not among the [`EDGES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unexpected {
    /// Where the payment stands.
    pub from: Status,
    /// Where it was to go.
    pub to: Status,
}

/// A payment, as it is stored at `payment/{id}`, answered and published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    transaction_id: String,
    status: Status,
    amount: i64,
    currency: Currency,
    source: String,
    destination: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decline_code: Option<String>,
    created_at: String,
}

impl Payment {
    /// A payment that is about to be charged.
    #[must_use]
    pub fn begin(id: String, order: Order, now: Timestamp) -> Self {
        Self {
            transaction_id: id,
            status: Status::Processing,
            amount: order.money.amount(),
            currency: order.money.currency(),
            source: order.source,
            destination: order.destination,
            reference: order.reference,
            decline_code: None,
            created_at: now.to_string(),
        }
    }

    /// The payment's id; the charge and the ledger's transaction have the same one.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.transaction_id
    }

    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// Minor units.
    #[must_use]
    pub fn amount(&self) -> i64 {
        self.amount
    }

    /// The currency.
    #[must_use]
    pub fn currency(&self) -> Currency {
        self.currency
    }

    /// What is charged.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The account that is credited.
    #[must_use]
    pub fn destination(&self) -> &str {
        &self.destination
    }

    /// Why it was declined.
    #[must_use]
    pub fn decline_code(&self) -> Option<&str> {
        self.decline_code.as_deref()
    }

    /// The charge went through and the ledger has it.
    pub fn succeed(&mut self) -> Result<(), Unexpected> {
        self.move_to(Status::Succeeded)
    }

    /// The charge was declined.
    pub fn decline(&mut self, code: String) -> Result<(), Unexpected> {
        self.move_to(Status::Failed)?;
        self.decline_code = Some(code);
        Ok(())
    }

    fn move_to(&mut self, to: Status) -> Result<(), Unexpected> {
        let from = self.status;
        if !EDGES.contains(&(from, to)) {
            return Err(Unexpected { from, to });
        }
        self.status = to;
        Ok(())
    }
}

/// Where a payment is stored.
#[must_use]
pub fn key(id: &str) -> String {
    format!("payment/{id}")
}

#[cfg(test)]
mod tests {
    use aibos_cell::Money;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn payment() -> Payment {
        let euro = Currency::parse("EUR").expect("known");
        let order = Order {
            money: Money::new(1999, euro).expect("in range"),
            source: "tok_ok".to_owned(),
            destination: "acme".to_owned(),
            reference: None,
        };
        Payment::begin("p1".to_owned(), order, Timestamp::from_milliseconds(0))
    }

    #[test]
    fn the_answer_has_the_fields_of_the_contract() {
        let mut payment = payment();
        payment.succeed().expect("it was processing");
        assert_eq!(
            serde_json::to_value(&payment).expect("JSON"),
            json!({
                "transaction_id": "p1",
                "status": "succeeded",
                "amount": 1999,
                "currency": "EUR",
                "source": "tok_ok",
                "destination": "acme",
                "created_at": "1970-01-01T00:00:00.000Z",
            })
        );
    }

    #[test]
    fn a_refused_move_changes_nothing() {
        let mut declined = payment();
        declined.decline("card_declined".to_owned()).expect("it was processing");
        let before = declined.clone();
        assert_eq!(declined.succeed(), Err(Unexpected { from: Status::Failed, to: Status::Succeeded }));
        assert_eq!(declined, before);
    }

    proptest! {
        #[test]
        fn a_settled_payment_stays_as_it_is(moves in prop::collection::vec(any::<bool>(), 1..20)) {
            let mut payment = payment();
            let mut settled = None;
            for succeed in moves {
                let moved = if succeed {
                    payment.succeed()
                } else {
                    payment.decline("card_declined".to_owned())
                };
                prop_assert_eq!(moved.is_ok(), settled.is_none());
                let first = settled.get_or_insert_with(|| payment.clone());
                prop_assert_eq!(&payment, &*first);
            }
        }
    }
}
