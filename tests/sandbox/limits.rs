//! Every limit stops the guest that runs into it, with its own code, one audit entry and one report; its neighbours go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Method;
use serde_json::{Value, json};
use suite::actor::{Actor, Reply};
use suite::kernel::{TestKernel, text};
use tokio::task::JoinSet;

use super::traces::{Traces, audited, is_stored, report_of};
use super::variant::{anna_with_a_probe, lavish_probe, patient_probe, renamed};

on_both_kernels!(
    fuel_memory_stack_and_output_end,
    time_ends,
    floods_end,
    bad_answers_are_refused,
    a_trap_is_reported_by_name,
    neighbours_keep_answering,
    waiting_in_the_host_is_part_of_the_time,
    events_of_a_call_end,
    slots_and_queue_end,
);

/// A request that a limit ends, and how.
struct Case {
    path: &'static str,
    body: Value,
    status: u16,
    code: &'static str,
    limit: Option<&'static str>,
    outcome: &'static str,
}

fn case(path: &'static str, status: u16, code: &'static str, outcome: &'static str) -> Case {
    Case { path, body: json!({}), status, code, limit: None, outcome }
}

fn over(path: &'static str, limit: &'static str) -> Case {
    Case { limit: Some(limit), ..case(path, 503, "LIMIT_EXCEEDED", "limit_exceeded") }
}

/// Sends the request and checks everything that is left of it: the problem, one audit entry, one report, nothing else.
async fn ends(test: &TestKernel, anna: &Actor, cell: &str, case: Case) -> Reply {
    let before = Traces::of(test, anna, &[cell]).await;
    let path = if cell == "probe" { case.path.to_owned() } else { format!("/cells/{cell}{}", case.path) };
    let reply = anna.with_header("idempotency-key", "once").post(&path, &case.body).await;
    let problem = reply.clone().refused(case.status, case.code);
    assert_eq!(problem.get("limit").and_then(Value::as_str), case.limit, "{problem}");
    assert_eq!(problem["instance"], path);

    let entries = audited(anna, &reply).await;
    assert_eq!(entries.len(), 1, "one failure, one entry: {entries:?}");
    let entry = &entries[0];
    assert_eq!((text(&entry["action"]), text(&entry["outcome"])), ("cell.call", "failure"));
    assert_eq!(entry["details"]["outcome"], case.outcome);
    assert_eq!(entry["actor"], json!({ "type": "user", "id": anna.id }));
    assert_eq!((text(&entry["cell"]["name"]), text(&entry["cell"]["version"])), (cell, "1.0.0"));

    let traps = test.owner().await.get(&format!("/api/v1/cells/{cell}/traps")).await.expect(200);
    let report = report_of(&traps, &reply);
    assert_eq!(report["kind"], case.outcome);
    assert_eq!(report["message"], entry["details"]["message"]);
    assert_eq!(Traces::of(test, anna, &[cell]).await, before);
    let route = if cell == "probe" { case.path.to_owned() } else { format!("/cells/{cell}/{{*path}}") };
    assert!(!is_stored(test, anna, &route, "once").await);
    reply
}

async fn counters(test: &TestKernel, cell: &str) -> Value {
    test.owner().await.get(&format!("/api/v1/cells/{cell}")).await.expect(200)["counters"].clone()
}

async fn fuel_memory_stack_and_output_end(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let largest = anna.post("/probe/output", &json!({ "kb": 1024 })).await;
    assert_eq!((largest.status, largest.text.len()), (200, 1024 * 1024), "the limit itself is allowed");
    ends(&test, &anna, "probe", case("/probe/loop", 503, "FUEL_EXHAUSTED", "fuel_exhausted")).await;
    ends(&test, &anna, "probe", case("/probe/eat", 503, "MEMORY_EXCEEDED", "memory_exceeded")).await;
    ends(&test, &anna, "probe", over("/probe/recurse", "stack")).await;
    let output = case("/probe/output", 502, "OUTPUT_EXCEEDED", "output_exceeded");
    ends(&test, &anna, "probe", Case { body: json!({ "kb": 1025 }), ..output }).await;
    let expected = json!({ "requests": 5, "traps": 0, "fuel_exhausted": 1, "timeouts": 0, "restarts": 4 });
    assert_eq!(counters(&test, "probe").await, expected);
    assert_eq!(anna.get("/probe/ping").await.expect(200), json!({ "message": "pong" }));
}

async fn time_ends(test: TestKernel) {
    let hurried = renamed(lavish_probe(), "hurried").with("timeout_ms = 30000", "timeout_ms = 200");
    hurried.install(&test.owner().await).await;
    let anna = test.tenant("acme").await;
    ends(&test, &anna, "hurried", case("/probe/loop", 504, "CELL_TIMEOUT", "timed_out")).await;
    let path = "/cells/hurried/probe/sleep?ms=60000";
    let reply = anna.post(path, &json!({})).await;
    reply.clone().refused(504, "CELL_TIMEOUT");
    let entries = audited(&anna, &reply).await;
    assert_eq!((entries.len(), &entries[0]["details"]["outcome"]), (1, &json!("timed_out")));
    let expected = json!({ "requests": 2, "traps": 0, "fuel_exhausted": 0, "timeouts": 2, "restarts": 2 });
    assert_eq!(counters(&test, "hurried").await, expected);
}

async fn floods_end(test: TestKernel) {
    renamed(lavish_probe(), "lavish").install(&test.owner().await).await;
    let anna = test.tenant("acme").await;
    anna.post("/cells/lavish/probe/log/256", &json!({})).await.done(200);
    ends(&test, &anna, "lavish", over("/probe/log/257", "log")).await;
    ends(&test, &anna, "lavish", over("/probe/flood", "host_calls")).await;
    assert_eq!(counters(&test, "lavish").await["restarts"], 2);
}

async fn bad_answers_are_refused(test: TestKernel) {
    renamed(patient_probe(), "rude").install(&test.owner().await).await;
    let anna = test.tenant("acme").await;
    for path in ["/probe/stage-then/bad-status", "/probe/stage-then/bad-header"] {
        let reply = ends(&test, &anna, "rude", case(path, 502, "BAD_RESPONSE", "bad_response")).await;
        assert_eq!(reply.header("x-probe"), "");
        assert!(!reply.text.contains("two"), "{}", reply.text);
    }
}

async fn a_trap_is_reported_by_name(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let olga = test.owner().await;
    for (path, message, function) in [
        ("/probe/panic", "unreachable", "probe::limits::fail_an_assertion"),
        ("/probe/divide", "integer divide by zero", "probe::limits::divide"),
    ] {
        test.pass(jiff::SignedDuration::from_secs(1));
        let reply = ends(&test, &anna, "probe", case(path, 503, "CELL_TRAPPED", "trapped")).await;
        assert_eq!(reply.header("retry-after"), "1");
        for internal in ["wasm", "unreachable", "divide by", "limits"] {
            assert!(!reply.text.contains(internal), "{internal} leaves the host: {}", reply.text);
        }
        let shown = olga.get("/api/v1/cells/probe").await.expect(200);
        let report = report_of(&olga.get("/api/v1/cells/probe/traps").await.expect(200), &reply);
        assert_eq!(shown["last_trap"], report);
        assert_eq!(report["version"], "1.0.0");
        assert!(text(&report["message"]).contains(message), "{report}");
        let frames = report["backtrace"].as_array().unwrap();
        assert!(frames.iter().any(|frame| text(frame).contains(function)), "{function} is not in {report}");
    }
    let expected = json!({ "requests": 2, "traps": 2, "fuel_exhausted": 0, "timeouts": 0, "restarts": 2 });
    assert_eq!(counters(&test, "probe").await, expected);
}

/// Sends one kind of request until it is told to stop; answers how often, when all replies were as expected.
async fn misbehave(anna: Actor, path: &'static str, body: Value, code: &'static str, stop: Arc<AtomicBool>) -> u32 {
    let mut times = 0;
    while !stop.load(Ordering::Relaxed) {
        let reply = anna.send(Method::POST, path, Some(&body)).await;
        assert_eq!(reply.json["code"], code, "{path}: {}", reply.text);
        times += 1;
    }
    times
}

async fn neighbours_keep_answering(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    renamed(patient_probe(), "neighbour").install(&test.owner().await).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut storm = JoinSet::new();
    for (path, body, code) in [
        ("/probe/loop", json!({}), "FUEL_EXHAUSTED"),
        ("/probe/eat", json!({}), "MEMORY_EXCEEDED"),
        ("/probe/recurse", json!({}), "LIMIT_EXCEEDED"),
        ("/probe/output", json!({ "kb": 2048 }), "OUTPUT_EXCEEDED"),
        ("/probe/log/300", json!({}), "LIMIT_EXCEEDED"),
        ("/probe/stage-then/bad-status", json!({}), "BAD_RESPONSE"),
        ("/probe/panic", json!({}), "CELL_TRAPPED"),
        ("/probe/divide", json!({}), "CELL_TRAPPED"),
    ] {
        storm.spawn(misbehave(anna.clone(), path, body, code, Arc::clone(&stop)));
    }
    let mut calm = JoinSet::new();
    for _ in 0..4 {
        let anna = anna.clone();
        calm.spawn(async move {
            for _ in 0..50 {
                let pong = anna.get("/cells/neighbour/probe/ping").await.expect(200);
                assert_eq!(pong, json!({ "message": "pong" }));
            }
        });
    }
    calm.join_all().await;
    stop.store(true, Ordering::Relaxed);
    let times = storm.join_all().await;
    assert!(times.iter().all(|times| *times > 0), "the storm blew in all kinds: {times:?}");
    let neighbour = counters(&test, "neighbour").await;
    assert_eq!((&neighbour["requests"], &neighbour["restarts"]), (&json!(200), &json!(0)));
    let probe = counters(&test, "probe").await;
    assert_eq!(probe["restarts"], times.iter().sum::<u32>(), "{probe}");
    assert_eq!(Traces::of(&test, &anna, &["probe", "neighbour"]).await, Traces::default());
}

async fn waiting_in_the_host_is_part_of_the_time(test: TestKernel) {
    let hurried = renamed(patient_probe(), "hurried").with("timeout_ms = 30000", "timeout_ms = 200");
    hurried.install(&test.owner().await).await;
    let anna = test.tenant("acme").await;
    let reply = anna.post("/cells/hurried/probe/block?ms=60000", &json!({})).await;
    reply.clone().refused(504, "CELL_TIMEOUT");
    let entries = audited(&anna, &reply).await;
    assert_eq!((entries.len(), &entries[0]["details"]["outcome"]), (1, &json!("timed_out")));
    assert_eq!(counters(&test, "hurried").await["timeouts"], 1);
    anna.post("/cells/hurried/probe/block?ms=1", &json!({})).await.done(200);
}

async fn events_of_a_call_end(test: TestKernel) {
    renamed(lavish_probe(), "lavish").install(&test.owner().await).await;
    let anna = test.tenant("acme").await;
    let published = anna.post("/cells/lavish/probe/publish-many/101", &json!({})).await.expect(200);
    assert_eq!(published, json!({ "published": 100 }), "the guest is told at the next one, and goes on");
    assert_eq!(Traces::of(&test, &anna, &["lavish"]).await.events.len(), 100);
    let large = json!({ "type": "probe.large", "data": "x".repeat(64 * 1024) });
    let refused = anna.post("/cells/lavish/probe/publish", &large).await;
    assert!(refused.status >= 400, "{}", refused.text);
    assert_eq!(Traces::of(&test, &anna, &["lavish"]).await.events.len(), 100);
}

async fn slots_and_queue_end(test: TestKernel) {
    let olga = test.owner().await;
    renamed(patient_probe(), "narrow").with("concurrency = 64", "concurrency = 1").install(&olga).await;
    renamed(patient_probe(), "neighbour").install(&olga).await;
    let anna = test.tenant("acme").await;
    let bert = test.tenant("globex").await;
    // One call holds the only slot for a while: another has a place, five wait, five are too many.
    let fault = json!({ "cell": "narrow", "kind": "delay", "delay_ms": 2000, "count": 1 });
    olga.post("/api/v1/chaos/faults", &fault).await.done(201);
    let mut calls = JoinSet::new();
    let call = |who: &Actor| {
        let who = who.clone();
        async move { who.post("/cells/narrow/probe/echo", &json!({})).await }
    };
    for _ in 0..12 {
        calls.spawn(call(&anna));
    }
    anna.get("/cells/neighbour/probe/ping").await.done(200);
    let mut replies = Vec::new();
    while replies.len() < 5 {
        replies.extend(calls.join_next().await.map(Result::unwrap));
    }
    // A stranger is told so. Another of hers takes the place of her first, and so does the call of another tenant.
    calls.spawn(call(&anna));
    test.anonymous().post("/cells/narrow/probe/echo", &json!({})).await.refused(401, "UNAUTHENTICATED");
    calls.spawn(call(&bert));
    while replies.len() < 7 {
        replies.extend(calls.join_next().await.map(Result::unwrap));
    }
    assert!(replies.iter().all(|reply| reply.status == 503), "in time, while the slot is held");
    for reply in replies {
        assert_eq!(reply.header("retry-after"), "1");
        reply.refused(503, "CELL_OVERLOADED");
    }
    let replies = calls.join_all().await;
    let served = replies.iter().filter(|reply| reply.status == 200).count();
    assert_eq!((served, replies.len()), (7, 7), "the other tenant's, too");
    assert_eq!(counters(&test, "narrow").await["requests"], 7);
}
