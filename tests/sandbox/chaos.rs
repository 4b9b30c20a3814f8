//! An injected fault ends a call as the real thing would: with its code, its entry and its report, and nothing that the call
//! staged remains. It strikes as often, as long and whom it was told to.

use aibos::config::Chaos;
use serde_json::{Value, json};
use suite::actor::Actor;
use suite::kernel::{TestKernel, text};

use super::traces::{Traces, audited, report_of};
use super::variant::anna_with_a_probe;

on_both_kernels!(
    every_call_traps_until_recovered,
    a_trap_after_staged_writes_leaves_nothing,
    a_fault_survives_a_restart,
    a_fault_strikes_one_cell,
    a_kernel_without_chaos_ignores_stored_faults,
    every_kind_strikes_at_every_place,
    a_delay_is_part_of_the_calls_time,
    a_failing_callee_is_dropped_alone,
    a_fault_strikes_as_often_as_it_may,
    a_fault_strikes_in_its_time_and_in_its_tenant,
);

async fn inject(olga: &Actor, place: &str) -> String {
    let fault = json!({ "cell": "probe", "kind": "trap", "at": place });
    let made = olga.post("/api/v1/chaos/faults", &fault).await.expect(201);
    text(&made["id"]).to_owned()
}

async fn every_call_traps_until_recovered(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let olga = test.owner().await;
    anna.post("/probe/increment/n", &json!({})).await.done(200);
    let fault = olga.post("/api/v1/chaos/fail/probe", &Value::Null).await.expect(201);
    for path in ["/probe/increment/n", "/probe/echo", "/cells/probe/probe/add/n"] {
        let reply = anna.post(path, &json!({})).await;
        assert_eq!(reply.header("retry-after"), "1");
        reply.clone().refused(503, "CELL_TRAPPED");
        assert!(!reply.text.contains(text(&fault["id"])), "{}", reply.text);
        let traps = olga.get("/api/v1/cells/probe/traps").await.expect(200);
        let report = report_of(&traps, &reply);
        assert_eq!((text(&report["kind"]), text(&report["version"])), ("trapped", "1.0.0"));
        assert!(text(&report["message"]).contains("injected fault"), "{report}");
        let frames = report["backtrace"].as_array().unwrap();
        assert!(!frames.is_empty(), "the engine stopped it inside its own code: {report}");
        let entries = audited(&anna, &reply).await;
        assert_eq!((entries.len(), text(&entries[0]["outcome"])), (1, "failure"), "{entries:?}");
    }
    test.anonymous().get("/probe/ping").await.refused(503, "CELL_TRAPPED");
    let recovered = olga.post("/api/v1/chaos/recover/probe", &Value::Null).await.expect(200);
    assert_eq!(recovered, json!({ "cell": "probe", "removed": 1 }));
    assert_eq!(anna.post("/probe/increment/n", &json!({})).await.expect(200), json!({ "value": 2 }));
    test.anonymous().get("/probe/ping").await.done(200);
    let counters = olga.get("/api/v1/cells/probe").await.expect(200)["counters"].clone();
    assert_eq!((&counters["traps"], &counters["restarts"]), (&json!(4), &json!(4)));
}

async fn a_trap_after_staged_writes_leaves_nothing(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let olga = test.owner().await;
    // The probe writes a key, publishes an event, leaves a note: its host calls one, two and three.
    for place in ["host-call:1", "host-call:2", "host-call:3"] {
        let fault = inject(&olga, place).await;
        let reply = anna.post("/probe/stage-then/reply", &json!({})).await;
        reply.clone().refused(503, "CELL_TRAPPED");
        assert_eq!(Traces::of(&test, &anna, &["probe"]).await, Traces::default(), "{place}");
        let report = report_of(&olga.get("/api/v1/cells/probe/traps").await.expect(200), &reply);
        assert!(report["backtrace"].to_string().contains("probe::staging::stage_then"), "{place}: {report}");
        olga.delete(&format!("/api/v1/chaos/faults/{fault}")).await.done(204);
    }
    let removed = test.audit(&olga, "chaos.remove").await;
    assert_eq!(removed.len(), 3);
    inject(&olga, "host-call:99").await;
    anna.post("/probe/stage-then/reply", &json!({})).await.done(200);
    let kept = Traces::of(&test, &anna, &["probe"]).await;
    assert_eq!(
        (kept.state.len(), kept.events.len(), kept.notes.len()),
        (1, 1, 1),
        "a call that ends before is not struck"
    );
}

async fn a_fault_survives_a_restart(mut test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let olga = test.owner().await;
    olga.post("/api/v1/chaos/fail/probe", &Value::Null).await.done(201);
    let before = olga.get("/api/v1/chaos/faults").await.expect(200);
    test.restart().await;
    let (anna, olga) = (anna.at(&test.url()), olga.at(&test.url()));
    assert_eq!(olga.get("/api/v1/chaos/faults").await.expect(200), before);
    anna.post("/probe/echo", &json!({})).await.refused(503, "CELL_TRAPPED");
    olga.post("/api/v1/chaos/recover/probe", &Value::Null).await.done(200);
    anna.post("/probe/echo", &json!({})).await.done(200);
    test.restart().await;
    anna.at(&test.url()).post("/probe/echo", &json!({})).await.done(200);
}

async fn a_fault_strikes_one_cell(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let olga = test.owner().await;
    super::variant::renamed(super::variant::patient_probe(), "probe-callee").install(&olga).await;
    olga.post("/api/v1/chaos/fail/probe-callee", &Value::Null).await.done(201);
    let errand = json!({
        "cell": "probe-callee", "method": "POST", "path": "/probe/callee/stage-then/reply", "mark": "mark",
    });
    let answer = anna.post("/probe/call", &errand).await.expect(200);
    assert_eq!(answer, json!({ "outcome": "error", "error": "trapped", "detail": null }));
    let kept = Traces::of(&test, &anna, &["probe", "probe-callee"]).await;
    assert_eq!(kept, Traces { state: vec![("probe/mark".into(), "marked".into())], ..Traces::default() });
    anna.get("/cells/probe-callee/probe/ping").await.refused(503, "CELL_TRAPPED");
    let health = anna.get("/probe/health-of/probe-callee").await.expect(200);
    assert_eq!(health["error"], "trapped", "{health}");
}

async fn a_kernel_without_chaos_ignores_stored_faults(mut test: TestKernel) {
    anna_with_a_probe(&test).await;
    test.owner().await.post("/api/v1/chaos/fail/probe", &Value::Null).await.done(201);
    assert!(test.kernel.live.load().catalog.faults.contains_key("probe"));
    test.stop().await;
    let mut config = test.config();
    config.chaos = Chaos::Disabled;
    let calm = test.try_start(config).await.expect("the kernel starts without chaos");
    assert!(calm.live.load().catalog.faults.is_empty(), "a fault that was left behind strikes nobody");
    assert!(calm.live.load().catalog.cell("probe").is_some());
    calm.stop().await;
}

/// The probe writes a key, publishes an event and leaves a note before it returns: these are its places.
const PLACES: [&str; 5] = ["start", "host-call:1", "host-call:2", "host-call:3", "return"];

/// Injects a fault of the probe; answers its path.
async fn inject_fault(olga: &Actor, fault: &Value) -> String {
    let mut body = json!({ "cell": "probe" });
    body.as_object_mut().unwrap().extend(fault.as_object().unwrap().clone());
    let made = olga.post("/api/v1/chaos/faults", &body).await.expect(201);
    format!("/api/v1/chaos/faults/{}", text(&made["id"]))
}

/// How often a fault has struck, as the list says.
async fn struck(olga: &Actor, path: &str) -> Value {
    let listed = olga.get("/api/v1/chaos/faults").await.expect(200);
    let is_it = |fault: &&Value| path.ends_with(text(&fault["id"]));
    listed["data"].as_array().unwrap().iter().find(is_it).map_or(Value::Null, |fault| fault["struck"].clone())
}

async fn every_kind_strikes_at_every_place(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let olga = test.owner().await;
    super::variant::renamed(super::variant::patient_probe(), "neighbour").install(&olga).await;
    for (kind, status, code, outcome) in [
        ("trap", 503, "CELL_TRAPPED", "trapped"),
        ("fuel", 503, "FUEL_EXHAUSTED", "fuel_exhausted"),
        ("memory", 503, "MEMORY_EXCEEDED", "memory_exceeded"),
        ("error", 503, "CELL_FAILED", "returned"),
        ("output", 502, "OUTPUT_EXCEEDED", "output_exceeded"),
    ] {
        for place in PLACES {
            let fault = inject_fault(&olga, &json!({ "kind": kind, "at": place })).await;
            let reply = anna.with_header("idempotency-key", "once").post("/probe/stage-then/reply", &json!({})).await;
            reply.clone().refused(status, code);
            assert_eq!(Traces::of(&test, &anna, &["probe"]).await, Traces::default(), "{kind} at {place}");
            assert!(!super::traces::is_stored(&test, &anna, "/probe/stage-then/{what}", "once").await);
            let entries = audited(&anna, &reply).await;
            assert_eq!(entries.len(), 1, "{kind} at {place}: {entries:?}");
            assert_eq!(entries[0]["details"]["outcome"], outcome, "{kind} at {place}");
            if kind != "error" {
                let report = report_of(&olga.get("/api/v1/cells/probe/traps").await.expect(200), &reply);
                assert_eq!(report["kind"], outcome, "{kind} at {place}");
            }
            assert_eq!(struck(&olga, &fault).await, 1, "{kind} at {place}");
            anna.get("/cells/neighbour/probe/ping").await.done(200);
            olga.delete(&fault).await.done(204);
        }
    }
    anna.with_header("idempotency-key", "once").post("/probe/stage-then/reply", &json!({})).await.done(200);
    let kept = Traces::of(&test, &anna, &["probe"]).await;
    assert_eq!((kept.state.len(), kept.events.len(), kept.notes.len()), (1, 1, 1), "the next call is fine");
}

async fn a_delay_is_part_of_the_calls_time(test: TestKernel) {
    let olga = test.owner().await;
    suite::cell::Guest::probe().with("timeout_ms = 1000", "timeout_ms = 400").install(&olga).await;
    let anna = test.tenant("acme").await;
    for place in ["start", "host-call:3", "return"] {
        let fault = inject_fault(&olga, &json!({ "kind": "delay", "delay_ms": 30_000, "at": place })).await;
        let reply = anna.post("/probe/stage-then/reply", &json!({})).await;
        reply.clone().refused(504, "CELL_TIMEOUT");
        assert_eq!(Traces::of(&test, &anna, &["probe"]).await, Traces::default(), "{place}");
        let report = report_of(&olga.get("/api/v1/cells/probe/traps").await.expect(200), &reply);
        assert_eq!(report["kind"], "timed_out", "{place}");
        olga.delete(&fault).await.done(204);
    }
    super::variant::patient_probe().version("1.0.1").install(&olga).await;
    for place in PLACES {
        inject_fault(&olga, &json!({ "kind": "delay", "delay_ms": 20, "at": place })).await;
    }
    let began = std::time::Instant::now();
    anna.post("/probe/stage-then/reply", &json!({})).await.done(200);
    assert!(began.elapsed() >= std::time::Duration::from_millis(100), "it waited at five places");
    assert_eq!(Traces::of(&test, &anna, &["probe"]).await.state.len(), 1, "a call that is late in time is not struck");
}

async fn a_failing_callee_is_dropped_alone(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let olga = test.owner().await;
    super::variant::renamed(super::variant::patient_probe(), "probe-callee").install(&olga).await;
    for (kind, error) in
        [("fuel", "exhausted"), ("memory", "exhausted"), ("output", "exhausted"), ("error", "unavailable")]
    {
        for place in ["start", "host-call:3", "return"] {
            let fault = json!({ "cell": "probe-callee", "kind": kind, "at": place });
            let fault = inject_fault(&olga, &fault).await;
            let errand = json!({
                "cell": "probe-callee", "method": "POST", "path": "/probe/callee/stage-then/reply", "mark": "mark",
            });
            let answer = anna.post("/probe/call", &errand).await.expect(200);
            assert_eq!((text(&answer["outcome"]), text(&answer["error"])), ("error", error), "{kind} at {place}");
            let kept = Traces::of(&test, &anna, &["probe", "probe-callee"]).await;
            assert_eq!(kept, Traces { state: vec![("probe/mark".into(), "marked".into())], ..Traces::default() });
            olga.delete(&fault).await.done(204);
        }
    }
}

async fn a_fault_strikes_as_often_as_it_may(mut test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let olga = test.owner().await;
    let thrice = inject_fault(&olga, &json!({ "kind": "trap", "count": 3 })).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let anna = anna.clone();
        calls.spawn(async move { anna.post("/probe/echo", &json!({})).await.status });
    }
    let failed = calls.join_all().await.into_iter().filter(|status| *status == 503).count();
    assert_eq!(failed, 3, "calls at the same time share the count");
    assert_eq!(struck(&olga, &thrice).await, 3, "a fault that is used up is still shown");
    let half = inject_fault(&olga, &json!({ "kind": "trap", "probability": 0.5 })).await;
    assert_eq!(struck(&olga, &thrice).await, Value::Null, "the next injection clears it away");
    let mut failed = 0;
    for _ in 0..40 {
        failed += u32::from(anna.post("/probe/echo", &json!({})).await.status == 503);
    }
    assert!((5..=35).contains(&failed), "one half of 40 calls fails, more or less: {failed}");
    assert_eq!(struck(&olga, &half).await, failed);
    olga.delete(&half).await.done(204);
    let once = inject_fault(&olga, &json!({ "kind": "trap", "count": 1 })).await;
    anna.post("/probe/echo", &json!({})).await.done(503);
    anna.post("/probe/echo", &json!({})).await.done(200);
    test.restart().await;
    let (anna, olga) = (anna.at(&test.url()), olga.at(&test.url()));
    assert_eq!(struck(&olga, &once).await, 0, "a restarted kernel counts anew");
    anna.post("/probe/echo", &json!({})).await.done(503);
    anna.post("/probe/echo", &json!({})).await.done(200);
}

async fn a_fault_strikes_in_its_time_and_in_its_tenant(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let olga = test.owner().await;
    let zoe = test.tenant("zenith").await;
    let acmes = inject_fault(&olga, &json!({ "kind": "trap", "tenant": "acme", "ttl_ms": 60_000 })).await;
    anna.post("/probe/echo", &json!({})).await.refused(503, "CELL_TRAPPED");
    zoe.post("/probe/echo", &json!({})).await.done(200);
    test.anonymous().get("/probe/ping").await.done(200);
    test.pass(jiff::SignedDuration::from_millis(59_999));
    anna.post("/probe/echo", &json!({})).await.refused(503, "CELL_TRAPPED");
    assert_eq!(struck(&olga, &acmes).await, 2);
    test.pass(jiff::SignedDuration::from_millis(1));
    anna.post("/probe/echo", &json!({})).await.done(200);
    assert_eq!(struck(&olga, &acmes).await, Value::Null, "a fault whose time is over is not listed");
    assert_eq!(test.kernel.live.load().catalog.faults["probe"].len(), 1);
    inject_fault(&olga, &json!({ "kind": "trap", "at": "host-call:99" })).await;
    assert_eq!(test.kernel.live.load().catalog.faults["probe"].len(), 1, "the next injection removes it");
}
