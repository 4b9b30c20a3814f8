//! The processor cell: a sandbox acquirer that is deterministic. The source token decides what becomes of a charge,
//! as test card numbers do at a real one, so that every path of a payment can be walked through in a test.
//!
//! This file is the adapter only; the rules are in [`charge`] and [`operation`]. State keys: `charge/{id}` and
//! `operation/{id}`.
//!
//! Every outcome, a decline too, is answered with 201: it is recorded, and the caller's reply decides what is kept.
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

pub mod charge;
pub mod operation;
mod trap;

use aibos_cell::identifier::is_identifier;
use aibos_cell::{Cell, Problem, Reply, Request, Router, state};

use charge::{Charge, ChargeRequest, Token};
use operation::{Operation, OperationRequest};

/// The processor.
pub struct Processor;

impl Cell for Processor {
    fn routes() -> Router {
        Router::new()
            .post("/charges", create_charge)
            .get("/charges/{id}", show_charge)
            .post("/operations", create_operation)
            .get("/operations/{id}", show_operation)
    }
}

aibos_cell::export!(Processor);

/// Makes a charge: 201. The same id again answers the first charge (200) when it asks for the same, 409 otherwise.
fn create_charge(request: &Request) -> Result<Reply, Problem> {
    let (charge, token) = request.json::<ChargeRequest>()?.check().map_err(Problem::validation)?;
    let key = key(&charge.id);
    if !state::put_if_absent(&key, &charge)? {
        return match state::get::<Charge>(&key)? {
            Some(before) if before.is_repeat_of(&charge) => Reply::json(200, &before),
            _ => Err(Problem::new(409, "CHARGE_EXISTS", "Another charge has this id.")),
        };
    }
    if token == Token::Trap {
        trap::stop_as_the_token_asks();
    }
    Reply::json(201, &charge)
}

/// What became of a charge. One that timed out has gone through by the time that somebody asks.
fn show_charge(request: &Request) -> Result<Reply, Problem> {
    let id = request.parameter("id")?;
    let stored = if is_identifier(id) { state::get::<Charge>(&key(id))? } else { None };
    let charge = stored.ok_or_else(|| Problem::not_found("There is no charge with this id."))?;
    let settled = charge.clone().settle();
    if settled != charge {
        state::put(&key(id), &settled)?;
    }
    Reply::json(200, &settled)
}

/// Does something to a charge: 201. The same id again answers the first operation (200).
fn create_operation(request: &Request) -> Result<Reply, Problem> {
    let operation = request.json::<OperationRequest>()?.check().map_err(Problem::validation)?;
    if state::read(&key(&operation.charge))?.is_none() {
        return Err(Problem::not_found("There is no charge with this id."));
    }
    let key = operation_key(&operation.id);
    if !state::put_if_absent(&key, &operation)? {
        return match state::get::<Operation>(&key)? {
            Some(before) if before.clone().settle() == operation.settle() => Reply::json(200, &before),
            _ => Err(Problem::new(409, "OPERATION_EXISTS", "Another operation has this id.")),
        };
    }
    Reply::json(201, &operation)
}

/// What became of an operation. One that timed out has gone through by the time that somebody asks.
fn show_operation(request: &Request) -> Result<Reply, Problem> {
    let id = request.parameter("id")?;
    let stored = if is_identifier(id) { state::get::<Operation>(&operation_key(id))? } else { None };
    let operation = stored.ok_or_else(|| Problem::not_found("There is no operation with this id."))?;
    let settled = operation.clone().settle();
    if settled != operation {
        state::put(&operation_key(id), &settled)?;
    }
    Reply::json(200, &settled)
}

fn operation_key(id: &str) -> String {
    format!("operation/{id}")
}

fn key(id: &str) -> String {
    format!("charge/{id}")
}
