//! Calls between cells: one unit of work, one tenant, one clock, and no way around the manifests of either side.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use suite::actor::Actor;
use suite::cell::Guest;
use suite::kernel::{TestKernel, text};

use super::traces::{Traces, audited, report_of};
use super::variant::{lavish_probe, patient_probe, renamed};

on_both_kernels!(
    writes_of_both_become_one_unit,
    a_failing_callee_leaves_the_callers_writes,
    a_callee_knows_who_calls,
    a_callee_sees_its_own_state_only,
    calls_need_both_manifests,
    what_cells_call_is_closed_to_http,
    calls_go_eight_deep,
    fuel_is_shared,
    the_deadline_is_inherited,
);

const CELLS: [&str; 2] = ["probe", "probe-callee"];

async fn anna_with_both(test: &TestKernel) -> Actor {
    let olga = test.owner().await;
    patient_probe().install(&olga).await;
    renamed(patient_probe(), "probe-callee").install(&olga).await;
    test.tenant("acme").await
}

/// What the probe calls: a route of the callee.
fn errand(method: &str, path: &str) -> Value {
    json!({ "cell": "probe-callee", "method": method, "path": format!("/probe/callee/{path}") })
}

async fn call(actor: &Actor, errand: &Value) -> Value {
    actor.post("/probe/call", errand).await.expect(200)
}

fn marked() -> (String, String) {
    ("probe/mark".into(), "marked".into())
}

async fn writes_of_both_become_one_unit(test: TestKernel) {
    let anna = anna_with_both(&test).await;
    let mut errand = errand("POST", "stage-then/reply");
    errand["mark"] = "mark".into();
    errand["effect"] = "discard".into();
    assert_eq!(call(&anna, &errand).await["status"], 200);
    assert_eq!(Traces::of(&test, &anna, &CELLS).await, Traces::default(), "the caller discards for both");

    errand["effect"] = Value::Null;
    let reply = anna.post("/probe/call", &errand).await;
    assert_eq!(reply.clone().expect(200), json!({ "outcome": "replied", "status": 200, "body": { "then": "reply" } }));
    let expected = Traces {
        state: vec![marked(), ("probe-callee/staged".into(), "reply".into())],
        events: vec!["/cells/probe-callee probe.staged reply".into()],
        notes: vec!["cell.probe-callee.staged".into()],
    };
    assert_eq!(Traces::of(&test, &anna, &CELLS).await, expected);
    let entries = audited(&anna, &reply).await;
    let told: Vec<(&str, &str)> =
        entries.iter().map(|entry| (text(&entry["action"]), text(&entry["cell"]["name"]))).collect();
    assert_eq!(told, [("cell.probe-callee.staged", "probe-callee"), ("cell.call", "probe")]);
}

async fn a_failing_callee_leaves_the_callers_writes(test: TestKernel) {
    let anna = anna_with_both(&test).await;
    let olga = test.owner().await;
    // How the call ends for the caller, and the outcome of which there is a report.
    for (what, expected, reported) in [
        ("trap", json!({ "error": "trapped" }), Some("trapped")),
        ("bad-status", json!({ "error": "unavailable" }), Some("bad_response")),
        ("fail", json!({ "error": "unavailable" }), None),
        ("status500", json!({ "error": "unavailable" }), None),
        ("fail-commit", json!({ "error": "unavailable" }), None),
        ("decline", json!({ "status": 402 }), None),
    ] {
        let mut errand = errand("POST", &format!("stage-then/{what}"));
        errand["mark"] = "mark".into();
        let reply = anna.post("/probe/call", &errand).await;
        let answer = reply.clone().expect(200);
        for (member, value) in expected.as_object().unwrap() {
            assert_eq!(answer[member], *value, "{what}: {answer}");
        }
        assert!(!answer.to_string().contains("must not reach"), "{answer}");
        let kept = Traces { state: vec![marked()], ..Traces::default() };
        assert_eq!(Traces::of(&test, &anna, &CELLS).await, kept, "{what}");
        anna.delete("/probe/state/mark").await.done(204);

        let failures = audited(&anna, &reply).await.into_iter().filter(|entry| entry["action"] == "cell.failure");
        let outcomes: Vec<Value> = failures.map(|failure| failure["details"]["outcome"].clone()).collect();
        assert_eq!(outcomes, reported.map(Value::from).into_iter().collect::<Vec<Value>>(), "{what}");
        if let Some(outcome) = reported {
            let traps = olga.get("/api/v1/cells/probe-callee/traps").await.expect(200);
            assert_eq!(report_of(&traps, &reply)["kind"], outcome);
        }
    }
    let declined = call(&anna, &errand("POST", "stage-then/decline-commit")).await;
    assert_eq!((&declined["status"], &declined["body"]["code"]), (&json!(402), &json!("PROBE_DECLINED")));
    let kept = Traces::of(&test, &anna, &CELLS).await;
    assert_eq!(kept.state, [("probe-callee/staged".to_owned(), "decline-commit".to_owned())]);
    assert_eq!((kept.events.len(), kept.notes.len()), (1, 1));
    assert_eq!(olga.get("/api/v1/cells/probe").await.expect(200)["counters"]["restarts"], 0);
}

async fn a_callee_knows_who_calls(test: TestKernel) {
    let anna = anna_with_both(&test).await;
    let reply = anna.post("/probe/call", &errand("GET", "context")).await;
    let callee = reply.clone().expect(200)["body"].clone();
    assert_eq!(callee["caller"], "probe");
    assert_eq!((text(&callee["tenant"]), text(&callee["user"])), (anna.tenant_id.as_str(), anna.id.as_str()));
    assert_eq!(callee["correlation"].as_str(), Some(reply.header("x-correlation-id")));
    assert_eq!(callee["path"], "/probe/context");
    assert!(callee["remaining_ms"].as_u64().unwrap() <= 30_000);
    let direct = anna.get("/probe/context").await.expect(200);
    assert_eq!(direct["caller"], Value::Null);
    assert_eq!(direct["now_ms"], callee["now_ms"], "the clock stands still within a request");
}

async fn a_callee_sees_its_own_state_only(test: TestKernel) {
    let anna = anna_with_both(&test).await;
    let mut look = errand("GET", "state/mark");
    look["mark"] = "mark".into();
    let answer = call(&anna, &look).await;
    assert_eq!(answer["status"], 404, "the caller's staged key is not the callee's: {answer}");
    // The callee marks its own space and calls itself: the inner call sees what the outer one staged.
    let mut outer = errand("POST", "call");
    outer["body"] = look;
    let answer = call(&anna, &outer).await;
    assert_eq!((&answer["body"]["status"], &answer["body"]["body"]), (&json!(200), &json!("marked")), "{answer}");
    let kept = Traces::of(&test, &anna, &CELLS).await;
    assert_eq!(kept.state, [marked(), ("probe-callee/mark".to_owned(), "marked".to_owned())]);
}

async fn calls_need_both_manifests(test: TestKernel) {
    let olga = test.owner().await;
    patient_probe().install(&olga).await;
    let anna = test.tenant("acme").await;
    let absent = call(&anna, &errand("GET", "ping")).await;
    assert_eq!(absent, json!({ "outcome": "error", "error": "unavailable", "detail": "probe-callee is not active" }));
    let strict = renamed(patient_probe(), "probe-callee").with("[\"probe\", \"probe-callee\"]", "[\"somebody-else\"]");
    strict.install(&olga).await;
    let uninvited = call(&anna, &errand("GET", "ping")).await;
    assert_eq!(uninvited["error"], "denied");
    assert!(text(&uninvited["detail"]).contains("\"probe\" among its callers"), "{uninvited}");
    renamed(patient_probe(), "probe-callee").version("1.0.1").install(&olga).await;
    assert_eq!(call(&anna, &errand("GET", "ping")).await["body"], json!({ "message": "pong" }));

    for path in
        ["/probe/ping", "/probe/callee", "/probe/callee/../ping", "/probe/callee/%2e%2e/ping", "probe/callee/ping", ""]
    {
        let answer = call(&anna, &json!({ "cell": "probe-callee", "method": "GET", "path": path })).await;
        assert_eq!(answer["error"], "denied", "{path}: {answer}");
    }
    for cell in ["probe", "ledger", "kernel", ""] {
        let answer = call(&anna, &json!({ "cell": cell, "method": "GET", "path": "/probe/callee/ping" })).await;
        assert_eq!(answer["error"], "denied", "{cell}: {answer}");
        assert!(text(&answer["detail"]).contains("[capabilities]"), "{answer}");
    }
    let healthy = anna.get("/probe/health-of/probe-callee").await.expect(200);
    assert_eq!(healthy, json!({ "outcome": "replied", "health": "healthy" }));
    assert_eq!(anna.get("/probe/health-of/ledger").await.expect(200)["error"], "denied");
}

async fn what_cells_call_is_closed_to_http(test: TestKernel) {
    let anna = anna_with_both(&test).await;
    let olga = test.owner().await;
    for actor in [&anna, &olga] {
        for path in [
            "/probe/callee/ping",
            "/probe/c%61llee/ping",
            "/cells/probe/probe/callee/ping",
            "/cells/probe-callee/probe/callee/ping",
            "/cells/probe-callee/probe/c%61llee/ping",
            "/cells/probe-callee//probe/callee/ping",
            "/cells/probe-callee/probe/callee%2Fping",
            "/cells/probe-callee/probe//callee/ping",
        ] {
            for method in [Method::GET, Method::POST] {
                actor.send(method, path, None).await.refused(404, "NOT_FOUND");
            }
        }
    }
    let opened = json!({
        "route": "/probe/callee/{name}", "methods": ["GET"], "cell": "probe-callee", "permission": "public",
    });
    olga.post("/api/v1/routes", &opened).await.refused(409, "ROUTE_CONFLICT");
    // By its name the same component answers what is not for cells only.
    assert_eq!(anna.get("/cells/probe-callee/probe/ping").await.expect(200), json!({ "message": "pong" }));
}

async fn calls_go_eight_deep(test: TestKernel) {
    let anna = anna_with_both(&test).await;
    let mut chain = errand("GET", "ping");
    for _ in 0..6 {
        let mut outer = errand("POST", "call");
        outer["body"] = chain;
        chain = outer;
    }
    // The probe and seven callees.
    let mut answer = call(&anna, &chain).await;
    for _ in 0..6 {
        answer = answer["body"].clone();
    }
    assert_eq!(answer, json!({ "outcome": "replied", "status": 200, "body": { "message": "pong" } }));

    let mut outer = errand("POST", "call");
    outer["body"] = chain;
    let reply = anna.post("/probe/call", &outer).await;
    let mut answer = reply.clone().expect(200);
    for _ in 0..6 {
        answer = answer["body"].clone();
    }
    assert_eq!(answer, json!({ "outcome": "error", "error": "exhausted", "detail": "call_depth" }));
    let traps = test.owner().await.get("/api/v1/cells/probe-callee/traps").await.expect(200);
    assert_eq!(report_of(&traps, &reply)["message"], "limit exceeded: call_depth");
}

async fn fuel_is_shared(test: TestKernel) {
    let olga = test.owner().await;
    lavish_probe().install(&olga).await;
    let callers = |guest: Guest| guest.with("callers = [", "callers = [\"modest\", ");
    callers(renamed(lavish_probe(), "probe-callee")).install(&olga).await;
    let modest = renamed(patient_probe(), "modest").with("fuel = 50_000_000", "fuel = 5_000_000");
    modest.install(&olga).await;
    let anna = test.tenant("acme").await;
    let errand = errand("POST", "sleep?ms=600");
    let replied = json!({ "outcome": "replied", "status": 200, "body": { "slept_ms": 600 } });
    assert_eq!(call(&anna, &errand).await, replied, "the callee's own fuel is enough");
    let exhausted = anna.post("/cells/modest/probe/call", &errand).await.expect(200);
    assert_eq!(exhausted, json!({ "outcome": "error", "error": "exhausted", "detail": "fuel" }));
    let counters = olga.get("/api/v1/cells/probe-callee").await.expect(200)["counters"].clone();
    assert_eq!((&counters["requests"], &counters["fuel_exhausted"]), (&json!(2), &json!(1)));
    let modest = olga.get("/api/v1/cells/modest").await.expect(200)["counters"].clone();
    assert_eq!(modest["restarts"], 0, "a share stays with the caller, to go on: {modest}");
}

async fn the_deadline_is_inherited(test: TestKernel) {
    let olga = test.owner().await;
    let callers = |guest: Guest| guest.with("callers = [", "callers = [\"hurried\", ");
    lavish_probe().install(&olga).await;
    callers(renamed(lavish_probe(), "probe-callee")).install(&olga).await;
    renamed(lavish_probe(), "hurried").with("timeout_ms = 30000", "timeout_ms = 200").install(&olga).await;
    let anna = test.tenant("acme").await;
    let asked = Instant::now();
    let mut errand = errand("POST", "sleep?ms=60000");
    errand["mark"] = "mark".into();
    anna.post("/cells/hurried/probe/call", &errand).await.refused(504, "CELL_TIMEOUT");
    assert!(asked.elapsed() < Duration::from_secs(20), "the callee stopped with its caller");
    assert_eq!(Traces::of(&test, &anna, &["hurried", "probe-callee"]).await, Traces::default());

    let hurried = callers(renamed(lavish_probe(), "probe-callee")).version("1.0.1");
    hurried.with("timeout_ms = 30000", "timeout_ms = 200").install(&olga).await;
    let answer = call(&anna, &errand).await;
    assert_eq!(answer, json!({ "outcome": "error", "error": "timed-out", "detail": null }));
    assert_eq!(Traces::of(&test, &anna, &CELLS).await.state, [marked()], "the caller goes on");
}
