//! ISO 4217: which currencies there are and how many digits follow the point.
//!
//! List One as of 2026-01-01, without the codes that have no minor unit (metals, testing, "no currency", drawing
//! rights): nothing can be paid in them.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A currency of ISO 4217.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency {
    code: &'static str,
    exponent: u8,
}

impl Currency {
    /// The currency of an upper-case alphabetic code.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        [(0, EXPONENT_0), (2, EXPONENT_2), (3, EXPONENT_3), (4, EXPONENT_4)].into_iter().find_map(
            |(exponent, codes)| {
                let index = codes.binary_search(&code).ok()?;
                let code = codes.get(index)?;
                Some(Self { code, exponent })
            },
        )
    }

    /// The alphabetic code, for example `EUR`.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.code
    }

    /// How many decimal digits a minor unit is below the unit: 2 for cents, 0 for yen.
    #[must_use]
    pub fn exponent(self) -> u8 {
        self.exponent
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code)
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code)
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Code;

        impl Visitor<'_> for Code {
            type Value = Currency;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an ISO 4217 currency code such as EUR")
            }

            fn visit_str<E: Error>(self, code: &str) -> Result<Currency, E> {
                Currency::parse(code).ok_or_else(|| E::custom(format!("{code:?} is not an ISO 4217 currency code")))
            }
        }

        deserializer.deserialize_str(Code)
    }
}

const EXPONENT_0: &[&str] = &[
    "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF",
    "XPF",
];

const EXPONENT_2: &[&str] = &[
    "AED", "AFN", "ALL", "AMD", "AOA", "ARS", "AUD", "AWG", "AZN", "BAM", "BBD", "BDT", "BMD", "BND", "BOB", "BOV",
    "BRL", "BSD", "BTN", "BWP", "BYN", "BZD", "CAD", "CDF", "CHE", "CHF", "CHW", "CNY", "COP", "COU", "CRC", "CUP",
    "CVE", "CZK", "DKK", "DOP", "DZD", "EGP", "ERN", "ETB", "EUR", "FJD", "FKP", "GBP", "GEL", "GHS", "GIP", "GMD",
    "GTQ", "GYD", "HKD", "HNL", "HTG", "HUF", "IDR", "ILS", "INR", "IRR", "JMD", "KES", "KGS", "KHR", "KPW", "KYD",
    "KZT", "LAK", "LBP", "LKR", "LRD", "LSL", "MAD", "MDL", "MGA", "MKD", "MMK", "MNT", "MOP", "MRU", "MUR", "MVR",
    "MWK", "MXN", "MXV", "MYR", "MZN", "NAD", "NGN", "NIO", "NOK", "NPR", "NZD", "PAB", "PEN", "PGK", "PHP", "PKR",
    "PLN", "QAR", "RON", "RSD", "RUB", "SAR", "SBD", "SCR", "SDG", "SEK", "SGD", "SHP", "SLE", "SOS", "SRD", "SSP",
    "STN", "SVC", "SYP", "SZL", "THB", "TJS", "TMT", "TOP", "TRY", "TTD", "TWD", "TZS", "UAH", "USD", "USN", "UYU",
    "UZS", "VED", "VES", "WST", "XAD", "XCD", "XCG", "YER", "ZAR", "ZMW", "ZWG",
];

const EXPONENT_3: &[&str] = &["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"];

const EXPONENT_4: &[&str] = &["CLF", "UYW"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_for_the_search() {
        for list in [EXPONENT_0, EXPONENT_2, EXPONENT_3, EXPONENT_4] {
            assert!(list.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn codes_have_the_exponent_of_the_standard() {
        for (code, exponent) in [("EUR", 2), ("USD", 2), ("JPY", 0), ("BHD", 3), ("CLF", 4)] {
            assert_eq!(Currency::parse(code).map(Currency::exponent), Some(exponent));
        }
    }

    #[test]
    fn what_is_no_currency_is_refused() {
        for code in ["", "eur", "EURO", "XXX", "XTS", "XAU", "ZZZ", "€"] {
            assert_eq!(Currency::parse(code), None, "{code}");
        }
    }

    #[test]
    fn json_is_the_bare_code() {
        let currency: Currency = serde_json::from_str("\"JPY\"").expect("known");
        assert_eq!(serde_json::to_string(&currency).expect("JSON"), "\"JPY\"");
        assert!(serde_json::from_str::<Currency>("\"jpy\"").is_err());
    }
}
