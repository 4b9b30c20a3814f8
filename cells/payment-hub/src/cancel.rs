//! `POST /payments/{id}/cancel`: gives up what is held and not taken yet.

use aibos_cell::{Problem, Reply, Request, context};

use crate::payment::{Payment, Refusal};
use crate::processor::{self, Answer, Kind};
use crate::{ledger, store};

/// 200 with the payment: `canceled`, or `partially_captured` when a part was taken before.
pub(crate) fn cancel(request: &Request) -> Result<Reply, Problem> {
    let (mut payment, touched) = store::touch(request)?;
    if !payment.status().is_capturable() {
        return Err(store::refused(Refusal::Unexpected(payment.status()), touched));
    }
    release(&mut payment)?;
    Reply::json(200, &payment)
}

/// Voids the hold at the processor and in the ledger.
pub(crate) fn release(payment: &mut Payment) -> Result<(), Problem> {
    match processor::operate(payment, Kind::Void, &context::new_id(), payment.amount_capturable)? {
        Answer::Succeeded => {}
        // A void that is not certain is none: the hold goes on, and the caller tries again.
        Answer::Declined { .. } | Answer::Processing | Answer::Conflicted => {
            return Err(processor::senseless("a void"));
        }
    }
    ledger::void(payment)?;
    payment.cancel()?;
    store::record(payment, "payment.canceled")
}
