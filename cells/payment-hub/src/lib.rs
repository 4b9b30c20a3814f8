//! The payment hub: the public face of payments. One payment is one unit of work: the processor's charge, the ledger's
//! transaction, the payment and its event commit together, or none of them does.
//!
//! This file is the table of routes only; each operation is a file of its own. The rules are in [`order`], [`payment`],
//! [`status`] and [`refund`], which know neither the host nor HTTP; `processor` and `ledger` speak to the other two cells.
//!
//! State keys: `payment/{id}` and `refund/{payment}/{refund}`.
//!
//! A hold ends by itself seven days after the payment was created: the next operation that would change the payment finds
//! that its time is over by the call's clock, and records that first. Reading changes nothing.
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

mod cancel;
mod capture;
mod create;
mod give_back;
mod health;
mod ledger;
pub mod order;
pub mod payment;
mod processor;
pub mod refund;
mod reversal;
mod show;
pub mod status;
mod store;
mod stored;
mod sync;

use aibos_cell::{Cell, Problem, Reply, Request, Router, json};

/// The payment hub.
pub struct PaymentHub;

impl Cell for PaymentHub {
    fn routes() -> Router {
        Router::new()
            .get("/payments/ping", ping)
            .get("/payments/health", health::show)
            .post("/payments/process", create::process)
            .post("/payments", create::create)
            .get("/payments", show::payments)
            .get("/payments/status/{id}", show::payment)
            .get("/payments/refunds/{id}", show::refunds)
            .post("/payments/{id}/capture", capture::capture)
            .post("/payments/{id}/cancel", cancel::cancel)
            .post("/payments/{id}/refunds", give_back::refund)
            .post("/payments/{id}/reversal", reversal::reverse)
            .post("/payments/{id}/sync", sync::sync)
    }
}

aibos_cell::export!(PaymentHub);

fn ping(_: &Request) -> Result<Reply, Problem> {
    Reply::json(200, &json!({ "message": "pong" }))
}
