//! `POST /payments/{id}/reversal`: undoes a payment, whatever became of it: what is held is released, what was taken is
//! given back.

use aibos_cell::{Problem, Reply, Request};
use serde::{Deserialize, Serialize};

use crate::payment::{Payment, Refusal};
use crate::refund::{Refund, RefundStatus};
use crate::{cancel, give_back, store};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a reversal")]
struct ReversalRequest {
    reason: Option<String>,
}

#[derive(Serialize)]
struct Reversal<'a> {
    payment: &'a Payment,
    refund: Option<&'a Refund>,
}

/// 200 with the payment and its refund, if there was something to give back; 202 and 402 as for a refund.
pub(crate) fn reverse(request: &Request) -> Result<Reply, Problem> {
    let ReversalRequest { reason } = request.json_or_default()?;
    give_back::check_reason(reason.as_deref())?;
    let (mut payment, touched) = store::touch(request)?;
    let held = payment.status().is_capturable();
    if !held && !payment.status().is_refundable() {
        return Err(store::refused(Refusal::Unexpected(payment.status()), touched));
    }
    if held {
        cancel::release(&mut payment)?;
    }
    let refund = if held && payment.refundable() == 0 {
        None
    } else {
        Some(give_back::begin(&mut payment, None, reason)?.map_err(|refusal| store::refused(refusal, touched))?)
    };
    let reversal = Reversal { payment: &payment, refund: refund.as_ref() };
    match refund.as_ref().map(|refund| (refund, refund.status)) {
        Some((refund, RefundStatus::Failed)) => Err(give_back::declined(refund)),
        Some((_, RefundStatus::Pending)) => Reply::json(202, &reversal),
        _ => Reply::json(200, &reversal),
    }
}
