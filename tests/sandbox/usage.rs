//! What a call cost stands in its audit entry, and what a tenant used is added up by cell and day.

use jiff::SignedDuration;
use serde_json::{Value, json};
use suite::actor::Actor;
use suite::kernel::{TestKernel, text};

use super::traces::audited;
use super::variant::{anna_with_a_probe, patient_probe, renamed};

on_both_kernels!(
    a_receipt_says_what_a_call_cost,
    a_call_that_fails_is_charged_its_grant,
    a_callee_has_a_receipt_of_its_own,
    usage_is_added_up_by_cell_and_day,
    usage_survives_a_restart_and_stays_in_its_tenant,
);

const USAGE: &str = "/api/v1/usage";

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

async fn rows(reader: &Actor, query: &str) -> Vec<Value> {
    reader.get(&format!("{USAGE}{query}")).await.expect(200)["data"].as_array().unwrap().clone()
}

async fn a_receipt_says_what_a_call_cost(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let reply = anna.post("/probe/increment/n", &json!({})).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let entry = audited(&anna, &reply).await.remove(0);
    let receipt = &entry["receipt"];
    assert_eq!((text(&receipt["cell"]), text(&receipt["version"])), ("probe", "1.0.0"));
    assert_eq!(receipt["digest"], entry["cell"]["digest"]);
    assert_eq!((text(&receipt["outcome"]), &receipt["fuel_granted"]), ("returned", &json!(50_000_000)));
    let used = number(&receipt["fuel_used"]);
    assert!(used > 1_000 && used < 50_000_000, "{receipt}");
    assert_eq!(receipt["fuel_charged"], receipt["fuel_used"]);
    assert!(text(&receipt["cost_table"]).starts_with("sha256:"), "{receipt}");
    assert_eq!(receipt["host_calls"], json!({ "state": 2 }));
    assert!(number(&receipt["wall_us"]) > 0);
}

async fn a_call_that_fails_is_charged_its_grant(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    for path in ["/probe/panic", "/probe/divide"] {
        let reply = anna.post(path, &json!({})).await;
        assert_eq!(reply.status, 503, "{}", reply.text);
        let receipt = audited(&anna, &reply).await[0]["receipt"].clone();
        assert_eq!((text(&receipt["outcome"]), &receipt["fuel_charged"]), ("trapped", &json!(50_000_000)));
    }
    let used = rows(&anna, "").await;
    assert_eq!((&used[0]["invocations"], &used[0]["fuel"]), (&json!(2), &json!(100_000_000)));
}

async fn a_callee_has_a_receipt_of_its_own(test: TestKernel) {
    let olga = test.owner().await;
    patient_probe().install(&olga).await;
    renamed(patient_probe(), "probe-callee").install(&olga).await;
    let anna = test.tenant("acme").await;
    let errand = json!({ "cell": "probe-callee", "method": "POST", "path": "/probe/callee/echo", "body": {} });
    let reply = anna.post("/probe/call", &errand).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let receipt = audited(&anna, &reply).await[0]["receipt"].clone();
    let nested = receipt["nested"].as_array().unwrap();
    assert_eq!((nested.len(), text(&nested[0]["cell"])), (1, "probe-callee"));
    let (whole, below) = (number(&receipt["fuel_used"]), number(&nested[0]["fuel_used"]));
    assert!(below > 0 && whole > below, "{receipt}");
    let used = rows(&anna, "").await;
    assert_eq!((text(&used[0]["cell"]), number(&used[0]["fuel"])), ("probe", whole - below));
    assert_eq!((text(&used[1]["cell"]), number(&used[1]["fuel"])), ("probe-callee", below));
}

async fn usage_is_added_up_by_cell_and_day(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let body = json!({ "text": "0123456789" });
    for _ in 0..3 {
        anna.post("/probe/echo", &body).await.done(200);
    }
    // Sessions outlive the day; access tokens do not.
    test.pass(SignedDuration::from_hours(24));
    let anna = test.sign_in("acme", "owner@acme.test", suite::kernel::PASSWORD).await;
    anna.post("/probe/echo", &body).await.done(200);
    let used = rows(&anna, "?cell=probe").await;
    let days: Vec<(&str, u64)> = used.iter().map(|row| (text(&row["day"]), number(&row["invocations"]))).collect();
    assert_eq!(days, [("2027-01-15", 3), ("2027-01-16", 1)]);
    assert_eq!(number(&used[0]["bytes_in"]), 3 * body.to_string().len() as u64);
    assert!(number(&used[0]["bytes_out"]) > 0);
    assert_eq!(rows(&anna, "?from=2027-01-16").await, used[1..]);
    assert_eq!(rows(&anna, "?to=2027-01-15").await, used[..1]);
    assert_eq!(rows(&anna, "?cell=other").await, [Value::Null; 0]);
    let page = anna.get(&format!("{USAGE}?limit=1")).await.expect(200);
    let next = anna.get(&format!("{USAGE}?limit=1&cursor={}", text(&page["next_cursor"]))).await.expect(200);
    assert_eq!((&page["data"][0], &next["data"][0], &next["next_cursor"]), (&used[0], &used[1], &Value::Null));
    anna.get(&format!("{USAGE}?from=yesterday")).await.invalid("/query/from");
    anna.get(&format!("{USAGE}?cursor=nothing")).await.invalid("/query/cursor");
}

async fn usage_survives_a_restart_and_stays_in_its_tenant(mut test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let bert = test.tenant("bolt").await;
    anna.post("/probe/echo", &json!({})).await.done(200);
    test.anonymous().get("/probe/ping").await.done(200);
    test.restart().await;
    let (anna, bert, olga) = (anna.at(&test.url()), bert.at(&test.url()), test.owner().await);
    assert_eq!(rows(&anna, "").await[0]["invocations"], 1);
    assert_eq!(rows(&bert, "").await, [Value::Null; 0]);
    assert_eq!(rows(&olga, "").await[0]["invocations"], 1, "the operator's: what was called without a token");
    let eve = test.user(&anna, "eve", &[]).await;
    eve.get(USAGE).await.refused(403, "FORBIDDEN");
}
