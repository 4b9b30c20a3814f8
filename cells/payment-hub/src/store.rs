//! Payments and refunds in the hub's state: read, brought up to now, written with the one event of their change.

use aibos_cell::identifier::is_identifier;
use aibos_cell::{Effect, Problem, Request, context, events, state};

use crate::ledger;
use crate::payment::{self, CAPTURES_MAX, Payment, REFUNDS_MAX, REFUNDS_WAITING_MAX, Refusal};
use crate::refund::{self, Refund};

/// What became of the payment's hold by being looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touched {
    /// Nothing.
    AsItWas,
    /// Its time was over, which is recorded now.
    Lapsed,
}

/// The payment in the path.
pub(crate) fn known_payment(request: &Request) -> Result<Payment, Problem> {
    let id = request.parameter("id")?;
    let payment = if is_identifier(id) { state::get(&payment::key(id))? } else { None };
    payment.ok_or_else(|| Problem::not_found("There is no payment with this id."))
}

/// The payment in the path, about to be changed: a hold whose time is over ends first.
pub(crate) fn touch(request: &Request) -> Result<(Payment, Touched), Problem> {
    let mut payment = known_payment(request)?;
    if !payment.status().is_capturable() || !payment.is_over(context::now()) {
        return Ok((payment, Touched::AsItWas));
    }
    ledger::expire(&payment)?;
    payment.expire()?;
    record(&mut payment, "payment.expired")?;
    Ok((payment, Touched::Lapsed))
}

/// Stages the payment and the one event of its change.
pub(crate) fn record(payment: &mut Payment, event: &str) -> Result<(), Problem> {
    payment.count_change();
    state::put(&payment::key(payment.id()), payment)?;
    events::publish(event, Some(payment.id()), payment)?;
    Ok(())
}

/// Stages the refund and its payment, and the one event of their change.
pub(crate) fn record_refund(payment: &mut Payment, refund: &Refund) -> Result<(), Problem> {
    payment.count_change();
    state::put(&payment::key(payment.id()), payment)?;
    state::put(&refund::key(payment.id(), &refund.refund_id), refund)?;
    events::publish(refund.status.event(), Some(&refund.refund_id), refund)?;
    Ok(())
}

/// The refusal of a change, which keeps what looking at the payment has recorded.
pub(crate) fn refused(refusal: Refusal, touched: Touched) -> Problem {
    let effect = if touched == Touched::Lapsed { Effect::Commit } else { Effect::ByStatus };
    Problem::from(refusal).effect(effect)
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unexpected(status) => {
                let detail = format!("The payment is {status}; this is not possible then.");
                Self::new(409, "PAYMENT_UNEXPECTED_STATE", detail).member("payment_status", status.name())
            }
            Refusal::CaptureTooLarge { capturable } => {
                let detail = format!("From 1 to {capturable} minor units can be captured.");
                Self::new(422, "CAPTURE_AMOUNT_TOO_LARGE", detail).member("amount_capturable", capturable)
            }
            Refusal::RefundTooLarge { refundable } => {
                let detail = match refundable {
                    0 => "Nothing is left to give back.".to_owned(),
                    _ => format!("From 1 to {refundable} minor units can be given back."),
                };
                Self::new(422, "REFUND_AMOUNT_TOO_LARGE", detail).member("amount_refundable", refundable)
            }
            Refusal::TooManyCaptures => {
                let detail = format!("A payment has at most {CAPTURES_MAX} captures.");
                Self::new(409, "TOO_MANY_CAPTURES", detail)
            }
            Refusal::TooManyRefunds => {
                let detail = format!("{REFUNDS_WAITING_MAX} refunds wait for the processor; `sync` the payment first.");
                Self::new(409, "TOO_MANY_REFUNDS", detail)
            }
            Refusal::NoMoreRefunds => {
                Self::new(409, "TOO_MANY_REVERSALS", format!("A payment has at most {REFUNDS_MAX} refunds."))
            }
        }
    }
}

/// The answer to a payment that the processor knows with another amount: recorded, and for a person to look at.
pub(crate) fn conflicted(payment: &Payment) -> Problem {
    let detail =
        "The processor answered with another amount or currency. The payment is on record; a person has to look.";
    Problem::new(409, "PAYMENT_CONFLICTED", detail)
        .member("transaction_id", payment.id())
        .member("payment_status", payment.status().name())
        .effect(Effect::Commit)
}
