//! Money that is held first: captured in parts, released, expired, given back; the ledger's side of it, limits and
//! statements.

use jiff::SignedDuration;
use serde_json::{Value, json};
use suite::actor::{Actor, Reply};
use suite::cell::install_finance;
use suite::kernel::{PASSWORD, TestKernel, text};

async fn merchant(test: &TestKernel) -> Actor {
    install_finance(&test.owner().await).await;
    test.tenant("acme").await
}

/// Holds 1000 cents for the shop.
async fn authorize(anna: &Actor, source: &str) -> Value {
    let order = json!({
        "amount": 1000, "currency": "EUR", "source": source, "destination": "shop", "capture_method": "manual",
    });
    anna.post("/payments", &order).await.expect(201)
}

async fn act(anna: &Actor, payment: &Value, step: &str, body: Value) -> Reply {
    anna.post(&format!("/payments/{}/{step}", text(&payment["transaction_id"])), &body).await
}

/// Posted, pending and available of the shop in euros.
async fn balances(anna: &Actor) -> [i64; 3] {
    let account = anna.get("/ledger/accounts/shop").await.expect(200);
    ["posted", "pending", "available"].map(|name| account["balances"][0][name].as_i64().unwrap())
}

async fn types(anna: &Actor) -> Vec<String> {
    let log = anna.get("/api/v1/events?limit=200").await.expect(200);
    log["data"].as_array().unwrap().iter().map(|event| text(&event["type"]).to_owned()).collect()
}

async fn a_hold_is_captured_in_parts_and_given_back(test: TestKernel) {
    let anna = merchant(&test).await;
    let clerk = test.user(&anna, "clerk", &["finance.payment.read"]).await;
    let held = authorize(&anna, "tok_ok").await;
    assert_eq!((&held["status"], &held["amount_capturable"]), (&json!("requires_capture"), &json!(1000)));
    assert_eq!(balances(&anna).await, [0, 1000, 0]);
    for step in ["capture", "cancel", "refunds", "reversal", "sync"] {
        act(&clerk, &held, step, json!({})).await.refused(403, "FORBIDDEN");
    }
    let problem = act(&anna, &held, "refunds", json!({})).await.refused(409, "PAYMENT_UNEXPECTED_STATE");
    assert_eq!(problem["payment_status"], "requires_capture");
    let problem = act(&anna, &held, "capture", json!({ "amount": 1001 })).await;
    assert_eq!(problem.refused(422, "CAPTURE_AMOUNT_TOO_LARGE")["amount_capturable"], 1000);
    act(&anna, &held, "capture", json!({ "amount": 1.5 })).await.invalid("/amount");
    assert_eq!(balances(&anna).await, [0, 1000, 0]);

    let part = act(&anna, &held, "capture", json!({ "amount": 600 })).await.expect(200);
    assert_eq!(part["status"], "partially_captured_and_capturable");
    assert_eq!(balances(&anna).await, [600, 400, 600]);
    let last = act(&anna, &held, "capture", json!({ "amount": 300, "final": true })).await.expect(200);
    assert_eq!((&last["status"], &last["amount_captured"]), (&json!("partially_captured"), &json!(900)));
    assert_eq!(balances(&anna).await, [900, 0, 900]);

    // More than the first capture took, so that both are reversed.
    let refund = act(&anna, &held, "refunds", json!({ "amount": 700, "reason": "torn" })).await.expect(201);
    let parts: Vec<i64> = refund["parts"].as_array().unwrap().iter().map(|it| it["amount"].as_i64().unwrap()).collect();
    assert_eq!(parts, [600, 100]);
    let posted = anna.get(&format!("/ledger/transactions/{}", text(&refund["parts"][1]["transaction_id"]))).await;
    assert_eq!(posted.expect(200)["reverses"], refund["parts"][1]["reverses"]);
    let problem = act(&anna, &held, "refunds", json!({ "amount": 201 })).await;
    assert_eq!(problem.refused(422, "REFUND_AMOUNT_TOO_LARGE")["amount_refundable"], 200);
    let listed = anna.get(&format!("/payments/refunds/{}", text(&held["transaction_id"]))).await.expect(200);
    assert_eq!(listed["data"], json!([refund]));
    assert_eq!(balances(&anna).await, [200, 0, 200]);
    assert_eq!(
        types(&anna).await,
        [
            "ledger.transaction.pending",
            "payment.created",
            "ledger.transaction.pending",
            "ledger.transaction.posted",
            "payment.captured",
            "ledger.transaction.posted",
            "payment.captured",
            "ledger.transaction.posted",
            "ledger.transaction.posted",
            "refund.succeeded",
        ]
    );
}

async fn what_nobody_captures_is_released(test: TestKernel) {
    let anna = merchant(&test).await;
    let given_up = authorize(&anna, "tok_ok").await;
    let gone = act(&anna, &given_up, "cancel", json!({})).await.expect(200);
    assert_eq!((&gone["status"], &gone["amount_released"]), (&json!("canceled"), &json!(1000)));
    act(&anna, &given_up, "capture", json!({})).await.refused(409, "PAYMENT_UNEXPECTED_STATE");
    let reversed = authorize(&anna, "tok_ok").await;
    act(&anna, &reversed, "capture", json!({ "amount": 400 })).await.done(200);
    let reversal = act(&anna, &reversed, "reversal", json!({})).await.expect(200);
    assert_eq!((&reversal["payment"]["amount_refunded"], &reversal["refund"]["amount"]), (&json!(400), &json!(400)));
    assert_eq!(balances(&anna).await, [0, 0, 0]);
    // The event says what was done and where that left the payment.
    let log = anna.get("/api/v1/events?limit=200").await.expect(200);
    let canceled = log["data"].as_array().unwrap().iter().filter(|event| event["type"] == "payment.canceled");
    let ends: Vec<(Value, Value)> =
        canceled.map(|event| (event["data"]["status"].clone(), event["data"]["amount_released"].clone())).collect();
    assert_eq!(ends, [(json!("canceled"), json!(1000)), (json!("partially_captured"), json!(600))]);

    let forgotten = authorize(&anna, "tok_ok").await;
    test.pass(SignedDuration::from_hours(7 * 24));
    let anna = test.sign_in("acme", "owner@acme.test", PASSWORD).await;
    assert_eq!(balances(&anna).await, [0, 1000, 0]);
    // A request that is wrong in itself records nothing, not even that the time is over.
    for wrong in [0, -1, 9_007_199_254_740_992_i64] {
        for step in ["capture", "refunds"] {
            act(&anna, &forgotten, step, json!({ "amount": wrong })).await.invalid("/amount");
        }
    }
    assert_eq!(balances(&anna).await, [0, 1000, 0]);
    let late = act(&anna, &forgotten, "capture", json!({})).await.refused(409, "PAYMENT_UNEXPECTED_STATE");
    assert_eq!(late["payment_status"], "expired");
    // The refusal has kept what it found out.
    assert_eq!(balances(&anna).await, [0, 0, 0]);
    assert_eq!(types(&anna).await.iter().filter(|name| *name == "payment.expired").count(), 1);
}

async fn an_account_keeps_to_its_limit_and_its_past(test: TestKernel) {
    let anna = merchant(&test).await;
    let limit = "/ledger/accounts/shop/limits/EUR";
    let floor = json!({ "min_available": 500 });
    anna.put(limit, &floor).await.refused(404, "NOT_FOUND");
    let held = authorize(&anna, "tok_ok").await;
    let first = act(&anna, &held, "capture", json!({ "amount": 600 })).await.expect(200);
    let auditor = test.user(&anna, "auditor", &["finance.ledger.read"]).await;
    auditor.put(limit, &floor).await.refused(403, "FORBIDDEN");
    anna.put(limit, &json!({ "min_available": 601 })).await.refused(409, "ACCOUNT_LIMIT");
    anna.put(limit, &json!({})).await.invalid("/min_available");
    anna.put(limit, &floor).await.done(200);
    let then = jiff::Timestamp::from_millisecond(test.clock.now().as_millisecond()).unwrap();
    test.pass(SignedDuration::from_secs(1));

    // What is held to come in cannot be given back yet.
    act(&anna, &held, "refunds", json!({ "amount": 101 })).await.refused(409, "ACCOUNT_LIMIT");
    act(&anna, &held, "refunds", json!({ "amount": 100 })).await.done(201);
    act(&anna, &held, "refunds", json!({ "amount": 1 })).await.refused(409, "ACCOUNT_LIMIT");
    assert_eq!(balances(&anna).await, [500, 400, 500]);
    anna.put(limit, &json!({ "min_available": null })).await.done(200);
    test.pass(SignedDuration::from_secs(1));
    act(&anna, &held, "refunds", json!({ "amount": 1 })).await.done(201);

    let past = auditor.get(&format!("/ledger/accounts/shop?at={then}")).await.expect(200);
    assert_eq!(past["balances"], json!([{ "currency": "EUR", "posted": 600 }]));
    auditor.get("/ledger/accounts/shop?at=yesterday").await.invalid("/query/at");
    let statement = auditor.get("/ledger/accounts/shop/statement").await.expect(200);
    let lines: Vec<i64> =
        statement["data"].as_array().unwrap().iter().map(|it| it["balance"].as_i64().unwrap()).collect();
    assert_eq!((lines, &statement["balances"][0]["posted"]), (vec![600, 500, 499], &json!(499)));
    assert_eq!(statement["data"][0]["transaction_id"], first["captures"][0]["capture_id"]);
}

on_both_kernels!(
    a_hold_is_captured_in_parts_and_given_back,
    what_nobody_captures_is_released,
    an_account_keeps_to_its_limit_and_its_past,
);
