//! What the computing route of the benchmark does, once for all hosts: read a small JSON order, answer its fee. The cell,
//! the component of the standard world and the native twin all compile this file, so only the way to it differs.

use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Order {
    amount: i64,
    currency: String,
    destination: String,
}

#[derive(Serialize)]
struct Quote<'a> {
    amount: i64,
    currency: &'a str,
    destination: &'a str,
    fee: i64,
    net: i64,
}

/// The fee of the order in the body, as JSON; none when the body is no order.
pub(crate) fn quote(body: &[u8]) -> Option<Vec<u8>> {
    let order: Order = serde_json::from_slice(body).ok()?;
    let fee = order.amount.checked_mul(29)?.checked_div(1000)?.checked_add(30)?;
    let net = order.amount.checked_sub(fee)?;
    let quote = Quote { amount: order.amount, currency: &order.currency, destination: &order.destination, fee, net };
    serde_json::to_vec(&quote).ok()
}
