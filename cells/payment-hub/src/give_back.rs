//! `POST /payments/{id}/refunds`: gives back all or part of what was taken.

use aibos_cell::{Effect, FieldError, Problem, Reply, Request, context, log, state};
use serde::Deserialize;

use crate::order::{check_amount, check_text};
use crate::payment::{PARTS_SYNCED_MAX, Payment, REFUNDS_SYNCED_MAX, Refusal};
use crate::processor::{self, Answer, Kind};
use crate::refund::{self, Refund, RefundStatus};
use crate::{ledger, store};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a refund")]
struct RefundRequest {
    /// All that is left when absent.
    amount: Option<i64>,
    reason: Option<String>,
}

/// 201 with the refund; 202 when the processor has not answered; 402 `REFUND_DECLINED` when it refuses, which is recorded.
pub(crate) fn refund(request: &Request) -> Result<Reply, Problem> {
    let RefundRequest { amount, reason } = request.json_or_default()?;
    // Before the payment is looked at: a body that is wrong in itself records nothing, not even that a hold is over.
    check_amount(amount).map_err(|error| Problem::validation(vec![error]))?;
    check_reason(reason.as_deref())?;
    let (mut payment, touched) = store::touch(request)?;
    let refund = begin(&mut payment, amount, reason)?.map_err(|refusal| store::refused(refusal, touched))?;
    match refund.status {
        RefundStatus::Succeeded => Reply::json(201, &refund),
        RefundStatus::Pending => Reply::json(202, &refund),
        RefundStatus::Failed => Err(declined(&refund)),
    }
}

/// Is the reason a text that can be kept?
pub(crate) fn check_reason(reason: Option<&str>) -> Result<(), Problem> {
    check_text("/reason", reason).map_err(|error: FieldError| Problem::validation(vec![error]))
}

/// Asks the processor for a refund, and books and records its answer. The inner error is a refund that the payment does
/// not allow.
pub(crate) fn begin(
    payment: &mut Payment,
    amount: Option<i64>,
    reason: Option<String>,
) -> Result<Result<Refund, Refusal>, Problem> {
    let id = context::new_id();
    let parts = match payment.begin_refund(&id, amount) {
        Ok(parts) => parts,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let mut refund = Refund::begin(id, payment, parts, reason, context::now());
    match processor::operate(payment, Kind::Refund, &refund.refund_id, refund.amount)? {
        Answer::Processing => {
            payment.await_refund(&refund.refund_id);
            store::record_refund(payment, &refund)?;
        }
        answer => settle(payment, &mut refund, answer)?,
    }
    Ok(Ok(refund))
}

/// Brings the refunds that were not answered further, oldest first, where there is an answer now. What one call does is
/// bounded: the rest waits on, for the next `sync`. So does a refund that the ledger refuses, for example because its account
/// has a limit now; it keeps none of the others waiting.
pub(crate) fn sync(payment: &mut Payment) -> Result<(), Problem> {
    let (mut settled, mut parts) = (0_usize, 0_usize);
    for id in payment.refunds_waiting.clone() {
        let key = refund::key(payment.id(), &id);
        let missing = || Problem::internal(format!("the refund {id} waits and is not stored"));
        let mut refund: Refund = state::get(&key)?.ok_or_else(missing)?;
        if settled >= REFUNDS_SYNCED_MAX {
            break;
        }
        let answer = processor::ask_operation(payment, &id, refund.amount)?;
        if matches!(answer, Answer::Processing | Answer::Conflicted) {
            continue;
        }
        parts = parts.saturating_add(refund.parts.len());
        // One is always tried: none has more parts than there may be captures.
        if parts > PARTS_SYNCED_MAX && parts > refund.parts.len() {
            break;
        }
        if settle_waiting(payment, &mut refund, answer)? == Settled::Yes {
            settled = settled.saturating_add(1);
        }
    }
    Ok(())
}

/// Does a refund wait no longer?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    Yes,
    No,
}

fn settle_waiting(payment: &mut Payment, refund: &mut Refund, answer: Answer) -> Result<Settled, Problem> {
    match settle(payment, refund, answer) {
        Ok(()) => Ok(Settled::Yes),
        // The ledger has kept nothing of what it refused, and nothing was recorded here.
        Err(problem) if problem.status() == 409 => {
            log::warn(&format!("the refund {} waits on: the ledger answered {}", refund.refund_id, problem.code()));
            Ok(Settled::No)
        }
        Err(problem) => Err(problem),
    }
}

/// Books and records an answer. Whatever fails, the payment and the refund are as they were.
fn settle(payment: &mut Payment, refund: &mut Refund, answer: Answer) -> Result<(), Problem> {
    match answer {
        Answer::Processing => return Ok(()),
        Answer::Succeeded => {
            ledger::reverse(payment, &refund.parts)?;
            payment.finish_refund(&refund.refund_id, refund.amount);
            refund.status = RefundStatus::Succeeded;
        }
        Answer::Declined { code } => {
            payment.fail_refund(&refund.refund_id, &refund.parts);
            refund.status = RefundStatus::Failed;
            refund.decline_code = Some(code);
        }
        // Nothing is booked that nobody asked for; the refund waits, and the money is kept for it.
        Answer::Conflicted => return Err(processor::senseless("a refund")),
    }
    store::record_refund(payment, refund)
}

/// A decline is an answer, not a failure: its 402 commits, so that the attempt stays on record.
pub(crate) fn declined(refund: &Refund) -> Problem {
    Problem::new(402, "REFUND_DECLINED", "The processor refused the refund.")
        .member("refund_id", refund.refund_id.as_str())
        .member("decline_code", refund.decline_code.as_deref())
        .effect(Effect::Commit)
}
