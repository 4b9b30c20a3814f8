//! A kernel that stops and starts again has lost nothing.

use serde_json::json;
use suite::cell::install_finance;
use suite::kernel::{PASSWORD, TestKernel, text};

async fn everything_is_there_after_a_restart(mut test: TestKernel) {
    let operator = test.owner().await;
    install_finance(&operator).await;
    let route = json!({ "route": "/till", "methods": ["POST"], "cell": "ledger", "permission": "till.use" });
    operator.post("/api/v1/routes", &route).await.done(201);
    let merchant = test.tenant("acme").await;
    let body = json!({ "amount": 5, "currency": "EUR", "source": "tok_ok", "destination": "merchant-1" });
    let paid = merchant.with_header("idempotency-key", "k").post("/payments/process", &body).await;
    let before = (
        merchant.get("/api/v1/events").await.expect(200),
        operator.get("/api/v1/routes").await.expect(200),
        merchant.get("/ledger/trial-balance").await.expect(200),
    );
    let entries = test.audit(&merchant, "cell.call").await;

    test.restart().await;

    let (merchant, operator) = (merchant.at(&test.url()), operator.at(&test.url()));
    let after = (
        merchant.get("/api/v1/events").await.expect(200),
        operator.get("/api/v1/routes").await.expect(200),
        merchant.get("/ledger/trial-balance").await.expect(200),
    );
    assert_eq!(after, before);
    assert_eq!(test.audit(&merchant, "cell.call").await, entries);
    let again = merchant.with_header("idempotency-key", "k").post("/payments/process", &body).await;
    assert_eq!((again.status, &again.text), (paid.status, &paid.text));
    assert_eq!(again.header("idempotency-replayed"), "true");
    let cells = operator.get("/api/v1/cells").await.expect(200);
    let states: Vec<&str> = cells["data"].as_array().unwrap().iter().map(|cell| text(&cell["state"])).collect();
    assert_eq!(states, ["active", "active", "active"]);
    test.sign_in("acme", "owner@acme.test", PASSWORD).await.post("/payments/process", &body).await.done(201);
}

on_both_kernels!(everything_is_there_after_a_restart);
