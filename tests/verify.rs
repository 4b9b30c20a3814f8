//! `aibos verify`: it finds nothing wrong with what kernels wrote, also while they write, and it names the place of whatever
//! somebody with every right on the database changed.

mod books;
mod corrupt;
mod log;
mod restore;

use aibos::command::verify::{Report, verify};
use jiff::SignedDuration;
use serde_json::{Value, json};
use suite::actor::{Actor, Reply};
use suite::cell::install_finance;
use suite::kernel::{PASSWORD, TestKernel, text};

/// The finance cells and a merchant.
async fn merchant(test: &TestKernel) -> Actor {
    install_finance(&test.owner().await).await;
    test.tenant("acme").await
}

fn order(source: &str, manual: bool) -> Value {
    let capture_method = if manual { "manual" } else { "automatic" };
    json!({
        "amount": 1000, "currency": "EUR", "source": source, "destination": "shop", "capture_method": capture_method,
    })
}

/// A payment under a key.
async fn pay(merchant: &Actor, key: &str, source: &str, manual: bool) -> Reply {
    merchant.with_header("idempotency-key", key).post("/payments", &order(source, manual)).await
}

async fn act(merchant: &Actor, payment: &Value, step: &str, body: Value) -> Reply {
    merchant.post(&format!("/payments/{}/{step}", text(&payment["transaction_id"])), &body).await
}

/// One payment of each kind that there is, through each change that there is.
async fn mixed(test: &TestKernel, merchant: &Actor) -> Actor {
    test.tenant("idle").await;
    for (key, source, status) in [("ok", "tok_ok", 201), ("no", "tok_declined", 402), ("odd", "tok_conflict", 409)] {
        pay(merchant, key, source, false).await.done(status);
        pay(merchant, key, source, false).await.done(status);
    }
    let waits = pay(merchant, "later", "tok_timeout", false).await.expect(202);
    act(merchant, &waits, "sync", json!({})).await.done(200);
    pay(merchant, "never", "tok_timeout", true).await.done(202);

    let parts = pay(merchant, "parts", "tok_ok", true).await.expect(201);
    act(merchant, &parts, "capture", json!({ "amount": 600 })).await.done(200);
    act(merchant, &parts, "capture", json!({ "amount": 100 })).await.done(200);
    act(merchant, &parts, "refunds", json!({ "amount": 650 })).await.done(201);
    let whole = pay(merchant, "whole", "tok_ok", true).await.expect(201);
    act(merchant, &whole, "capture", json!({})).await.done(200);
    act(merchant, &whole, "reversal", json!({})).await.done(200);
    let both = pay(merchant, "both", "tok_ok", true).await.expect(201);
    act(merchant, &both, "capture", json!({ "amount": 1 })).await.done(200);
    act(merchant, &both, "reversal", json!({})).await.done(200);
    let gone = pay(merchant, "gone", "tok_ok", true).await.expect(201);
    act(merchant, &gone, "cancel", json!({})).await.done(200);
    let slow = pay(merchant, "slow", "tok_capture_timeout", true).await.expect(201);
    act(merchant, &slow, "capture", json!({ "amount": 300, "final": true })).await.done(202);
    act(merchant, &slow, "sync", json!({})).await.done(200);
    let back = pay(merchant, "back", "tok_refund_timeout", false).await.expect(201);
    act(merchant, &back, "refunds", json!({ "amount": 200 })).await.done(202);
    act(merchant, &back, "sync", json!({})).await.done(200);
    act(merchant, &back, "refunds", json!({ "amount": 300 })).await.done(202);
    let kept = pay(merchant, "kept", "tok_refund_declined", false).await.expect(201);
    act(merchant, &kept, "refunds", json!({})).await.done(402);
    let forgotten = pay(merchant, "forgotten", "tok_ok", true).await.expect(201);
    test.pass(SignedDuration::from_hours(7 * 24));
    let merchant = test.sign_in("acme", "owner@acme.test", PASSWORD).await;
    act(&merchant, &forgotten, "capture", json!({})).await.refused(409, "PAYMENT_UNEXPECTED_STATE");

    // The replies to all keys above have expired meanwhile.
    pay(&merchant, "held", "tok_ok", true).await.done(201);
    pay(&merchant, "late", "tok_ok", false).await.done(201);
    merchant.put("/ledger/accounts/shop/limits/EUR", &json!({ "min_available": -5000 })).await.done(200);
    merchant.post("/api/v1/events", &json!({ "type": "note.made", "subject": "shop", "data": {} })).await.done(201);
    test.kernel.seal_audit().await;
    merchant
}

async fn verified(test: &TestKernel) -> Report {
    verify(test.database.url(), None, &[]).await.expect("the database can be read")
}

/// Nothing is wrong; answers what was looked at.
#[track_caller]
fn assert_holds(report: &Report) {
    assert!(report.ok, "{}", report.violation.as_ref().expect("a violation"));
}

async fn what_a_kernel_wrote_holds(test: TestKernel) {
    assert_holds(&verified(&test).await);
    let merchant = merchant(&test).await;
    mixed(&test, &merchant).await;
    let report = verified(&test).await;
    assert_holds(&report);
    let checked = &report.checked;
    assert_eq!((checked.payments, checked.refunds), (15, 6), "{checked:?}");
    assert!(checked.holds > 7 && checked.transactions >= 14 && checked.entries == 2 * checked.transactions);
    assert!(checked.events > 40 && checked.audit_sealed == checked.audit_entries && checked.accounts == 2);
    assert!(checked.replies >= 2, "{checked:?}");
}

async fn what_a_kernel_writes_meanwhile_holds(test: TestKernel) {
    let merchant = merchant(&test).await;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..3 {
        let merchant = merchant.clone();
        clients.spawn(async move {
            for number in 0..12 {
                let paid = pay(&merchant, &format!("{client}-{number}"), "tok_ok", true).await.expect(201);
                act(&merchant, &paid, "capture", json!({ "amount": 400 })).await.done(200);
                act(&merchant, &paid, "refunds", json!({ "amount": 150 })).await.done(201);
            }
        });
    }
    let mut last = 0;
    while !clients.is_empty() {
        let report = verified(&test).await;
        assert_holds(&report);
        assert!(report.checked.commits >= last);
        last = report.checked.commits;
        while let Some(ended) = clients.try_join_next() {
            ended.expect("a client ends well");
        }
    }
    let report = verified(&test).await;
    assert_holds(&report);
    assert_eq!((report.checked.payments, report.checked.refunds, report.checked.holds), (36, 36, 72));
}

on_both_kernels!(what_a_kernel_wrote_holds, what_a_kernel_writes_meanwhile_holds);
