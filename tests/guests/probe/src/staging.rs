//! Writes, events and notes that are staged, and then the call ends in one of all the ways there are: what is kept
//! must be everything or nothing.

use std::hint::black_box;

use aibos_cell::{Effect, Problem, Reply, Request, Router, audit, events, json, state};
use serde::Deserialize;
use serde_json::Value;

/// Adds the routes of this file.
pub(crate) fn routes(router: Router) -> Router {
    router.post("/probe/publish", publish).post("/probe/note", note).post("/probe/stage-then/{what}", stage_then)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    r#type: String,
    subject: Option<String>,
    data: Value,
}

/// Publishes an event of any type; the host decides whether the manifest allows it.
fn publish(request: &Request) -> Result<Reply, Problem> {
    let event: Event = request.json()?;
    let id = events::publish(&event.r#type, event.subject.as_deref(), &event.data)?;
    Reply::json(201, &json!({ "id": id }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    action: String,
    details: Value,
}

/// Leaves a note in the audit log.
fn note(request: &Request) -> Result<Reply, Problem> {
    let note: Note = request.json()?;
    audit::note(&note.action, &note.details)?;
    Ok(Reply::empty(204))
}

/// Stages the key `staged`, the event `probe.staged` and the note `staged`, all with the path's `what`, and then does
/// that.
fn stage_then(request: &Request) -> Result<Reply, Problem> {
    let what = request.parameter("what")?;
    let data = json!({ "then": what });
    state::write("staged", what.as_bytes())?;
    events::publish("probe.staged", Some(what), &data)?;
    audit::note("staged", &data)?;
    match what {
        "reply" => Reply::json(200, &data),
        "trap" => trap(),
        "fail" => Err(Problem::new(503, "PROBE_DOWN", "The probe says that it is down.")),
        "decline" => Err(declined().effect(Effect::Discard)),
        "decline-commit" => Err(declined().effect(Effect::Commit)),
        "fail-commit" => Err(Problem::new(503, "PROBE_DOWN", "A 5xx cannot commit.").effect(Effect::Commit)),
        "status500" => Err(Problem::new(500, "PROBE_BROKEN", "This text must not reach a client.")),
        "bad-status" => Ok(Reply::empty(42)),
        "bad-header" => Ok(Reply::empty(200).header("x-probe", "two\nlines")),
        _ => Err(Problem::not_found("The probe cannot do that.")),
    }
}

fn declined() -> Problem {
    Problem::new(402, "PROBE_DECLINED", "The probe declines.")
}

/// Ends in the instruction `unreachable`, under a name that a backtrace shows.
#[inline(never)]
#[expect(clippy::panic, reason = "the trap is what is tested")]
fn trap() -> Result<Reply, Problem> {
    panic!("{}", black_box("the probe traps as asked"))
}
