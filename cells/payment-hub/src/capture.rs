//! `POST /payments/{id}/capture`: takes all or part of what is held.

use aibos_cell::{Problem, Reply, Request, context};
use serde::Deserialize;

use crate::order::check_amount;
use crate::payment::{CapturePlan, Last, Payment};
use crate::processor::{self, Answer, Kind};
use crate::{ledger, store};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a capture")]
struct CaptureRequest {
    /// All that is held when absent.
    amount: Option<i64>,
    /// Whether the rest is released; it is held on when absent.
    #[serde(default)]
    r#final: bool,
}

/// 200 with the payment; 202 when the processor has not answered; 402 `CAPTURE_DECLINED` when it refuses, and then the hold
/// stays as it was.
pub(crate) fn capture(request: &Request) -> Result<Reply, Problem> {
    let CaptureRequest { amount, r#final } = request.json_or_default()?;
    // Before the payment is looked at: a body that is wrong in itself records nothing, not even that a hold is over.
    check_amount(amount).map_err(|error| Problem::validation(vec![error]))?;
    let (mut payment, touched) = store::touch(request)?;
    let last = if r#final { Last::Yes } else { Last::No };
    let plan =
        payment.plan_capture(context::new_id(), amount, last).map_err(|refusal| store::refused(refusal, touched))?;
    match processor::operate(&payment, Kind::Capture, &plan.capture_id, plan.amount)? {
        Answer::Succeeded => {
            book(&mut payment, plan)?;
            Reply::json(200, &payment)
        }
        Answer::Processing => {
            payment.await_capture(plan)?;
            store::record(&mut payment, "payment.processing")?;
            Reply::json(202, &payment)
        }
        Answer::Declined { code } => {
            let detail = "The processor refused the capture; the hold is as it was.";
            Err(Problem::new(402, "CAPTURE_DECLINED", detail).member("decline_code", code))
        }
        Answer::Conflicted => {
            conflict(&mut payment)?;
            Err(store::conflicted(&payment))
        }
    }
}

/// Brings a payment whose capture was not answered further, if there is an answer now.
pub(crate) fn sync(payment: &mut Payment, plan: CapturePlan) -> Result<(), Problem> {
    match processor::ask_operation(payment, &plan.capture_id, plan.amount)? {
        Answer::Processing => Ok(()),
        Answer::Succeeded => book(payment, plan),
        Answer::Declined { .. } => {
            payment.fail_capture()?;
            store::record(payment, "payment.capture_failed")
        }
        Answer::Conflicted => conflict(payment),
    }
}

fn book(payment: &mut Payment, plan: CapturePlan) -> Result<(), Problem> {
    let mut rest_hold = None;
    if payment.is_over(context::now()) {
        // The money was taken in time and the answer came late: the hold has expired, what was taken is posted all the same.
        ledger::expire(payment)?;
        ledger::post(payment, &plan.capture_id, plan.amount)?;
    } else {
        rest_hold = (plan.rest > 0).then(context::new_id);
        ledger::post_hold(payment, &plan.capture_id, plan.amount, rest_hold.as_deref())?;
    }
    payment.capture(plan, rest_hold)?;
    store::record(payment, "payment.captured")
}

fn conflict(payment: &mut Payment) -> Result<(), Problem> {
    if payment.is_over(context::now()) {
        ledger::expire(payment)?;
    } else {
        ledger::void(payment)?;
    }
    payment.conflict()?;
    store::record(payment, "payment.conflicted")
}
