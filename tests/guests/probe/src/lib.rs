//! A cell that misbehaves on request. The tests of the sandbox drive it: each route does one thing that the host has to
//! stop, or one thing that the unit of work has to get right.
//!
//! `limits` runs into every limit, `storage` reads and writes, `staging` writes and then fails in every way there is,
//! `nesting` calls other cells, `given` reads settings and secrets.

mod given;
mod limits;
mod nesting;
mod staging;
mod storage;

use aibos_cell::{Cell, Problem, Reply, Request, Router, context, json};

/// The probe.
pub struct Probe;

impl Cell for Probe {
    fn routes() -> Router {
        let router = Router::new()
            .get("/probe/ping", ping)
            .post("/probe/echo", echo)
            .get("/probe/context", show_context)
            .any("/probe/callee/{*rest}", answer_as_callee);
        given::routes(nesting::routes(staging::routes(storage::routes(limits::routes(router)))))
    }
}

aibos_cell::export!(Probe);

/// `GET /probe/ping`: public, needs nothing.
fn ping(_: &Request) -> Result<Reply, Problem> {
    Reply::json(200, &json!({ "message": "pong" }))
}

/// `POST /probe/echo`: the body back, byte for byte.
#[expect(clippy::unnecessary_wraps, reason = "every route has this signature")]
fn echo(request: &Request) -> Result<Reply, Problem> {
    let media_type = request.header("content-type").unwrap_or("application/octet-stream");
    Ok(Reply::bytes(200, media_type, request.body().to_vec()))
}

/// `GET /probe/context`: everything that the host says about the call.
fn show_context(request: &Request) -> Result<Reply, Problem> {
    Reply::json(
        200,
        &json!({
            "tenant": context::tenant_id(),
            "user": context::user_id(),
            "correlation": context::correlation_id(),
            "caller": context::caller(),
            "now_ms": context::now().milliseconds(),
            "now": context::now(),
            "remaining_ms": context::remaining_ms(),
            "method": request.method(),
            "path": request.path(),
            "headers": request.headers(),
        }),
    )
}

/// `/probe/callee/REST`, by call only: answers as `/probe/REST` does, so that a callee can do whatever a cell can do.
fn answer_as_callee(request: &Request) -> Result<Reply, Problem> {
    let path = request.path().replacen("/probe/callee/", "/probe/", 1);
    Probe::routes().answer(request.at_path(&path))
}
