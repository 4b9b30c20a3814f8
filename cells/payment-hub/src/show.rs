//! What is on record: one payment, all payments, a payment's refunds.

use aibos_cell::{Listing, Problem, Reply, Request, state};

use crate::payment::Payment;
use crate::refund::{self, Refund};
use crate::store::known_payment;

/// One payment.
pub(crate) fn payment(request: &Request) -> Result<Reply, Problem> {
    Reply::json(200, &known_payment(request)?)
}

/// All payments, oldest first: their ids sort by time.
pub(crate) fn payments(request: &Request) -> Result<Reply, Problem> {
    let payments: Listing<Payment> = state::page("payment/", &request.page()?)?;
    Reply::json(200, &payments)
}

/// The refunds of a payment, oldest first.
pub(crate) fn refunds(request: &Request) -> Result<Reply, Problem> {
    let payment = known_payment(request)?;
    let refunds: Listing<Refund> = state::page(&refund::prefix(payment.id()), &request.page()?)?;
    Reply::json(200, &refunds)
}
