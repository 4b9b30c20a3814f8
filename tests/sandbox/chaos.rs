//! An injected fault is a real trap: the guest is stopped inside its own code, and nothing that it staged remains.

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
