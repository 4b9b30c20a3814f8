//! Warm instances: one tenant's next call finds what its last one left in memory, and nobody else's does.

use std::sync::Arc;
use std::time::Instant;

use aibos::cell::version::CellVersion;
use aibos::limit;
use serde_json::json;
use suite::actor::Actor;
use suite::cell::Guest;
use suite::kernel::{TestKernel, text};

on_both_kernels!(
    memory_is_kept_for_a_tenant_and_a_number_of_calls,
    what_does_not_return_is_not_taken_up_again,
    an_operator_changes_something_and_every_instance_is_fresh,
    a_dropped_call_leaves_no_memory_either,
    each_call_has_its_own_limits_and_its_own_receipt,
    payments_are_made_by_warm_cells,
    a_warm_cell_of_the_standard_world_answers,
    what_a_call_printed_is_its_own,
);

/// The guest with instances for so many calls.
fn warm(guest: Guest, calls: u32) -> Guest {
    let warm = format!("instance = {{ warm = {calls} }}");
    let fresh = "instance = \"fresh\"";
    if guest.manifest.contains(fresh) {
        guest.with(fresh, &warm)
    } else {
        guest.with("[limits]\n", &format!("[limits]\n{warm}\n"))
    }
}

/// How many calls the memory of the next call has seen, itself included.
async fn calls_seen(actor: &Actor) -> u64 {
    actor.get("/probe/memory").await.expect(200)["calls"].as_u64().unwrap()
}

fn version_of(test: &TestKernel, cell: &str) -> Arc<CellVersion> {
    Arc::clone(&test.kernel.live.load().catalog.cell(cell).unwrap().version)
}

fn resting(test: &TestKernel, version: &Arc<CellVersion>) -> usize {
    test.kernel.registry.warm.count(version)
}

async fn memory_is_kept_for_a_tenant_and_a_number_of_calls(test: TestKernel) {
    let olga = test.owner().await;
    let of_a_tenant = "route = \"/probe/memory\"\nmethods = [\"GET\"]\npermission = \"probe.use\"";
    let public = of_a_tenant.replace("probe.use", "public");
    warm(Guest::probe(), 3).with(of_a_tenant, &public).install(&olga).await;
    let (anna, bert) = (test.tenant("acme").await, test.tenant("bolt").await);
    for expected in [1, 2, 3, 1, 2] {
        assert_eq!(calls_seen(&anna).await, expected);
    }
    assert_eq!(calls_seen(&bert).await, 1, "another tenant");
    assert_eq!((calls_seen(&anna).await, calls_seen(&bert).await), (3, 2));
    for _ in 0..3 {
        assert_eq!(calls_seen(&test.anonymous()).await, 1, "nobody in particular");
    }
    let probe = version_of(&test, "probe");
    assert_eq!(resting(&test, &probe), 1, "bert's; anna's has answered three");
    let warm_ones = &test.kernel.registry.warm;
    warm_ones.sweep(Instant::now() + limit::WARM_REST_MAX / 2);
    assert_eq!(resting(&test, &probe), 1);
    warm_ones.sweep(Instant::now() + limit::WARM_REST_MAX);
    assert_eq!((resting(&test, &probe), calls_seen(&bert).await), (0, 1), "it has rested for too long");
    let many = at_once(&anna, 8).await;
    assert!(many.iter().all(|seen| (1..=3).contains(seen)), "{many:?}");
    // Too many for the manifest to be true.
    for calls in [0, 1_000_001] {
        let guest = warm(Guest::probe(), calls).version("1.0.1");
        let problem = guest.upload(&olga, "").await.refused(422, "CELL_REJECTED");
        assert!(text(&problem["reasons"][0]["message"]).contains("between 1 and 1000000"), "{problem}");
    }
}

/// What so many calls at once saw.
async fn at_once(actor: &Actor, count: usize) -> Vec<u64> {
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..count {
        let actor = actor.clone();
        calls.spawn(async move { calls_seen(&actor).await });
    }
    calls.join_all().await
}

async fn what_does_not_return_is_not_taken_up_again(test: TestKernel) {
    warm(Guest::probe(), 1000).install(&test.owner().await).await;
    let anna = test.tenant("acme").await;
    for (path, status, code) in [
        ("/probe/panic", 503, "CELL_TRAPPED"),
        ("/probe/loop", 503, "FUEL_EXHAUSTED"),
        ("/probe/eat", 503, "MEMORY_EXCEEDED"),
    ] {
        assert_eq!((calls_seen(&anna).await, calls_seen(&anna).await), (1, 2));
        anna.post(path, &json!({})).await.refused(status, code);
        assert_eq!(calls_seen(&anna).await, 1, "{path}");
        // Away with the instance that is warm by now.
        anna.post("/probe/panic", &json!({})).await.refused(503, "CELL_TRAPPED");
    }
    // One that has taken more memory than its first call gives it back.
    assert_eq!((calls_seen(&anna).await, calls_seen(&anna).await), (1, 2));
    anna.post("/probe/output", &json!({ "kb": 900 })).await.done(200);
    assert_eq!(calls_seen(&anna).await, 1);
}

async fn a_dropped_call_leaves_no_memory_either(test: TestKernel) {
    warm(Guest::probe(), 1000).install(&test.owner().await).await;
    let anna = test.tenant("acme").await;
    assert_eq!((calls_seen(&anna).await, calls_seen(&anna).await), (1, 2));
    assert_eq!(anna.post("/probe/output", &json!({ "kb": "many" })).await.status, 400);
    assert_eq!(calls_seen(&anna).await, 1, "what a refusal remembers is as little kept as what it stages");
    let probe = version_of(&test, "probe");
    assert_eq!(resting(&test, &probe), 1);
    // A request on a snapshot of before leaves nothing for those that come after.
    test.kernel.registry.warm.renew();
    assert_eq!((calls_seen(&anna).await, calls_seen(&anna).await), (1, 1));
    test.kernel.refresh().await.unwrap();
    assert_eq!((calls_seen(&anna).await, calls_seen(&anna).await), (1, 2));
}

async fn an_operator_changes_something_and_every_instance_is_fresh(test: TestKernel) {
    let olga = test.owner().await;
    warm(Guest::probe(), 1000).install(&olga).await;
    let anna = test.tenant("acme").await;
    for change in ["restart", "setting", "version", "nothing"] {
        assert_eq!((calls_seen(&anna).await, calls_seen(&anna).await, calls_seen(&anna).await), (1, 2, 3), "{change}");
        match change {
            "restart" => _ = olga.post("/api/v1/cells/probe/restart", &json!({})).await.expect(200),
            "setting" => {
                _ = olga.put("/api/v1/cells/probe/config/GREETING", &json!({ "value": "hello" })).await.expect(200);
            }
            "version" => {
                let before = version_of(&test, "probe");
                assert_eq!(resting(&test, &before), 1);
                let next = warm(Guest::probe(), 1000).version("1.0.1");
                next.upload(&olga, "?activate=true").await.done(201);
                assert_eq!(resting(&test, &before), 0, "nothing keeps the version that was");
            }
            _ => {}
        }
    }
}

async fn each_call_has_its_own_limits_and_its_own_receipt(test: TestKernel) {
    let olga = test.owner().await;
    warm(Guest::probe(), 1000).install(&olga).await;
    let anna = test.tenant("acme").await;
    let mut used = Vec::new();
    for number in 0..3 {
        let reply = anna.post("/probe/log/256", &json!({})).await;
        reply.clone().done(200);
        assert_eq!(calls_seen(&anna).await, number + 1, "the same instance");
        let path = format!("/api/v1/audit?correlation_id={}", reply.header("x-correlation-id"));
        let entries = anna.get(&path).await.expect(200);
        let receipt = &entries["data"][0]["receipt"];
        assert_eq!(receipt["host_calls"]["log"], 256, "{entries}");
        used.push(receipt["fuel_used"].as_u64().unwrap());
    }
    assert!(used[1] <= used[0] && used[1].abs_diff(used[2]) < 10_000, "each has its own fuel: {used:?}");
    let lines = olga.get("/api/v1/cells/probe/logs?limit=200").await.expect(200);
    let newest = &lines["data"][0]["correlation_id"];
    let last = anna.post("/probe/log/1", &json!({})).await;
    let lines = olga.get("/api/v1/cells/probe/logs?limit=1").await.expect(200);
    assert_eq!(lines["data"][0]["correlation_id"], json!(last.header("x-correlation-id")));
    assert_ne!(&lines["data"][0]["correlation_id"], newest);
}

async fn payments_are_made_by_warm_cells(test: TestKernel) {
    let olga = test.owner().await;
    for name in ["ledger", "processor", "payment-hub"] {
        warm(Guest::finance(name), 100).install(&olga).await;
    }
    let anna = test.tenant("acme").await;
    let order = json!({ "amount": 1999, "currency": "EUR", "source": "tok_ok", "destination": "merchant-1" });
    for _ in 0..20 {
        assert_eq!(anna.post("/payments/process", &order).await.expect(201)["status"], "succeeded");
    }
    let declined = json!({ "amount": 1999, "currency": "EUR", "source": "tok_declined", "destination": "merchant-1" });
    anna.post("/payments/process", &declined).await.done(402);
    let account = anna.get("/ledger/accounts/merchant-1").await.expect(200);
    assert!(account.to_string().contains("39980"), "{account}");
    for cell in ["ledger", "processor", "payment-hub"] {
        assert_eq!(resting(&test, &version_of(&test, cell)), 1, "{cell}");
    }
}

async fn a_warm_cell_of_the_standard_world_answers(test: TestKernel) {
    warm(Guest::proxy(), 1000).install(&test.owner().await).await;
    let anna = test.tenant("acme").await;
    for number in 0..300 {
        let reply = anna.post("/proxy/do/echo", &json!({ "number": number })).await;
        assert_eq!(reply.expect(200)["body"], json!({ "number": number }).to_string());
    }
    assert_eq!(resting(&test, &version_of(&test, "proxy")), 1);
}

async fn what_a_call_printed_is_its_own(test: TestKernel) {
    let olga = test.owner().await;
    warm(Guest::proxy(), 1000).install(&olga).await;
    let anna = test.tenant("acme").await;
    let mut calls = Vec::new();
    for _ in 0..2 {
        let reply = anna.post("/proxy/do/mumble", &json!({})).await;
        calls.push(reply.header("x-correlation-id").to_owned());
    }
    let lines = olga.get("/api/v1/cells/proxy/logs").await.expect(200)["data"].as_array().unwrap().clone();
    let said = |line: &serde_json::Value| (text(&line["message"]).to_owned(), text(&line["correlation_id"]).to_owned());
    let expected = calls.iter().rev().map(|call| ("without an end".to_owned(), call.clone()));
    assert_eq!(lines.iter().map(said).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}
