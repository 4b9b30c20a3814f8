//! The ledger's side of a payment. Whatever the ledger does wrong is 503 `LEDGER_DOWN`, which records nothing; an
//! account that it refuses is the destination that the caller chose, and an account's limit is the caller's to know.

use aibos_cell::{Call, CallError, Currency, FieldError, Problem, Timestamp, json, log};
use serde::{Deserialize, Serialize};

use crate::order::RECEIVABLE;
use crate::payment::Payment;
use crate::refund::Part;

const CELL: &str = "ledger";

#[derive(Serialize)]
struct Transaction<'a> {
    id: &'a str,
    entries: [Entry<'a>; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    reverses: Option<&'a str>,
}

#[derive(Serialize)]
struct Reversals<'a> {
    transactions: Vec<Transaction<'a>>,
}

#[derive(Serialize)]
struct Hold<'a> {
    id: &'a str,
    expires_at: Timestamp,
    entries: [Entry<'a>; 2],
}

#[derive(Serialize)]
struct Entry<'a> {
    account: &'a str,
    kind: &'a str,
    direction: &'a str,
    amount: i64,
    currency: Currency,
}

#[derive(Deserialize)]
struct Refusal {
    errors: Vec<FieldError>,
}

/// What the other cell says when it refuses for a reason of its own.
#[derive(Deserialize)]
struct Refused {
    code: String,
    detail: String,
}

/// Posts what was taken: the processor owes us, and we owe the destination.
pub(crate) fn post(payment: &Payment, id: &str, amount: i64) -> Result<(), Problem> {
    send("/transactions", &Transaction { id, entries: entries(payment, amount, ["debit", "credit"]), reverses: None })
}

/// Posts what was given back, as a reversal of each capture that took it: all of them or none.
pub(crate) fn reverse(payment: &Payment, parts: &[Part]) -> Result<(), Problem> {
    let reversals = parts.iter().map(|part| Transaction {
        id: &part.transaction_id,
        entries: entries(payment, part.amount, ["credit", "debit"]),
        reverses: Some(&part.reverses),
    });
    send("/reversals", &Reversals { transactions: reversals.collect() })
}

/// Holds the whole payment, until it expires.
pub(crate) fn hold(payment: &Payment, expires_at: Timestamp) -> Result<(), Problem> {
    let entries = entries(payment, payment.amount, ["debit", "credit"]);
    send("/holds", &Hold { id: payment.id(), expires_at, entries })
}

/// Posts a part of the payment's hold; the hold `rest` goes on with what is left, or it is released.
pub(crate) fn post_hold(payment: &Payment, id: &str, amount: i64, rest: Option<&str>) -> Result<(), Problem> {
    end(payment, "post", &json!({ "id": id, "amount": amount, "rest": rest }))
}

/// Releases the payment's hold.
pub(crate) fn void(payment: &Payment) -> Result<(), Problem> {
    end(payment, "void", &json!({}))
}

/// Releases the payment's hold because its time is over.
pub(crate) fn expire(payment: &Payment) -> Result<(), Problem> {
    end(payment, "expire", &json!({}))
}

fn end<T: Serialize>(payment: &Payment, step: &str, body: &T) -> Result<(), Problem> {
    let hold =
        payment.hold_id.as_deref().ok_or_else(|| Problem::internal("a payment without a hold has none to end"))?;
    send(&format!("/holds/{hold}/{step}"), body)
}

/// The two entries: the processor's on the first side, the destination's on the second.
fn entries<'a>(payment: &'a Payment, amount: i64, [processor, destination]: [&'a str; 2]) -> [Entry<'a>; 2] {
    let currency = payment.currency;
    let entry = |account, kind, direction| Entry { account, kind, direction, amount, currency };
    [entry(RECEIVABLE, "processor-receivable", processor), entry(&payment.destination, "merchant-payable", destination)]
}

/// Makes sure that the payment's destination can be credited later.
pub(crate) fn open_destination(payment: &Payment) -> Result<(), Problem> {
    send("/merchant-accounts", &json!({ "code": payment.destination }))
}

fn send<T: Serialize>(path: &str, body: &T) -> Result<(), Problem> {
    let reply = Call::post(CELL, path).json(body).and_then(Call::send).map_err(|error| down(&error))?;
    match reply.status() {
        200 | 201 => Ok(()),
        400 => {
            let Refusal { errors } = reply.json().map_err(|error| down(&error))?;
            Err(Problem::validation(errors.into_iter().map(about_destination).collect()))
        }
        409 => {
            let Refused { code, detail } = reply.json().map_err(|error| down(&error))?;
            // Only these are the caller's to understand; the hub knows its holds and its transactions by itself.
            match code.as_str() {
                "ACCOUNT_LIMIT" => Err(Problem::new(409, "ACCOUNT_LIMIT", detail)),
                "TOO_MANY_REVERSALS" => Err(Problem::new(409, "TOO_MANY_REVERSALS", detail)),
                _ => Err(down(&CallError::Other(format!("it answered {code}")))),
            }
        }
        status => Err(down(&CallError::Other(format!("it answered {status}")))),
    }
}

/// The ledger speaks of entries and codes; the caller knows a destination.
fn about_destination(error: FieldError) -> FieldError {
    FieldError::new("/destination", error.message)
}

fn down(error: &CallError) -> Problem {
    log::error(&format!("the ledger failed: {error:?}"));
    let detail = "The ledger does not answer. Nothing was recorded; try again.";
    Problem::new(503, "LEDGER_DOWN", detail).header("retry-after", "1")
}
