//! What is done next, drawn from a seed.

use serde_json::{Value, json};

/// `SplitMix64`: small, and the same for ever.
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    pub(super) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

pub(super) const MERCHANTS: [&str; 3] = ["shop", "bakery", "garage"];
pub(super) const CURRENCIES: [&str; 2] = ["EUR", "JPY"];

const SOURCES: [&str; 20] = [
    "tok_ok",
    "tok_ok",
    "tok_ok",
    "tok_ok",
    "tok_ok",
    "tok_ok",
    "tok_ok",
    "tok_ok",
    "tok_timeout",
    "tok_timeout",
    "tok_refund_timeout",
    "tok_refund_timeout",
    "tok_refund_declined",
    "tok_capture_timeout",
    "tok_capture_timeout",
    "tok_capture_declined",
    "tok_capture_conflict",
    "tok_conflict",
    "tok_declined",
    "tok_trap",
];

/// One operation. A payment is named by its place in the model.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Create { manual: bool, source: &'static str, merchant: &'static str, currency: &'static str, amount: i64 },
    Capture { payment: usize, amount: Option<i64>, last: bool },
    Cancel { payment: usize },
    Refund { payment: usize, amount: Option<i64> },
    Reversal { payment: usize },
    Sync { payment: usize },
    Limit { merchant: &'static str, currency: &'static str, min: Option<i64> },
}

impl Operation {
    /// The next one, when there are so many payments, of which these are not at their end yet.
    pub(super) fn draw(random: &mut Random, payments: usize, live: &[usize]) -> Self {
        let kind = if payments < 3 { 0 } else { random.below(20) };
        // Mostly one to which something can still happen, and of those one of the last, so that several operations meet
        // the same one.
        let payment = if live.is_empty() || random.one_in(6) {
            random.below(payments.max(1))
        } else {
            live[live.len() - 1 - random.below(live.len().min(6))]
        };
        match kind {
            0..=4 => Self::Create {
                manual: !random.one_in(3),
                source: random.pick(&SOURCES),
                merchant: random.pick(&MERCHANTS),
                currency: random.pick(&CURRENCIES),
                amount: i64::try_from(random.below(1000)).unwrap()
                    + if random.one_in(20) { 9_007_199_254_739_000 } else { 1 },
            },
            5..=9 => Self::Capture { payment, amount: amount(random), last: random.one_in(4) },
            10 => Self::Cancel { payment },
            11..=14 => Self::Refund { payment, amount: amount(random) },
            15 => Self::Reversal { payment },
            16..=18 => Self::Sync { payment },
            _ => Self::Limit {
                merchant: random.pick(&MERCHANTS),
                currency: random.pick(&CURRENCIES),
                min: (!random.one_in(4)).then(|| i64::try_from(random.below(600)).unwrap() - 200),
            },
        }
    }

    /// How it is said over HTTP; `id` is the id of its payment.
    pub(super) fn request(&self, id: &str) -> (&'static str, String, Value) {
        let amounts = |amount: &Option<i64>| amount.map_or(json!({}), |amount| json!({ "amount": amount }));
        match self {
            Self::Create { manual, source, merchant, currency, amount } => {
                let mut body =
                    json!({ "amount": amount, "currency": currency, "source": source, "destination": merchant });
                if *manual {
                    body["capture_method"] = "manual".into();
                }
                // An automatic payment is the same by either path.
                let path = if *manual || amount % 2 == 0 { "/payments" } else { "/payments/process" };
                ("POST", path.to_owned(), body)
            }
            Self::Capture { amount, last, .. } => {
                let mut body = amounts(amount);
                if *last {
                    body["final"] = true.into();
                }
                ("POST", format!("/payments/{id}/capture"), body)
            }
            Self::Cancel { .. } => ("POST", format!("/payments/{id}/cancel"), json!({})),
            Self::Refund { amount, .. } => ("POST", format!("/payments/{id}/refunds"), amounts(amount)),
            Self::Reversal { .. } => ("POST", format!("/payments/{id}/reversal"), json!({ "reason": "a mistake" })),
            Self::Sync { .. } => ("POST", format!("/payments/{id}/sync"), json!({})),
            Self::Limit { merchant, currency, min } => {
                ("PUT", format!("/ledger/accounts/{merchant}/limits/{currency}"), json!({ "min_available": min }))
            }
        }
    }

    pub(super) fn payment(&self) -> Option<usize> {
        match self {
            Self::Create { .. } | Self::Limit { .. } => None,
            Self::Capture { payment, .. }
            | Self::Cancel { payment }
            | Self::Refund { payment, .. }
            | Self::Reversal { payment }
            | Self::Sync { payment } => Some(*payment),
        }
    }
}

/// All of it, a part, or what nobody has.
fn amount(random: &mut Random) -> Option<i64> {
    match random.below(10) {
        0..=2 => None,
        3..=8 => Some(i64::try_from(random.below(400)).unwrap()),
        _ => Some(9_007_199_254_740_991),
    }
}
