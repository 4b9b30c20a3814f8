//! A failing cell is taken out of its callers' way: first for the tenant whose calls fail, then for everybody, then for good.

use aibos::cell::supervisor::Breaker;
use jiff::SignedDuration;
use serde_json::{Value, json};
use suite::actor::Actor;
use suite::cell::Guest;
use suite::kernel::{TestKernel, text};

use super::variant::{patient_probe, renamed};

on_both_kernels!(
    a_tenant_whose_calls_fail_is_cut_off_alone,
    a_breaker_tries_again_and_waits_longer_each_time,
    a_version_that_fails_for_many_stops_for_everybody,
    what_keeps_failing_for_everybody_is_quarantined,
    a_callee_is_judged_by_itself,
    recovery_forgets_the_strikes_of_a_fault,
    a_stored_reply_is_given_whatever_became_of_the_cell,
    calls_without_a_token_stop_nobody_else,
);

/// A probe that is struck out after so many failures.
fn touchy_probe(strikes: u32) -> Guest {
    patient_probe().with("strikes = 1000", &format!("strikes = {strikes}"))
}

async fn panics(actor: &Actor) {
    actor.post("/probe/panic", &json!({})).await.refused(503, "CELL_TRAPPED");
}

async fn refused(actor: &Actor) {
    let reply = actor.post("/probe/echo", &json!({})).await;
    assert!(reply.header("retry-after").parse::<u64>().unwrap() > 0);
    reply.refused(503, "CIRCUIT_OPEN");
}

async fn state_of(olga: &Actor, cell: &str) -> String {
    text(&olga.get(&format!("/api/v1/cells/{cell}")).await.expect(200)["state"]).to_owned()
}

async fn a_tenant_whose_calls_fail_is_cut_off_alone(test: TestKernel) {
    let olga = test.owner().await;
    touchy_probe(5).install(&olga).await;
    let (anna, bert) = (test.tenant("acme").await, test.tenant("bolt").await);
    for _ in 0..4 {
        panics(&anna).await;
    }
    anna.post("/probe/echo", &json!({})).await.done(200);
    assert_eq!(state_of(&olga, "probe").await, "active");
    panics(&anna).await;
    refused(&anna).await;
    assert_eq!(state_of(&olga, "probe").await, "degraded");
    bert.post("/probe/echo", &json!({})).await.done(200);
    test.anonymous().get("/probe/ping").await.done(200);
    panics(&bert).await;
    assert_eq!(test.audit(&anna, "cell.call").await.len(), 6, "a call that was refused ran nothing");
    olga.post("/api/v1/cells/probe/restart", &json!({ "reason": "mended" })).await.done(200);
    anna.post("/probe/echo", &json!({})).await.done(200);
    assert_eq!(state_of(&olga, "probe").await, "active");
}

async fn a_breaker_tries_again_and_waits_longer_each_time(test: TestKernel) {
    let olga = test.owner().await;
    touchy_probe(2).install(&olga).await;
    let anna = test.tenant("acme").await;
    panics(&anna).await;
    test.pass(SignedDuration::from_secs(61));
    panics(&anna).await;
    anna.post("/probe/echo", &json!({})).await.done(200);
    panics(&anna).await;
    for pause_ms in [100, 200, 400] {
        test.pass(SignedDuration::from_millis(pause_ms - 1));
        refused(&anna).await;
        test.pass(SignedDuration::from_millis(1));
        panics(&anna).await;
        refused(&anna).await;
    }
    test.pass(SignedDuration::from_millis(800));
    anna.post("/probe/echo", &json!({})).await.done(200);
    panics(&anna).await;
    anna.post("/probe/echo", &json!({})).await.done(200);
}

async fn a_version_that_fails_for_many_stops_for_everybody(test: TestKernel) {
    let olga = test.owner().await;
    touchy_probe(4).install(&olga).await;
    let (anna, bert, cleo) = (test.tenant("acme").await, test.tenant("bolt").await, test.tenant("core").await);
    for actor in [&anna, &anna, &anna, &bert, &bert] {
        actor.post("/probe/echo", &json!({})).await.done(200);
        panics(actor).await;
    }
    for actor in [&anna, &bert, &cleo] {
        refused(actor).await;
    }
    let probe = test.kernel.live.load().catalog.cell("probe").unwrap();
    assert_eq!(probe.supervisor.breaker(&probe.version, test.kernel.clock.now()), Breaker::Open);
    test.pass(SignedDuration::from_millis(100));
    cleo.post("/probe/echo", &json!({})).await.done(200);
    bert.post("/probe/echo", &json!({})).await.done(200);
}

async fn what_keeps_failing_for_everybody_is_quarantined(mut test: TestKernel) {
    let olga = test.owner().await;
    touchy_probe(2).install(&olga).await;
    let (anna, bert) = (test.tenant("acme").await, test.tenant("bolt").await);
    panics(&anna).await;
    panics(&bert).await;
    // The same tenant again says nothing new about the others.
    for _ in 0..8 {
        test.pass(SignedDuration::from_secs(30));
        panics(&bert).await;
        refused(&anna).await;
    }
    for number in 0..6 {
        let actor = [&anna, &bert][number % 2];
        refused(actor).await;
        test.pass(SignedDuration::from_secs(30));
        panics(actor).await;
    }
    let problem = bert.post("/probe/echo", &json!({})).await.refused(503, "CELL_QUARANTINED");
    assert!(text(&problem["detail"]).contains("operator"), "{problem}");
    let cell = olga.get("/api/v1/cells/probe").await.expect(200);
    assert_eq!((text(&cell["state"]), text(&cell["quarantine"]["by"])), ("quarantined", "supervisor"));
    let entries = test.audit(&olga, "cell.quarantine").await;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["actor"], json!({ "type": "kernel", "id": "supervisor" }));
    assert_eq!(entries[0]["cell"]["version"], "1.0.0");

    test.restart().await;
    let (olga, bert) = (olga.at(&test.url()), bert.at(&test.url()));
    bert.post("/probe/echo", &json!({})).await.refused(503, "CELL_QUARANTINED");
    let released = olga.post("/api/v1/cells/probe/release", &Value::Null).await.expect(200);
    assert_eq!((text(&released["state"]), &released["quarantine"]), ("active", &Value::Null));
    bert.post("/probe/echo", &json!({})).await.done(200);
}

async fn a_callee_is_judged_by_itself(test: TestKernel) {
    let olga = test.owner().await;
    patient_probe().install(&olga).await;
    renamed(touchy_probe(3), "probe-callee").install(&olga).await;
    let anna = test.tenant("acme").await;
    let call = async |path: &str| {
        let body =
            json!({ "cell": "probe-callee", "method": "POST", "path": format!("/probe/callee/{path}"), "body": "{}" });
        anna.post("/probe/call", &body).await.expect(200)
    };
    for _ in 0..3 {
        assert!(call("panic").await.to_string().contains("trapped"));
    }
    let refused = call("echo").await.to_string();
    assert!(refused.contains("breaker"), "{refused}");
    assert_eq!(state_of(&olga, "probe-callee").await, "degraded");
    assert_eq!(state_of(&olga, "probe").await, "active");
}

async fn recovery_forgets_the_strikes_of_a_fault(test: TestKernel) {
    let olga = test.owner().await;
    touchy_probe(3).install(&olga).await;
    let anna = test.tenant("acme").await;
    olga.post("/api/v1/chaos/fail/probe", &Value::Null).await.done(201);
    for _ in 0..3 {
        anna.post("/probe/echo", &json!({})).await.refused(503, "CELL_TRAPPED");
    }
    refused(&anna).await;
    olga.post("/api/v1/chaos/recover/probe", &Value::Null).await.done(200);
    anna.post("/probe/echo", &json!({})).await.done(200);
}

async fn a_stored_reply_is_given_whatever_became_of_the_cell(test: TestKernel) {
    let olga = test.owner().await;
    touchy_probe(2).install(&olga).await;
    let anna = test.tenant("acme").await;
    let keyed = anna.with_header("idempotency-key", "k");
    let first = keyed.post("/probe/stage-then/reply", &json!({})).await;
    assert_eq!(first.status, 200, "{}", first.text);
    panics(&anna).await;
    panics(&anna).await;
    refused(&anna).await;
    let again = keyed.post("/probe/stage-then/reply", &json!({})).await;
    assert_eq!((again.status, &again.text, again.header("idempotency-replayed")), (200, &first.text, "true"));
    olga.post("/api/v1/cells/probe/quarantine", &Value::Null).await.done(200);
    keyed.post("/probe/stage-then/reply", &json!({})).await.done(200);
    keyed.post("/probe/stage-then/reply", &json!({ "other": 1 })).await.refused(422, "IDEMPOTENCY_KEY_REUSED");
    anna.post("/probe/stage-then/reply", &json!({})).await.refused(503, "CELL_QUARANTINED");
}

async fn calls_without_a_token_stop_nobody_else(test: TestKernel) {
    let olga = test.owner().await;
    touchy_probe(2).install(&olga).await;
    let anna = test.tenant("acme").await;
    olga.post("/api/v1/chaos/fail/probe", &Value::Null).await.done(201);
    for _ in 0..2 {
        test.anonymous().get("/probe/ping").await.refused(503, "CELL_TRAPPED");
    }
    test.anonymous().get("/probe/ping").await.refused(503, "CIRCUIT_OPEN");
    panics(&anna).await;
    anna.post("/probe/panic", &json!({})).await.refused(503, "CELL_TRAPPED");
    refused(&anna).await;
    let bert = test.tenant("bolt").await;
    panics(&bert).await;
}
