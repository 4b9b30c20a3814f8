//! The processor's side of a payment. Whatever the processor does wrong is 503 `PROCESSOR_DOWN`, which records nothing;
//! what it finds wrong with the order is the caller's to put right, so it is passed on.

use aibos_cell::calls::CallReply;
use aibos_cell::{Call, CallError, Currency, FieldError, Problem, log};
use serde::{Deserialize, Serialize};

use crate::payment::Payment;

const CELL: &str = "processor";

/// What the processor says of a charge, a capture or a refund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Done.
    Succeeded,
    /// It never will be.
    Declined {
        /// Why, in the card networks' words.
        code: String,
    },
    /// Nobody knows yet.
    Processing,
    /// Another amount or currency than was asked for.
    Conflicted,
}

#[derive(Deserialize)]
struct AnswerReply {
    status: AnswerStatus,
    decline_code: Option<String>,
    amount: i64,
    currency: Currency,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum AnswerStatus {
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

#[derive(Serialize)]
struct OperationRequest<'a> {
    id: &'a str,
    charge: &'a str,
    kind: Kind,
    amount: i64,
    currency: Currency,
    source: &'a str,
}

/// What is done to a charge.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Takes money that was only authorised.
    Capture,
    /// Gives up what was only authorised.
    Void,
    /// Gives money back.
    Refund,
}

#[derive(Deserialize)]
struct Refusal {
    errors: Vec<FieldError>,
}

/// Charges the payment's source, or authorises it: the sandbox makes no difference.
pub(crate) fn charge(payment: &Payment) -> Result<Answer, Problem> {
    let request = ChargeRequest {
        id: &payment.transaction_id,
        amount: payment.amount,
        currency: payment.currency,
        source: &payment.source,
    };
    let reply = Call::post(CELL, "/charges").json(&request).and_then(Call::send).map_err(|error| down(&error))?;
    if reply.status() == 400 {
        let Refusal { errors } = reply.json().map_err(|error| down(&error))?;
        return Err(Problem::validation(errors));
    }
    understand(&reply, payment, payment.amount)
}

/// Asks what became of the payment's charge.
pub(crate) fn ask_charge(payment: &Payment) -> Result<Answer, Problem> {
    let reply = Call::get(CELL, &format!("/charges/{}", payment.id())).send().map_err(|error| down(&error))?;
    understand(&reply, payment, payment.amount)
}

/// Does something to the payment's charge.
pub(crate) fn operate(payment: &Payment, kind: Kind, id: &str, amount: i64) -> Result<Answer, Problem> {
    let request = OperationRequest {
        id,
        charge: &payment.transaction_id,
        kind,
        amount,
        currency: payment.currency,
        source: &payment.source,
    };
    let reply = Call::post(CELL, "/operations").json(&request).and_then(Call::send).map_err(|error| down(&error))?;
    understand(&reply, payment, amount)
}

/// Asks what became of an operation.
pub(crate) fn ask_operation(payment: &Payment, id: &str, amount: i64) -> Result<Answer, Problem> {
    let reply = Call::get(CELL, &format!("/operations/{id}")).send().map_err(|error| down(&error))?;
    understand(&reply, payment, amount)
}

fn understand(reply: &CallReply, payment: &Payment, asked: i64) -> Result<Answer, Problem> {
    if !matches!(reply.status(), 200 | 201) {
        return Err(down(&CallError::Other(format!("it answered {}", reply.status()))));
    }
    let AnswerReply { status, decline_code, amount, currency } = reply.json().map_err(|error| down(&error))?;
    Ok(match status {
        AnswerStatus::Declined => Answer::Declined { code: decline_code.unwrap_or_else(|| "card_declined".to_owned()) },
        AnswerStatus::Succeeded | AnswerStatus::Processing if (amount, currency) != (asked, payment.currency) => {
            log::error(&format!("the processor answered {amount} {currency} for {asked} {}", payment.currency));
            Answer::Conflicted
        }
        AnswerStatus::Succeeded => Answer::Succeeded,
        AnswerStatus::Processing => Answer::Processing,
    })
}

/// An answer that makes no sense where it was given.
pub(crate) fn senseless(what: &str) -> Problem {
    down(&CallError::Other(format!("its answer to {what} makes no sense")))
}

fn down(error: &CallError) -> Problem {
    log::error(&format!("the processor failed: {error:?}"));
    let detail = "The processor does not answer. Nothing was recorded; try again.";
    Problem::new(503, "PROCESSOR_DOWN", detail).header("retry-after", "1")
}
