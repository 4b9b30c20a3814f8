//! The processor's side of a payment. Whatever the processor does wrong is 503 `PROCESSOR_DOWN`, which records nothing;
//! what it finds wrong with the order is the caller's to put right, so it is passed on.

use aibos_cell::calls::CallReply;
use aibos_cell::{Call, CallError, Currency, FieldError, Problem, log};
use serde::{Deserialize, Serialize};

use crate::payment::Payment;

const CELL: &str = "processor";

/// What became of a charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Charge {
    /// The money is ours.
    Succeeded,
    /// It never will be.
    Declined {
        /// Why, in the card networks' words.
        code: String,
    },
    /// Nobody knows yet.
    Processing,
}

#[derive(Deserialize)]
struct ChargeReply {
    status: ChargeStatus,
    decline_code: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ChargeStatus {
    Succeeded,
    Declined,
    Processing,
}

#[derive(Serialize)]
struct ChargeRequest<'a> {
    id: &'a str,
    amount: i64,
    currency: Currency,
    source: &'a str,
}

#[derive(Deserialize)]
struct Refusal {
    errors: Vec<FieldError>,
}

/// Charges the payment's source.
pub(crate) fn charge(payment: &Payment) -> Result<Charge, Problem> {
    let request = ChargeRequest {
        id: payment.id(),
        amount: payment.amount(),
        currency: payment.currency(),
        source: payment.source(),
    };
    let reply = Call::post(CELL, "/charges").json(&request).and_then(Call::send).map_err(|error| down(&error))?;
    if reply.status() == 400 {
        let Refusal { errors } = reply.json().map_err(|error| down(&error))?;
        return Err(Problem::validation(errors));
    }
    understand(&reply)
}

/// Asks what became of the payment's charge.
pub(crate) fn ask(payment: &Payment) -> Result<Charge, Problem> {
    let reply = Call::get(CELL, &format!("/charges/{}", payment.id())).send().map_err(|error| down(&error))?;
    understand(&reply)
}

fn understand(reply: &CallReply) -> Result<Charge, Problem> {
    if !matches!(reply.status(), 200 | 201) {
        return Err(down(&CallError::Other(format!("it answered {}", reply.status()))));
    }
    let ChargeReply { status, decline_code } = reply.json().map_err(|error| down(&error))?;
    Ok(match status {
        ChargeStatus::Succeeded => Charge::Succeeded,
        ChargeStatus::Processing => Charge::Processing,
        ChargeStatus::Declined => Charge::Declined { code: decline_code.unwrap_or_else(|| "card_declined".to_owned()) },
    })
}

fn down(error: &CallError) -> Problem {
    log::error(&format!("the processor failed: {error:?}"));
    let detail = "The processor does not answer. Nothing was recorded; try again.";
    Problem::new(503, "PROCESSOR_DOWN", detail).header("retry-after", "1")
}
