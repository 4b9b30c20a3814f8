//! `POST /payments/process` and `POST /payments`: a payment is charged at once, or authorised and held.

use aibos_cell::{Effect, Problem, Reply, Request, context};

use crate::order::{CaptureMethod, CreateRequest, OrderRequest};
use crate::payment::{Payment, Status};
use crate::processor::{self, Answer};
use crate::{ledger, store};

/// Is the payment new, or did it wait for the processor's answer?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    New,
    Waiting,
}

/// Takes a payment at once: 201 succeeded, 202 still processing, 402 declined (and recorded), 409 when the processor knows
/// another amount (and recorded), 503 when one of the other cells fails (and nothing is recorded).
pub(crate) fn process(request: &Request) -> Result<Reply, Problem> {
    begin(request.json()?, CaptureMethod::Automatic)
}

/// The same, or only authorises: 201 with `requires_capture`, and the money is held.
pub(crate) fn create(request: &Request) -> Result<Reply, Problem> {
    let (order, capture_method) = request.json::<CreateRequest>()?.split();
    begin(order, capture_method)
}

fn begin(order: OrderRequest, capture_method: CaptureMethod) -> Result<Reply, Problem> {
    let order = order.check().map_err(Problem::validation)?;
    let mut payment = Payment::begin(context::new_id(), order, capture_method, context::now());
    let answer = processor::charge(&payment)?;
    settle(&mut payment, answer, Age::New)?;
    match payment.status() {
        Status::Processing => Reply::json(202, &payment),
        Status::Failed => Err(declined(&payment)),
        Status::Conflicted => Err(store::conflicted(&payment)),
        _ => Reply::json(201, &payment),
    }
}

/// Books and records what the processor answered to the charge.
pub(crate) fn settle(payment: &mut Payment, answer: Answer, age: Age) -> Result<(), Problem> {
    let event = match answer {
        Answer::Processing if age == Age::Waiting => return Ok(()),
        // The destination is made sure of now, because the money will have to go there once the charge goes through.
        Answer::Processing => {
            ledger::open_destination(payment)?;
            "payment.created"
        }
        Answer::Declined { code } => {
            payment.decline(code)?;
            "payment.failed"
        }
        Answer::Conflicted => {
            payment.conflict()?;
            "payment.conflicted"
        }
        Answer::Succeeded => take(payment, age)?,
    };
    store::record(payment, event)
}

fn take(payment: &mut Payment, age: Age) -> Result<&'static str, Problem> {
    let Some(expires_at) = payment.expires_at else {
        ledger::post(payment, payment.id(), payment.amount)?;
        payment.succeed()?;
        return Ok("payment.succeeded");
    };
    if payment.is_over(context::now()) {
        // The answer came so late that the authorisation is worth nothing any more: there is nothing to hold.
        payment.expire()?;
        return Ok("payment.expired");
    }
    ledger::hold(payment, expires_at)?;
    payment.authorize()?;
    Ok(match age {
        Age::New => "payment.created",
        Age::Waiting => "payment.authorized",
    })
}

/// A decline is an answer, not a failure: its 402 commits, so that the attempt stays on record.
fn declined(payment: &Payment) -> Problem {
    Problem::new(402, "PAYMENT_DECLINED", "The payment was declined.")
        .member("transaction_id", payment.id())
        .member("decline_code", payment.decline_code.as_deref())
        .effect(Effect::Commit)
}
