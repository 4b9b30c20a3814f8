//! Money: integer minor units and a currency, checked arithmetic, no floats anywhere.
//!
//! The bound of 2^53 − 1 is the largest integer that every JSON reader keeps exact.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Currency;

/// The largest amount of money, in minor units: 2^53 − 1.
pub const AMOUNT_MAX: i64 = 9_007_199_254_740_991;

/// An amount in minor units of a currency; at most [`AMOUNT_MAX`] either way.
///
/// In JSON `{"amount": 1999, "currency": "EUR"}`; a number that is not an integer (`19.99`, `1e3`, `1.0`) is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Parts")]
pub struct Money {
    amount: i64,
    currency: Currency,
}

/// Why there is no such amount of money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoneyError {
    /// The amount is beyond [`AMOUNT_MAX`].
    OutOfRange,
    /// Two currencies do not add up.
    CurrencyMismatch,
}

impl Money {
    /// An amount of minor units.
    pub fn new(amount: i64, currency: Currency) -> Result<Self, MoneyError> {
        if (-AMOUNT_MAX..=AMOUNT_MAX).contains(&amount) {
            Ok(Self { amount, currency })
        } else {
            Err(MoneyError::OutOfRange)
        }
    }

    /// Minor units: cents of a euro, yen of a yen.
    #[must_use]
    pub fn amount(self) -> i64 {
        self.amount
    }

    /// The currency.
    #[must_use]
    pub fn currency(self) -> Currency {
        self.currency
    }

    /// The sum, in the same currency and in range.
    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        self.combine(other, i64::checked_add)
    }

    /// The difference, in the same currency and in range.
    pub fn checked_sub(self, other: Self) -> Result<Self, MoneyError> {
        self.combine(other, i64::checked_sub)
    }

    fn combine(self, other: Self, operation: fn(i64, i64) -> Option<i64>) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::CurrencyMismatch);
        }
        let amount = operation(self.amount, other.amount).ok_or(MoneyError::OutOfRange)?;
        Self::new(amount, self.currency)
    }
}

impl fmt::Display for MoneyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange => write!(formatter, "the amount is over {AMOUNT_MAX}"),
            Self::CurrencyMismatch => formatter.write_str("the currencies differ"),
        }
    }
}

impl std::error::Error for MoneyError {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object of amount and currency")]
struct Parts {
    amount: i64,
    currency: Currency,
}

impl TryFrom<Parts> for Money {
    type Error = MoneyError;

    fn try_from(parts: Parts) -> Result<Self, MoneyError> {
        Self::new(parts.amount, parts.currency)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn euros(amount: i64) -> Result<Money, MoneyError> {
        Money::new(amount, Currency::parse("EUR").expect("known"))
    }

    #[test]
    fn floats_and_strings_are_no_amounts() {
        for amount in ["1.0", "1e3", "-0.0", "\"1\"", "null", "9007199254740992", "1e999"] {
            let text = format!(r#"{{"amount":{amount},"currency":"EUR"}}"#);
            assert!(serde_json::from_str::<Money>(&text).is_err(), "{amount}");
        }
        let text = r#"{"amount":-1999,"currency":"EUR"}"#;
        let money: Money = serde_json::from_str(text).expect("money");
        assert_eq!(serde_json::to_string(&money).expect("JSON"), text);
    }

    #[test]
    fn currencies_do_not_mix() {
        let yen = Money::new(1, Currency::parse("JPY").expect("known")).expect("in range");
        let euro = euros(1).expect("in range");
        assert_eq!(euro.checked_add(yen), Err(MoneyError::CurrencyMismatch));
    }

    proptest! {
        #[test]
        fn sums_are_exact_or_refused(a in -AMOUNT_MAX..=AMOUNT_MAX, b in -AMOUNT_MAX..=AMOUNT_MAX) {
            let sum = i128::from(a) + i128::from(b);
            match euros(a)?.checked_add(euros(b)?) {
                Ok(money) => prop_assert_eq!(i128::from(money.amount()), sum),
                Err(error) => {
                    prop_assert_eq!(error, MoneyError::OutOfRange);
                    prop_assert!(sum.abs() > i128::from(AMOUNT_MAX));
                }
            }
        }

        #[test]
        fn subtracting_undoes_adding(a in 0..AMOUNT_MAX / 2, b in 0..AMOUNT_MAX / 2) {
            prop_assert_eq!(euros(a)?.checked_add(euros(b)?)?.checked_sub(euros(b)?)?, euros(a)?);
        }
    }
}
