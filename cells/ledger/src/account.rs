//! Accounts: what they are, on which side they grow, and what the cells of the platform use them for.

use std::collections::BTreeMap;

use aibos_cell::identifier::is_identifier;
use aibos_cell::{Currency, Timestamp};
use serde::{Deserialize, Serialize};

/// The two sides of an entry, and of an account's normal balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The left side.
    Debit,
    /// The right side.
    Credit,
}

/// The five types of double-entry bookkeeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccountType {
    /// What we own or are owed.
    Asset,
    /// What we owe.
    Liability,
    /// What belongs to the owners.
    Equity,
    /// What we earned.
    Income,
    /// What we spent.
    Expense,
}

impl AccountType {
    /// The side on which the account grows.
    #[must_use]
    pub fn normal_balance(self) -> Direction {
        match self {
            Self::Asset | Self::Expense => Direction::Debit,
            Self::Liability | Self::Equity | Self::Income => Direction::Credit,
        }
    }
}

/// What an account is for. Every entry says which kind it means, so that a payment cannot land on an account of ours
/// that happens to have the name of its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// What the processor has taken for us and not paid out yet.
    ProcessorReceivable,
    /// What we owe a merchant.
    MerchantPayable,
}

impl Kind {
    /// The type of the accounts of this kind.
    #[must_use]
    pub fn account_type(self) -> AccountType {
        match self {
            Self::ProcessorReceivable => AccountType::Asset,
            Self::MerchantPayable => AccountType::Liability,
        }
    }

    /// May an account of this kind have this code? The platform's own codes are never a merchant's, whoever comes first.
    #[must_use]
    pub fn may_be_called(self, code: &str) -> bool {
        code != Self::ProcessorReceivable.describe() || self == Self::ProcessorReceivable
    }

    fn describe(self) -> &'static str {
        match self {
            Self::ProcessorReceivable => "processor-receivable",
            Self::MerchantPayable => "merchant-payable",
        }
    }
}

/// An account as it is stored, at [`key`]. It has no currency: it holds a balance in each one it is used in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// What it is for.
    pub kind: Kind,
    /// One of the five types.
    pub r#type: AccountType,
    /// The side on which it grows.
    pub normal_balance: Direction,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// How low `available` may fall in a currency, in minor units; without a line, as low as it likes. Since format 2.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub min_available: BTreeMap<Currency, i64>,
}

impl Account {
    /// A new account, opened by its first use.
    #[must_use]
    pub fn open(kind: Kind, now: Timestamp) -> Self {
        let r#type = kind.account_type();
        Self {
            kind,
            r#type,
            normal_balance: r#type.normal_balance(),
            created_at: now.to_string(),
            min_available: BTreeMap::new(),
        }
    }
}

/// What is expected of an account's code.
pub const CODE_RULE: &str = "must be 1 to 64 characters of A-Z a-z 0-9 . _ : -";

/// May this be an account's code?
#[must_use]
pub fn is_code(text: &str) -> bool {
    is_identifier(text)
}

/// The name of an account's record under its [`prefix`].
pub const RECORD: &str = "about";

/// The prefix of an account's record and counters: one list of it is a consistent answer. A code holds no `/`, so it is
/// the prefix of no other account.
#[must_use]
pub fn prefix(code: &str) -> String {
    format!("account/{code}/")
}

/// Where an account's record is stored.
#[must_use]
pub fn key(code: &str) -> String {
    format!("account/{code}/{RECORD}")
}

/// Where what is available on an account with a limit is counted.
#[must_use]
pub fn available_key(code: &str, currency: Currency) -> String {
    format!("available/{code}/{currency}")
}

/// Why an account of one kind cannot be used as another.
#[must_use]
pub fn wrong_kind(code: &str, wanted: Kind) -> String {
    format!("{code} is not a {} account", wanted.describe())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assets_grow_by_debits_and_liabilities_by_credits() {
        use AccountType::{Asset, Equity, Expense, Income, Liability};
        for grows_by_debit in [Asset, Expense] {
            assert_eq!(grows_by_debit.normal_balance(), Direction::Debit);
        }
        for grows_by_credit in [Liability, Equity, Income] {
            assert_eq!(grows_by_credit.normal_balance(), Direction::Credit);
        }
    }

    #[test]
    fn a_merchant_is_not_called_as_the_platforms_own_account_is() {
        assert!(Kind::ProcessorReceivable.may_be_called("processor-receivable"));
        assert!(!Kind::MerchantPayable.may_be_called("processor-receivable"));
        assert!(Kind::MerchantPayable.may_be_called("processor-receivable-2"));
    }

    #[test]
    fn no_account_is_under_the_prefix_of_another() {
        let codes = ["acme", "acme-2", "acme.eu", "acme:eu", "acme_eu", "about"];
        for code in codes {
            let under: Vec<&str> = codes.into_iter().filter(|other| key(other).starts_with(&prefix(code))).collect();
            assert_eq!(under, [code]);
        }
    }

    #[test]
    fn an_account_of_format_1_has_no_limits() {
        let stored = r#"{"kind":"merchant-payable","type":"liability","normal_balance":"credit","created_at":"x"}"#;
        let account: Account = serde_json::from_str(stored).expect("the form of format 1");
        assert!(account.min_available.is_empty());
        assert_eq!(serde_json::to_string(&account).expect("JSON"), stored);
    }

    #[test]
    fn the_stored_form_is_fixed() {
        let account = Account::open(Kind::MerchantPayable, Timestamp::from_milliseconds(0));
        assert_eq!(
            serde_json::to_value(account).expect("JSON"),
            serde_json::json!({
                "kind": "merchant-payable",
                "type": "liability",
                "normal_balance": "credit",
                "created_at": "1970-01-01T00:00:00.000Z",
            })
        );
    }
}
