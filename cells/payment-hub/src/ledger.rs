//! The ledger's side of a payment. Whatever the ledger does wrong is 503 `LEDGER_DOWN`, which records nothing; an
//! account that it refuses is the destination that the caller chose.

use aibos_cell::calls::CallReply;
use aibos_cell::{Call, CallError, Currency, FieldError, Problem, json, log};
use serde::{Deserialize, Serialize};

use crate::payment::Payment;

const CELL: &str = "ledger";
/// What the processor owes us for all the charges that it took.
const RECEIVABLE: &str = "processor-receivable";

#[derive(Serialize)]
struct Transaction<'a> {
    id: &'a str,
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

/// Posts the payment: the processor owes us, and we owe the destination.
pub(crate) fn post(payment: &Payment) -> Result<(), Problem> {
    let entry = |account, kind, direction| Entry {
        account,
        kind,
        direction,
        amount: payment.amount(),
        currency: payment.currency(),
    };
    let transaction = Transaction {
        id: payment.id(),
        entries: [
            entry(RECEIVABLE, "processor-receivable", "debit"),
            entry(payment.destination(), "merchant-payable", "credit"),
        ],
    };
    let reply = Call::post(CELL, "/transactions").json(&transaction).and_then(Call::send);
    understand(reply)
}

/// Makes sure that the payment's destination can be credited later.
pub(crate) fn open_destination(payment: &Payment) -> Result<(), Problem> {
    let reply =
        Call::post(CELL, "/merchant-accounts").json(&json!({ "code": payment.destination() })).and_then(Call::send);
    understand(reply)
}

fn understand(reply: Result<CallReply, CallError>) -> Result<(), Problem> {
    let reply = reply.map_err(|error| down(&error))?;
    match reply.status() {
        200 | 201 => Ok(()),
        400 => {
            let Refusal { errors } = reply.json().map_err(|error| down(&error))?;
            Err(Problem::validation(errors.into_iter().map(about_destination).collect()))
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
