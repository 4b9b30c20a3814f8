//! The computing route of the benchmark as a cell of the typed world.

mod quote;

use aibos_cell::{Cell, Problem, Reply, Request, Router};

/// The cell.
pub struct Quote;

impl Cell for Quote {
    fn routes() -> Router {
        Router::new().post("/{*rest}", answer)
    }
}

aibos_cell::export!(Quote);

fn answer(request: &Request) -> Result<Reply, Problem> {
    let quoted = quote::quote(request.body()).ok_or_else(|| Problem::new(400, "NO_ORDER", "The body is no order."))?;
    Ok(Reply::bytes(200, "application/json", quoted))
}
