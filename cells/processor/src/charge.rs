//! Charges and the sandbox tokens that decide them.

use aibos_cell::identifier::is_identifier;
use aibos_cell::money::AMOUNT_MAX;
use aibos_cell::{Currency, FieldError, Money};
use serde::{Deserialize, Serialize};

/// A source that the sandbox knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// Goes through.
    Ok,
    /// Declined by the card's bank.
    Declined,
    /// Declined because the money is not there.
    Insufficient,
    /// No answer in time; it goes through all the same, which shows when the charge is asked for.
    Timeout,
    /// The processor itself traps.
    Trap,
    /// Answered with one minor unit more than was asked for.
    Conflict,
    /// Charged; a capture has no answer in time and goes through all the same.
    CaptureTimeout,
    /// Charged; a capture is declined.
    CaptureDeclined,
    /// Charged; a capture is answered with one minor unit more than was asked for.
    CaptureConflict,
    /// Charged; a refund has no answer in time and goes through all the same.
    RefundTimeout,
    /// Charged; a refund is declined.
    RefundDeclined,
}

impl Token {
    /// Every token with its name.
    pub const ALL: [(&'static str, Self); 11] = [
        ("tok_ok", Self::Ok),
        ("tok_declined", Self::Declined),
        ("tok_insufficient", Self::Insufficient),
        ("tok_timeout", Self::Timeout),
        ("tok_trap", Self::Trap),
        ("tok_conflict", Self::Conflict),
        ("tok_capture_timeout", Self::CaptureTimeout),
        ("tok_capture_declined", Self::CaptureDeclined),
        ("tok_capture_conflict", Self::CaptureConflict),
        ("tok_refund_timeout", Self::RefundTimeout),
        ("tok_refund_declined", Self::RefundDeclined),
    ];

    /// The token of a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find_map(|(known, token)| (known == name).then_some(token))
    }

    /// What becomes of the charge itself.
    fn outcome(self) -> (Status, Option<&'static str>) {
        match self {
            Self::Declined => (Status::Declined, Some("card_declined")),
            Self::Insufficient => (Status::Declined, Some("insufficient_funds")),
            Self::Timeout => (Status::Processing, None),
            Self::Ok
            | Self::Trap
            | Self::Conflict
            | Self::CaptureTimeout
            | Self::CaptureDeclined
            | Self::CaptureConflict
            | Self::RefundTimeout
            | Self::RefundDeclined => (Status::Succeeded, None),
        }
    }
}

/// Where a charge stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The money is ours.
    Succeeded,
    /// It never will be.
    Declined,
    /// Nobody knows yet. A timeout is not a failure.
    Processing,
}

/// A charge as it is asked for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a charge")]
pub struct ChargeRequest {
    /// Chosen by the caller, who can therefore ask again.
    pub id: String,
    /// Minor units, more than zero.
    pub amount: i64,
    /// The currency.
    pub currency: Currency,
    /// One of the sandbox tokens.
    pub source: String,
}

/// A charge as it is stored at `charge/{id}` and answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// The caller's id.
    pub id: String,
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

impl ChargeRequest {
    /// The charge with its outcome, and the token that decided it.
    pub fn check(self) -> Result<(Charge, Token), Vec<FieldError>> {
        let mut errors = Vec::new();
        if !is_identifier(&self.id) {
            let message = "must be 1 to 64 characters of A-Z a-z 0-9 . _ : -";
            errors.push(FieldError::new("/id", message));
        }
        let money = Money::new(self.amount, self.currency);
        if money.is_err() || self.amount < 1 {
            let message = format!("must be an integer from 1 to {AMOUNT_MAX}");
            errors.push(FieldError::new("/amount", message));
        }
        match Token::parse(&self.source) {
            Some(token) if errors.is_empty() => {
                let (status, decline_code) = token.outcome();
                let charge = Charge {
                    id: self.id,
                    status,
                    decline_code: decline_code.map(str::to_owned),
                    // At most AMOUNT_MAX, so one more is in range.
                    amount: if token == Token::Conflict { self.amount.saturating_add(1) } else { self.amount },
                    currency: self.currency,
                };
                Ok((charge, token))
            }
            Some(_) => Err(errors),
            None => {
                let names = Token::ALL.map(|(name, _)| name).join(", ");
                let message = format!("must be a sandbox token: {names}");
                errors.push(FieldError::new("/source", message));
                Err(errors)
            }
        }
    }
}

impl Charge {
    /// The charge once the processor has heard back from the bank.
    #[must_use]
    pub fn settle(self) -> Self {
        match self.status {
            Status::Succeeded | Status::Declined => self,
            Status::Processing => Self { status: Status::Succeeded, ..self },
        }
    }

    /// Is this the charge that a stored one was made from?
    #[must_use]
    pub fn is_repeat_of(&self, other: &Self) -> bool {
        self.clone().settle() == other.clone().settle()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(source: &str, amount: i64) -> ChargeRequest {
        ChargeRequest {
            id: "c1".to_owned(),
            amount,
            currency: Currency::parse("EUR").expect("known"),
            source: source.to_owned(),
        }
    }

    fn outcome(source: &str) -> (Status, Option<String>) {
        let (charge, _) = request(source, 1).check().expect("valid");
        (charge.status, charge.decline_code)
    }

    #[test]
    fn the_token_decides() {
        let declined = |code: &str| (Status::Declined, Some(code.to_owned()));
        assert_eq!(outcome("tok_ok"), (Status::Succeeded, None));
        assert_eq!(outcome("tok_declined"), declined("card_declined"));
        assert_eq!(outcome("tok_insufficient"), declined("insufficient_funds"));
        assert_eq!(outcome("tok_timeout"), (Status::Processing, None));
    }

    #[test]
    fn an_unknown_token_is_answered_with_the_known_ones() {
        let errors = request("tok_other", 1).check().expect_err("unknown");
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].pointer, "/source");
        for (name, _) in Token::ALL {
            assert!(errors[0].message.contains(name), "{name}");
        }
    }

    #[test]
    fn a_charge_that_timed_out_goes_through_later() {
        let (charge, _) = request("tok_timeout", 1).check().expect("valid");
        let settled = charge.clone().settle();
        assert_eq!(settled.status, Status::Succeeded);
        assert_eq!(settled.clone().settle(), settled);
        assert!(settled.is_repeat_of(&charge));
    }

    proptest! {
        #[test]
        fn settling_changes_no_money(index in 0..Token::ALL.len(), amount in 1..=AMOUNT_MAX) {
            let (charge, _) = request(Token::ALL[index].0, amount).check().expect("valid");
            let settled = charge.clone().settle();
            prop_assert_eq!((settled.amount, settled.currency), (charge.amount, charge.currency));
            prop_assert_eq!(charge.amount - amount, i64::from(Token::ALL[index].1 == Token::Conflict));
            prop_assert_ne!(settled.status, Status::Processing);
        }

        #[test]
        fn no_other_amount_passes(amount in prop_oneof![i64::MIN..1, AMOUNT_MAX + 1..=i64::MAX]) {
            prop_assert!(request("tok_ok", amount).check().is_err());
        }
    }
}
