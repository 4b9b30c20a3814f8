//! The payment hub: the public face of payments. One payment is one unit of work: the processor's charge, the ledger's
//! transaction, the payment and its event commit together, or none of them does.
//!
//! This file is the adapter only: routes, JSON in and out. The rules are in [`order`] and [`payment`]; `processor` and
//! `ledger` speak to the other two cells. State keys: `payment/{id}`.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::float_arithmetic,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod health;
mod ledger;
pub mod order;
pub mod payment;
mod processor;

use aibos_cell::identifier::is_identifier;
use aibos_cell::{Cell, Effect, Listing, Problem, Reply, Request, Router, context, events, json, state};

use order::OrderRequest;
use payment::{Payment, Status, Unexpected};
use processor::Charge;

/// The payment hub.
pub struct PaymentHub;

impl Cell for PaymentHub {
    fn routes() -> Router {
        Router::new()
            .get("/payments/ping", ping)
            .get("/payments/health", health::show)
            .post("/payments/process", process)
            .get("/payments/status/{id}", show)
            .get("/payments", list)
            .post("/payments/{id}/sync", sync)
    }
}

aibos_cell::export!(PaymentHub);

fn ping(_: &Request) -> Result<Reply, Problem> {
    Reply::json(200, &json!({ "message": "pong" }))
}

/// Takes a payment at once: 201 succeeded, 202 still processing, 402 declined (and recorded), 503 when one of the other
/// cells fails (and nothing is recorded).
fn process(request: &Request) -> Result<Reply, Problem> {
    let order = request.json::<OrderRequest>()?.check().map_err(Problem::validation)?;
    let mut payment = Payment::begin(context::new_id(), order, context::now());
    match processor::charge(&payment)? {
        Charge::Succeeded => {
            ledger::post(&payment)?;
            payment.succeed()?;
        }
        Charge::Declined { code } => payment.decline(code)?,
        // The destination is made sure of now, because the money will have to go there once the charge goes through.
        Charge::Processing => ledger::open_destination(&payment)?,
    }
    record(&payment)?;
    match payment.status() {
        Status::Succeeded => Reply::json(201, &payment),
        Status::Processing => Reply::json(202, &payment),
        Status::Failed => Err(declined(&payment)),
    }
}

/// One payment.
fn show(request: &Request) -> Result<Reply, Problem> {
    Reply::json(200, &known_payment(request)?)
}

/// All payments, oldest first: their ids sort by time.
fn list(request: &Request) -> Result<Reply, Problem> {
    let payments: Listing<Payment> = state::page("payment/", &request.page()?)?;
    Reply::json(200, &payments)
}

/// Asks the processor what became of a payment that is still processing; a settled one is answered as it is.
fn sync(request: &Request) -> Result<Reply, Problem> {
    let mut payment = known_payment(request)?;
    if payment.status() == Status::Processing {
        match processor::ask(&payment)? {
            Charge::Succeeded => {
                ledger::post(&payment)?;
                payment.succeed()?;
                record(&payment)?;
            }
            Charge::Declined { code } => {
                payment.decline(code)?;
                record(&payment)?;
            }
            Charge::Processing => {}
        }
    }
    Reply::json(200, &payment)
}

fn known_payment(request: &Request) -> Result<Payment, Problem> {
    let id = request.parameter("id")?;
    let payment = if is_identifier(id) { state::get(&payment::key(id))? } else { None };
    payment.ok_or_else(|| Problem::not_found("There is no payment with this id."))
}

/// Stages the payment and the one event of its change.
fn record(payment: &Payment) -> Result<(), Problem> {
    state::put(&payment::key(payment.id()), payment)?;
    events::publish(payment.status().event(), Some(payment.id()), payment)?;
    Ok(())
}

/// A decline is an answer, not a failure: its 402 commits, so that the attempt stays on record.
fn declined(payment: &Payment) -> Problem {
    Problem::new(402, "PAYMENT_DECLINED", "The payment was declined.")
        .member("transaction_id", payment.id())
        .member("decline_code", payment.decline_code())
        .effect(Effect::Commit)
}

impl From<Unexpected> for Problem {
    fn from(Unexpected { from, to }: Unexpected) -> Self {
        let detail = format!("The payment cannot go from {from} to {to}.");
        Self::new(409, "PAYMENT_UNEXPECTED_STATE", detail)
    }
}
