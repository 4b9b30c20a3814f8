//! Calls to other cells, and what the caller is told when they fail.

use aibos_cell::calls::CallReply;
use aibos_cell::{Call, CallError, Problem, Reply, Request, Router, calls, json, state};
use serde::Deserialize;
use serde_json::Value;

use crate::storage;

/// Adds the routes of this file.
pub(crate) fn routes(router: Router) -> Router {
    router.post("/probe/call", call).get("/probe/health-of/{cell}", health_of)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Errand {
    cell: String,
    method: String,
    path: String,
    body: Option<Value>,
    /// A key that the caller writes before the call.
    mark: Option<String>,
    /// What becomes of the caller: `commit`, `discard`, or what its status 200 says.
    effect: Option<String>,
}

/// Makes any call: 200 with `{outcome: "replied", status, body}` or `{outcome: "error", error, detail}`.
fn call(request: &Request) -> Result<Reply, Problem> {
    let errand: Errand = request.json()?;
    let effect = storage::effect(errand.effect.as_deref())?;
    if let Some(mark) = &errand.mark {
        state::write(mark, b"marked")?;
    }
    let mut call = Call::new(&errand.cell, &errand.method, &errand.path);
    if let Some(body) = &errand.body {
        call = call.json(body)?;
    }
    let answer = match call.send() {
        Ok(reply) => json!({ "outcome": "replied", "status": reply.status(), "body": body(&reply) }),
        Err(error) => failure(&error),
    };
    Ok(Reply::json(200, &answer)?.effect(effect))
}

/// Asks how another cell is.
fn health_of(request: &Request) -> Result<Reply, Problem> {
    let answer = match calls::health(request.parameter("cell")?) {
        Ok(health) => json!({ "outcome": "replied", "health": format!("{health:?}").to_lowercase() }),
        Err(error) => failure(&error),
    };
    Reply::json(200, &answer)
}

/// JSON where it is JSON, text otherwise.
fn body(reply: &CallReply) -> Value {
    reply.json().unwrap_or_else(|_| Value::from(String::from_utf8_lossy(reply.body())))
}

/// The error by the name of its variant in `wit/calls.wit`.
fn failure(error: &CallError) -> Value {
    let (name, detail) = match error {
        CallError::Trapped => ("trapped", None),
        CallError::Exhausted(detail) => ("exhausted", Some(detail)),
        CallError::TimedOut => ("timed-out", None),
        CallError::Unavailable(detail) => ("unavailable", Some(detail)),
        CallError::Denied(detail) => ("denied", Some(detail)),
        CallError::Other(detail) => ("other", Some(detail)),
    };
    json!({ "outcome": "error", "error": name, "detail": detail })
}
