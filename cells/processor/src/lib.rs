//! The processor cell: a sandbox acquirer that is deterministic. The source token decides what becomes of a charge,
//! as test card numbers do at a real one, so that every path of a payment can be walked through in a test.
//!
//! This file is the adapter only; the rules are in [`charge`]. State keys: `charge/{id}`.
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
mod trap;

use aibos_cell::identifier::is_identifier;
use aibos_cell::{Cell, Problem, Reply, Request, Router, state};

use charge::{Charge, ChargeRequest, Token};

/// The processor.
pub struct Processor;

impl Cell for Processor {
    fn routes() -> Router {
        Router::new().post("/charges", create_charge).get("/charges/{id}", show_charge)
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

fn key(id: &str) -> String {
    format!("charge/{id}")
}
