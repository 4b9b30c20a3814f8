//! What is done to a charge later: captures, voids and refunds, decided by the same tokens.

use aibos_cell::identifier::is_identifier;
use aibos_cell::money::AMOUNT_MAX;
use aibos_cell::{Currency, FieldError};
use serde::{Deserialize, Serialize};

use crate::charge::{Status, Token};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Takes money that was only authorised.
    Capture,
    /// Gives up what was only authorised.
    Void,
    /// Gives money back.
    Refund,
}

/// An operation as it is asked for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an operation")]
pub struct OperationRequest {
    /// Chosen by the caller, who can therefore ask again.
    pub id: String,
    /// The charge that it is done to.
    pub charge: String,
    /// What is done.
    pub kind: Kind,
    /// Minor units, more than zero.
    pub amount: i64,
    /// The currency.
    pub currency: Currency,
    /// The source of the charge.
    pub source: String,
}

/// An operation as it is stored at `operation/{id}` and answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// The caller's id.
    pub id: String,
    /// The charge.
    pub charge: String,
    /// What was done.
    pub kind: Kind,
    /// Where it stands.
    pub status: Status,
    /// Why it was declined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decline_code: Option<String>,
    /// Minor units.
    pub amount: i64,
    /// The currency.
    pub currency: Currency,
}

impl OperationRequest {
    /// The operation with its outcome.
    pub fn check(self) -> Result<Operation, Vec<FieldError>> {
        let mut errors = Vec::new();
        for (pointer, id) in [("/id", &self.id), ("/charge", &self.charge)] {
            if !is_identifier(id) {
                errors.push(FieldError::new(pointer, "must be 1 to 64 characters of A-Z a-z 0-9 . _ : -"));
            }
        }
        if !(1..=AMOUNT_MAX).contains(&self.amount) {
            errors.push(FieldError::new("/amount", format!("must be an integer from 1 to {AMOUNT_MAX}")));
        }
        let token = Token::parse(&self.source);
        if token.is_none() {
            errors.push(FieldError::new("/source", "must be the sandbox token of the charge"));
        }
        let Some(token) = token.filter(|_| errors.is_empty()) else { return Err(errors) };
        let Self { id, charge, kind, amount, currency, .. } = self;
        let (status, decline_code, more) = outcome(kind, token);
        let decline_code = decline_code.map(str::to_owned);
        Ok(Operation { id, charge, kind, status, decline_code, amount: amount.saturating_add(more), currency })
    }
}

/// The status, why it is declined, and how much more than was asked for is answered.
fn outcome(kind: Kind, token: Token) -> (Status, Option<&'static str>, i64) {
    match (kind, token) {
        (Kind::Capture, Token::CaptureTimeout) | (Kind::Refund, Token::RefundTimeout) => (Status::Processing, None, 0),
        (Kind::Capture, Token::CaptureDeclined) => (Status::Declined, Some("authorization_revoked"), 0),
        (Kind::Refund, Token::RefundDeclined) => (Status::Declined, Some("refund_not_possible"), 0),
        (Kind::Capture, Token::CaptureConflict) => (Status::Succeeded, None, 1),
        _ => (Status::Succeeded, None, 0),
    }
}

impl Operation {
    /// The operation once the processor has heard back from the bank.
    #[must_use]
    pub fn settle(self) -> Self {
        match self.status {
            Status::Succeeded | Status::Declined => self,
            Status::Processing => Self { status: Status::Succeeded, ..self },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(kind: Kind, source: &str) -> (Status, i64) {
        let request = OperationRequest {
            id: "o1".to_owned(),
            charge: "c1".to_owned(),
            kind,
            amount: 10,
            currency: Currency::parse("EUR").expect("known"),
            source: source.to_owned(),
        };
        let operation = request.check().expect("valid");
        assert_eq!(operation.decline_code.is_some(), operation.status == Status::Declined);
        (operation.status, operation.amount)
    }

    #[test]
    fn the_token_decides_what_it_names_and_nothing_else() {
        for (name, _) in Token::ALL {
            let capture = match name {
                "tok_capture_timeout" => (Status::Processing, 10),
                "tok_capture_declined" => (Status::Declined, 10),
                "tok_capture_conflict" => (Status::Succeeded, 11),
                _ => (Status::Succeeded, 10),
            };
            let refund = match name {
                "tok_refund_timeout" => (Status::Processing, 10),
                "tok_refund_declined" => (Status::Declined, 10),
                _ => (Status::Succeeded, 10),
            };
            assert_eq!(status(Kind::Capture, name), capture, "{name}");
            assert_eq!(status(Kind::Refund, name), refund, "{name}");
            assert_eq!(status(Kind::Void, name), (Status::Succeeded, 10), "{name}");
        }
    }
}
