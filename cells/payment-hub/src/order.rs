//! What a caller asks for, understood: an [`Order`] has a positive amount of a real currency and an account to go to.

use aibos_cell::identifier::is_identifier;
use aibos_cell::money::AMOUNT_MAX;
use aibos_cell::{Currency, FieldError, Money};
use serde::{Deserialize, Serialize};

/// How long a source or a reference may be, in characters.
pub const TEXT_MAX: usize = 255;

/// The ledger account of what the processor owes us for all the charges that it took. It is never a destination: a payment
/// that opened it as a merchant's account would make every later one fail.
pub const RECEIVABLE: &str = "processor-receivable";

/// The body of `POST /payments/process`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a payment")]
pub struct OrderRequest {
    amount: i64,
    currency: Currency,
    source: String,
    destination: String,
    reference: Option<String>,
}

/// When the money is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaptureMethod {
    /// At once.
    #[default]
    Automatic,
    /// Authorised and held at first; `capture` takes it.
    Manual,
}

/// The body of `POST /payments`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a payment")]
pub struct CreateRequest {
    amount: i64,
    currency: Currency,
    source: String,
    destination: String,
    reference: Option<String>,
    #[serde(default)]
    capture_method: CaptureMethod,
}

impl CreateRequest {
    /// The order, and when its money is taken.
    #[must_use]
    pub fn split(self) -> (OrderRequest, CaptureMethod) {
        let Self { amount, currency, source, destination, reference, capture_method } = self;
        (OrderRequest { amount, currency, source, destination, reference }, capture_method)
    }
}

/// May this be a text of the caller's own, such as a reference or a reason?
pub fn check_text(pointer: &str, text: Option<&str>) -> Result<(), FieldError> {
    if text.is_none_or(is_text) { Ok(()) } else { Err(FieldError::new(pointer, text_rule())) }
}

/// May so much be captured or given back at all? How much there is, is the payment's to know.
pub fn check_amount(amount: Option<i64>) -> Result<(), FieldError> {
    let fits = amount.is_none_or(|amount| (1..=AMOUNT_MAX).contains(&amount));
    if fits { Ok(()) } else { Err(FieldError::new("/amount", amount_rule())) }
}

/// A payment that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// More than zero.
    pub money: Money,
    /// What the processor charges; it knows which sources there are.
    pub source: String,
    /// The ledger account that is credited.
    pub destination: String,
    /// The caller's own words.
    pub reference: Option<String>,
}

impl OrderRequest {
    /// Checks the fields and names every wrong one.
    pub fn check(self) -> Result<Order, Vec<FieldError>> {
        let mut errors = Vec::new();
        let money = Money::new(self.amount, self.currency).ok().filter(|money| money.amount() > 0);
        if money.is_none() {
            errors.push(FieldError::new("/amount", amount_rule()));
        }
        if !is_text(&self.source) {
            errors.push(FieldError::new("/source", text_rule()));
        }
        if !is_identifier(&self.destination) {
            let message = "must be 1 to 64 characters of A-Z a-z 0-9 . _ : -";
            errors.push(FieldError::new("/destination", message));
        } else if self.destination == RECEIVABLE {
            let message = format!("{RECEIVABLE} is the platform's own account; name the merchant's");
            errors.push(FieldError::new("/destination", message));
        }
        if !self.reference.as_deref().is_none_or(is_text) {
            errors.push(FieldError::new("/reference", text_rule()));
        }
        match money {
            Some(money) if errors.is_empty() => {
                Ok(Order { money, source: self.source, destination: self.destination, reference: self.reference })
            }
            _ => Err(errors),
        }
    }
}

fn is_text(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= TEXT_MAX && !text.chars().any(char::is_control)
}

fn amount_rule() -> String {
    format!("must be an integer from 1 to {AMOUNT_MAX} minor units")
}

fn text_rule() -> String {
    format!("must be 1 to {TEXT_MAX} characters without control characters")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn body(changes: &[(&str, Value)]) -> Value {
        let mut body = json!({
            "amount": 1999, "currency": "EUR", "source": "tok_ok", "destination": "acme",
        });
        for (field, value) in changes {
            body[*field] = value.clone();
        }
        body
    }

    fn wrong(changes: &[(&str, Value)]) -> Vec<String> {
        let request: OrderRequest = serde_json::from_value(body(changes)).expect("its shape is right");
        match request.check() {
            Ok(_) => Vec::new(),
            Err(errors) => errors.into_iter().map(|error| error.pointer).collect(),
        }
    }

    #[test]
    fn a_payment_may_have_a_reference() {
        assert_eq!(wrong(&[]), Vec::<String>::new());
        assert_eq!(wrong(&[("reference", json!("invoice 7"))]), Vec::<String>::new());
        assert_eq!(wrong(&[("reference", Value::Null)]), Vec::<String>::new());
    }

    #[test]
    fn every_wrong_field_is_named() {
        assert_eq!(
            wrong(&[
                ("amount", json!(0)),
                ("source", json!("")),
                ("destination", json!("a/b")),
                ("reference", json!("a\nb")),
            ]),
            ["/amount", "/source", "/destination", "/reference"]
        );
    }

    #[test]
    fn the_platforms_own_account_is_no_destination() {
        assert_eq!(wrong(&[("destination", json!(RECEIVABLE))]), ["/destination"]);
        assert_eq!(wrong(&[("destination", json!("processor-receivable-2"))]), Vec::<String>::new());
    }

    #[test]
    fn amounts_of_parts_are_bounded_like_those_of_payments() {
        for right in [None, Some(1), Some(AMOUNT_MAX)] {
            assert_eq!(check_amount(right), Ok(()));
        }
        for wrong in [0, -1, i64::MIN, AMOUNT_MAX + 1] {
            assert_eq!(check_amount(Some(wrong)).map_err(|error| error.pointer), Err("/amount".to_owned()));
        }
    }

    #[test]
    fn a_wrong_shape_is_refused() {
        for (field, value) in [
            ("amount", json!(19.99)),
            ("amount", json!("1999")),
            ("amount", json!(1e27)),
            ("currency", json!("eur")),
            ("currency", json!("XXX")),
            ("tip", json!(1)),
        ] {
            let body = body(&[(field, value.clone())]);
            assert!(serde_json::from_value::<OrderRequest>(body).is_err(), "{field} {value}");
        }
    }

    proptest! {
        #[test]
        fn only_positive_amounts_in_range_pass(amount in any::<i64>()) {
            let passes = wrong(&[("amount", json!(amount))]).is_empty();
            prop_assert_eq!(passes, (1..=AMOUNT_MAX).contains(&amount));
        }
    }
}
