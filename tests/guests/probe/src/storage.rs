//! State, one route for each way to use it.

use aibos_cell::{Effect, Listing, Problem, Reply, Request, Router, cursor, json, state};
use serde::Serialize;

/// Adds the routes of this file.
pub(crate) fn routes(router: Router) -> Router {
    router
        .get("/probe/state/{key}", read)
        .put("/probe/state/{key}", write)
        .delete("/probe/state/{key}", delete)
        .get("/probe/list", list)
        .post("/probe/increment/{key}", increment)
        .post("/probe/add/{key}", add)
        .post("/probe/take/{key}", take)
        .get("/probe/pair", read_pair)
        .post("/probe/pair", write_pair)
}

/// The bytes of a key, or 404.
fn read(request: &Request) -> Result<Reply, Problem> {
    match state::read(request.parameter("key")?)? {
        Some(value) => Ok(Reply::bytes(200, "application/octet-stream", value.into_bytes())),
        None => Err(Problem::not_found("There is no such key.")),
    }
}

/// The body becomes the key's value.
fn write(request: &Request) -> Result<Reply, Problem> {
    state::write(request.parameter("key")?, request.body())?;
    Ok(Reply::empty(204))
}

fn delete(request: &Request) -> Result<Reply, Problem> {
    state::delete(request.parameter("key")?)?;
    Ok(Reply::empty(204))
}

#[derive(Serialize)]
struct Item {
    key: String,
    value: String,
}

/// `?prefix=&limit=&cursor=`; values as text.
fn list(request: &Request) -> Result<Reply, Problem> {
    let prefix = request.query("prefix")?.unwrap_or_default();
    let page = request.page()?;
    let entries = state::list(&prefix, page.after.as_deref(), page.limit)?;
    let full = entries.len() >= usize::try_from(page.limit).unwrap_or(usize::MAX);
    let next_cursor = entries.last().filter(|_| full).map(|entry| cursor::encode(&entry.key));
    let data = entries
        .into_iter()
        .map(|entry| Item { key: entry.key, value: String::from_utf8_lossy(&entry.value.into_bytes()).into_owned() })
        .collect();
    Reply::json(200, &Listing { data, next_cursor })
}

/// Reads, adds one, writes: two of these at once conflict, and the host must run one of them again.
fn increment(request: &Request) -> Result<Reply, Problem> {
    let key = request.parameter("key")?;
    let before = counter(key)?;
    let value = before.saturating_add(1);
    state::write(key, value.to_string().as_bytes())?;
    Reply::json(200, &json!({ "value": value }))
}

/// Adds `?delta=` without reading: two of these never conflict.
fn add(request: &Request) -> Result<Reply, Problem> {
    let delta = request.query_integer("delta")?.unwrap_or(1);
    state::add(request.parameter("key")?, delta)?;
    Reply::json(200, &json!({ "added": delta }))
}

/// Takes `?amount=` from a counter that must not fall below zero: 200 or 402. `?effect=commit` or `discard` says what
/// becomes of the call, and `?mark=KEY` writes a key first, to show what that was.
fn take(request: &Request) -> Result<Reply, Problem> {
    let amount = request.query_integer("amount")?.unwrap_or(1);
    let effect = effect(request.query("effect")?.as_deref())?;
    if let Some(mark) = request.query("mark")? {
        state::write(&mark, b"marked")?;
    }
    if state::add_bounded(request.parameter("key")?, amount.saturating_neg(), 0)? {
        Ok(Reply::json(200, &json!({ "taken": amount }))?.effect(effect))
    } else {
        Err(Problem::new(402, "INSUFFICIENT", "There is not enough.").effect(effect))
    }
}

/// What a test wants to become of a call.
pub(crate) fn effect(name: Option<&str>) -> Result<Effect, Problem> {
    match name {
        None => Ok(Effect::ByStatus),
        Some("commit") => Ok(Effect::Commit),
        Some("discard") => Ok(Effect::Discard),
        Some(_) => Err(Problem::invalid("/effect", "must be commit or discard")),
    }
}

/// Writes the same number to two keys, one more than the first of them held.
fn write_pair(_: &Request) -> Result<Reply, Problem> {
    let value = counter("pair/a")?.saturating_add(1).to_string();
    state::write("pair/a", value.as_bytes())?;
    state::write("pair/b", value.as_bytes())?;
    Reply::json(200, &json!({ "value": value }))
}

/// Reads the two keys in two calls of the host: they must be the same, however many write them meanwhile.
fn read_pair(_: &Request) -> Result<Reply, Problem> {
    Reply::json(200, &json!({ "a": counter("pair/a")?, "b": counter("pair/b")? }))
}

fn counter(key: &str) -> Result<i64, Problem> {
    let value = state::read(key)?.map(|value| value.counter()).transpose()?;
    Ok(value.unwrap_or(0))
}
