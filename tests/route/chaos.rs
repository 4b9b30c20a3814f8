//! `/api/v1/chaos`: who may inject faults, and what is asked of one. What a fault does stands in `sandbox/chaos.rs`.

use aibos::config::Chaos;
use serde_json::{Value, json};
use suite::cell::Guest;
use suite::database::Backend;
use suite::kernel::{TestKernel, text};

on_both_kernels!(
    faults_are_injected_listed_and_removed,
    bad_faults_are_refused,
    faults_need_the_permission,
    chaos_is_off_unless_enabled
);

const FAULTS: &str = "/api/v1/chaos/faults";
const NOBODYS: &str = "0197e6a8-0000-7000-8000-000000000000";

async fn faults_are_injected_listed_and_removed(test: TestKernel) {
    let olga = test.owner().await;
    Guest::probe().upload(&olga, "").await.done(201);
    assert_eq!(olga.get(FAULTS).await.expect(200), json!({ "data": [], "next_cursor": null }));
    let late = json!({ "cell": "probe", "kind": "trap", "at": "host-call:7" });
    let late = olga.post(FAULTS, &late).await.expect(201);
    assert_eq!((text(&late["cell"]), text(&late["kind"]), text(&late["at"])), ("probe", "trap", "host-call:7"));
    let early = olga.post(FAULTS, &json!({ "cell": "probe", "kind": "trap" })).await.expect(201);
    assert_eq!(early["at"], "start");
    let short = olga.post("/api/v1/chaos/fail/probe", &Value::Null).await.expect(201);
    let mut listed = olga.get(FAULTS).await.expect(200)["data"].as_array().unwrap().clone();
    let mut made = vec![late.clone(), early, short.clone()];
    listed.sort_by_key(|fault| fault["id"].to_string());
    made.sort_by_key(|fault| fault["id"].to_string());
    assert_eq!(listed, made);

    let path = format!("{FAULTS}/{}", text(&late["id"]));
    olga.delete(&path).await.done(204);
    olga.delete(&path).await.refused(404, "NOT_FOUND");
    let recovered = olga.post("/api/v1/chaos/recover/probe", &Value::Null).await.expect(200);
    assert_eq!(recovered, json!({ "cell": "probe", "removed": 2 }));
    let recovered = olga.post("/api/v1/chaos/recover/probe", &Value::Null).await.expect(200);
    assert_eq!(recovered["removed"], 0, "to recover what has not failed is fine");
    assert_eq!(olga.get(FAULTS).await.expect(200)["data"], json!([]));

    for (action, times) in [("chaos.inject", 2), ("chaos.fail", 1), ("chaos.remove", 1), ("chaos.recover", 2)] {
        let entries = test.audit(&olga, action).await;
        assert_eq!(entries.len(), times, "{action}");
        for entry in entries {
            assert_eq!(entry["target"], json!({ "type": "cell", "id": "probe" }));
            assert_eq!((&entry["actor"]["id"], &entry["outcome"]), (&json!(olga.id), &json!("success")));
        }
    }
    assert_eq!(test.audit(&olga, "chaos.fail").await[0]["details"]["fault"], short);
    assert_eq!(test.audit(&olga, "chaos.remove").await[0]["details"]["fault"], late["id"]);
}

async fn bad_faults_are_refused(test: TestKernel) {
    let olga = test.owner().await;
    Guest::probe().upload(&olga, "").await.done(201);
    for (pointer, body) in [
        ("/kind", json!({ "cell": "probe", "kind": "explode" })),
        ("/kind", json!({ "cell": "probe", "kind": 1 })),
        ("/at", json!({ "cell": "probe", "kind": "trap", "at": "host-call:0" })),
        ("/at", json!({ "cell": "probe", "kind": "trap", "at": "host-call:-1" })),
        ("/at", json!({ "cell": "probe", "kind": "trap", "at": "host-call:4294967296" })),
        ("/at", json!({ "cell": "probe", "kind": "trap", "at": "somewhere" })),
        ("/cell", json!({ "cell": ["probe"], "kind": "trap" })),
        ("/probability", json!({ "cell": "probe", "kind": "trap", "probability": 0 })),
        ("/probability", json!({ "cell": "probe", "kind": "trap", "probability": -0.1 })),
        ("/probability", json!({ "cell": "probe", "kind": "trap", "probability": 1.01 })),
        ("/probability", json!({ "cell": "probe", "kind": "trap", "probability": "NaN" })),
        ("/count", json!({ "cell": "probe", "kind": "trap", "count": 0 })),
        ("/count", json!({ "cell": "probe", "kind": "trap", "count": 1.5 })),
        ("/ttl_ms", json!({ "cell": "probe", "kind": "trap", "ttl_ms": 0 })),
        ("/ttl_ms", json!({ "cell": "probe", "kind": "trap", "ttl_ms": 604_800_001 })),
        ("/delay_ms", json!({ "cell": "probe", "kind": "delay" })),
        ("/delay_ms", json!({ "cell": "probe", "kind": "delay", "delay_ms": 0 })),
        ("/delay_ms", json!({ "cell": "probe", "kind": "delay", "delay_ms": 30_001 })),
        ("/delay_ms", json!({ "cell": "probe", "kind": "trap", "delay_ms": 10 })),
        ("/tenant", json!({ "cell": "probe", "kind": "trap", "tenant": "nobody" })),
        ("/tenant", json!({ "cell": "probe", "kind": "trap", "tenant": "Not A Slug" })),
    ] {
        olga.post(FAULTS, &body).await.invalid(pointer);
    }
    olga.post(FAULTS, &json!({ "kind": "trap" })).await.refused(400, "VALIDATION_ERROR");
    olga.post(FAULTS, &json!({ "cell": "ledger", "kind": "trap" })).await.refused(404, "NOT_FOUND");
    olga.post("/api/v1/chaos/fail/ledger", &Value::Null).await.refused(404, "NOT_FOUND");
    olga.post("/api/v1/chaos/recover/ledger", &Value::Null).await.refused(404, "NOT_FOUND");
    olga.delete(&format!("{FAULTS}/{NOBODYS}")).await.refused(404, "NOT_FOUND");
    olga.delete(&format!("{FAULTS}/x")).await.invalid("/path/id");
    assert_eq!(olga.get(FAULTS).await.expect(200)["data"], json!([]));

    for _ in 0..100 {
        olga.post("/api/v1/chaos/fail/probe", &Value::Null).await.done(201);
    }
    olga.post("/api/v1/chaos/fail/probe", &Value::Null).await.refused(409, "IN_USE");
    assert_eq!(test.audit(&olga, "chaos.fail").await.len(), 100);
}

async fn faults_need_the_permission(test: TestKernel) {
    let olga = test.owner().await;
    Guest::probe().install(&olga).await;
    let anna = test.tenant("acme").await;
    let reader = test.user(&olga, "reader", &["kernel.cell.read"]).await;
    let fault = json!({ "cell": "probe", "kind": "trap" });
    test.anonymous().post(FAULTS, &fault).await.refused(401, "UNAUTHENTICATED");
    for stranger in [&anna, &reader] {
        for path in [FAULTS, "/api/v1/chaos/fail/probe", "/api/v1/chaos/recover/probe"] {
            let problem = stranger.post(path, &fault).await.refused(403, "FORBIDDEN");
            assert_eq!(problem["missing_permissions"], json!(["kernel.chaos.inject"]));
        }
        stranger.get(FAULTS).await.refused(403, "FORBIDDEN");
        stranger.delete(&format!("{FAULTS}/{NOBODYS}")).await.refused(403, "FORBIDDEN");
    }
    let targets: Vec<Value> =
        test.audit(&anna, "authz.deny").await.into_iter().map(|entry| entry["target"]["id"].clone()).collect();
    assert_eq!(targets, ["chaos.remove", "chaos.list", "chaos.recover", "chaos.fail", "chaos.inject"]);
    anna.get("/probe/context").await.done(200);
    let breaker = test.user(&olga, "breaker", &["kernel.chaos.inject"]).await;
    breaker.post(FAULTS, &fault).await.done(201);
    anna.get("/probe/context").await.refused(503, "CELL_TRAPPED");
}

async fn chaos_is_off_unless_enabled(test: TestKernel) {
    let backend = if test.config().database_url.starts_with("sqlite") { Backend::Sqlite } else { Backend::Postgres };
    let test = TestKernel::start_with(backend, |config| config.chaos = Chaos::Disabled).await;
    let olga = test.owner().await;
    Guest::probe().install(&olga).await;
    let fault = json!({ "cell": "probe", "kind": "trap" });
    for path in [FAULTS, "/api/v1/chaos/fail/probe"] {
        olga.post(path, &fault).await.refused(403, "CHAOS_DISABLED");
    }
    assert_eq!(olga.get(FAULTS).await.expect(200)["data"], json!([]));
    for action in ["chaos.inject", "chaos.fail"] {
        let entries = test.audit(&olga, action).await;
        assert!(entries.iter().all(|entry| entry["outcome"] != "success"), "{entries:?}");
    }
    // What was injected before can still be cleared away.
    let recovered = olga.post("/api/v1/chaos/recover/probe", &Value::Null).await.expect(200);
    assert_eq!(recovered, json!({ "cell": "probe", "removed": 0 }));
    olga.delete(&format!("{FAULTS}/{NOBODYS}")).await.refused(404, "NOT_FOUND");
    test.anonymous().get("/probe/ping").await.done(200);
    // The permission is looked at first.
    let anna = test.tenant("acme").await;
    anna.post(FAULTS, &fault).await.refused(403, "FORBIDDEN");
}
