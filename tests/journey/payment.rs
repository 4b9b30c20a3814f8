//! The payment hub with its processor and its ledger: what a merchant and an auditor see, and what is left after a failure.

use aibos::state::{Scan, Space};
use serde_json::{Value, json};
use suite::actor::{Actor, Reply};
use suite::cell::install_finance;
use suite::kernel::{TestKernel, text};

/// Everything that the finance cells have stored for a tenant, and the length of its event log.
#[derive(Debug, PartialEq, Eq)]
struct Books {
    state: Vec<(String, String)>,
    events: usize,
}

async fn merchant(test: &TestKernel) -> Actor {
    install_finance(&test.owner().await).await;
    test.tenant("acme").await
}

fn payment(source: &str) -> Value {
    json!({ "amount": 1999, "currency": "EUR", "source": source, "destination": "merchant-1" })
}

async fn pay(actor: &Actor, source: &str) -> Reply {
    actor.post("/payments/process", &payment(source)).await
}

async fn books(test: &TestKernel, owner: &Actor) -> Books {
    let mut state = Vec::new();
    for cell in ["payment-hub", "processor", "ledger"] {
        let space = Space { tenant: owner.tenant_id.parse().unwrap(), name: cell.into() };
        let all = Scan { space, prefix: String::new(), after: None, limit: 10_000 };
        for entry in test.kernel.storage.scan(&all).await.unwrap() {
            state.push((entry.key, String::from_utf8_lossy(&entry.versioned.value).into_owned()));
        }
    }
    Books { state, events: events(owner).await.len() }
}

async fn events(owner: &Actor) -> Vec<String> {
    let log = owner.get("/api/v1/events?limit=200").await.expect(200);
    log["data"].as_array().unwrap().iter().map(|event| text(&event["type"]).to_owned()).collect()
}

async fn a_payment_goes_through_three_cells(test: TestKernel) {
    let merchant = merchant(&test).await;
    assert_eq!(test.anonymous().get("/payments/ping").await.expect(200), json!({ "message": "pong" }));
    let health = test.anonymous().get("/payments/health").await.expect(200);
    assert_eq!(health["status"], "healthy");
    assert_eq!(health["service"], "cell-payment-hub");
    assert_eq!(health["cells"]["ledger"]["status"], "healthy");

    let paid = pay(&merchant, "tok_ok").await.expect(201);
    assert_eq!(paid["status"], "succeeded");
    let path = format!("/payments/status/{}", text(&paid["transaction_id"]));
    assert_eq!(merchant.get(&path).await.expect(200), paid);
    assert_eq!(merchant.get("/payments").await.expect(200)["data"], json!([paid]));
    assert_eq!(events(&merchant).await, ["ledger.transaction.posted", "payment.succeeded"]);

    let account = merchant.get("/ledger/accounts/merchant-1").await.expect(200);
    assert_eq!(account["balances"], json!([{ "currency": "EUR", "posted": 1999, "pending": 0, "available": 1999 }]));
    let entries = merchant.get("/ledger/accounts/merchant-1/entries").await.expect(200);
    assert_eq!(entries["data"].as_array().unwrap().len(), 1);
    let balance = merchant.get("/ledger/trial-balance").await.expect(200);
    assert_eq!(balance, json!({ "data": [{ "currency": "EUR", "debits": 1999, "credits": 1999 }] }));
    let called = test.audit(&merchant, "cell.call").await;
    assert_eq!(called.len(), 1, "{called:?}");
    assert_eq!(called[0]["cell"]["name"], "payment-hub");

    let other = test.tenant("other").await;
    other.get(&path).await.refused(404, "NOT_FOUND");
    assert_eq!(other.get("/ledger/trial-balance").await.expect(200), json!({ "data": [] }));
}

async fn a_failing_ledger_leaves_nothing(test: TestKernel) {
    let operator = test.owner().await;
    let merchant = merchant(&test).await;
    pay(&merchant, "tok_ok").await.done(201);
    let before = books(&test, &merchant).await;

    operator.post("/api/v1/chaos/fail/ledger", &Value::Null).await.done(201);
    let health = test.anonymous().get("/payments/health").await.expect(200);
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["cells"]["ledger"]["status"], "unhealthy");
    let keyed = merchant.with_header("idempotency-key", "once");
    pay(&keyed, "tok_ok").await.refused(503, "LEDGER_DOWN");
    assert_eq!(books(&test, &merchant).await, before);

    operator.post("/api/v1/chaos/recover/ledger", &Value::Null).await.done(200);
    // The key was not used up by the failure.
    pay(&keyed, "tok_ok").await.done(201);
    assert_eq!(test.anonymous().get("/payments/health").await.expect(200)["status"], "healthy");

    // At the ledger's third host call it has staged writes already.
    let before = books(&test, &merchant).await;
    let fault = json!({ "cell": "ledger", "kind": "trap", "at": "host-call:3" });
    operator.post("/api/v1/chaos/faults", &fault).await.done(201);
    pay(&merchant, "tok_ok").await.refused(503, "LEDGER_DOWN");
    assert_eq!(books(&test, &merchant).await, before);
    let failures = test.audit(&merchant, "cell.failure").await;
    assert!(failures.iter().all(|entry| entry["cell"]["name"] == "ledger"), "{failures:?}");
}

async fn a_trapping_processor_reports_where(test: TestKernel) {
    let operator = test.owner().await;
    let merchant = merchant(&test).await;
    let before = books(&test, &merchant).await;
    pay(&merchant, "tok_trap").await.refused(503, "PROCESSOR_DOWN");
    assert_eq!(books(&test, &merchant).await, before);

    let traps = operator.get("/api/v1/cells/processor/traps").await.expect(200);
    let report = &traps["data"][0];
    assert_eq!(report["kind"], "trapped");
    assert_eq!(report["version"], "1.0.0");
    let backtrace = report["backtrace"].to_string();
    assert!(backtrace.contains("processor::trap"), "{backtrace}");
    let shown = operator.get("/api/v1/cells/processor").await.expect(200);
    assert_eq!(shown["counters"]["traps"], 1);
    assert_eq!(shown["last_trap"], *report);
    pay(&merchant, "tok_ok").await.done(201);
}

async fn declines_and_timeouts_are_recorded(test: TestKernel) {
    let merchant = merchant(&test).await;
    for (source, code) in [("tok_declined", "card_declined"), ("tok_insufficient", "insufficient_funds")] {
        let declined = pay(&merchant, source).await.refused(402, "PAYMENT_DECLINED");
        assert_eq!(declined["decline_code"], code);
        let path = format!("/payments/status/{}", text(&declined["transaction_id"]));
        assert_eq!(merchant.get(&path).await.expect(200)["status"], "failed");
    }
    assert_eq!(events(&merchant).await, ["payment.failed", "payment.failed"]);
    assert_eq!(merchant.get("/ledger/trial-balance").await.expect(200), json!({ "data": [] }));

    let waiting = pay(&merchant, "tok_timeout").await.expect(202);
    assert_eq!(waiting["status"], "processing");
    let path = format!("/payments/{}/sync", text(&waiting["transaction_id"]));
    assert_eq!(merchant.post(&path, &Value::Null).await.expect(200)["status"], "succeeded");
    assert_eq!(merchant.post(&path, &Value::Null).await.expect(200)["status"], "succeeded");
    let balance = merchant.get("/ledger/trial-balance").await.expect(200);
    assert_eq!(balance["data"], json!([{ "currency": "EUR", "debits": 1999, "credits": 1999 }]));
}

async fn bad_payments_write_nothing(test: TestKernel) {
    let merchant = merchant(&test).await;
    let before = books(&test, &merchant).await;
    for (field, wrong) in [
        ("amount", json!(0)),
        ("amount", json!(-1)),
        ("amount", json!(19.99)),
        ("amount", json!("1999")),
        ("amount", json!(9_007_199_254_740_992_u64)),
        ("currency", json!("EUX")),
        ("currency", json!("eur")),
        ("source", json!("tok_unknown")),
        ("destination", json!("a/b")),
        ("destination", json!("processor-receivable")),
        ("surprise", json!(true)),
    ] {
        let mut body = payment("tok_ok");
        body[field] = wrong.clone();
        let problem = merchant.post("/payments/process", &body).await.refused(400, "VALIDATION_ERROR");
        assert_eq!(problem["errors"][0]["pointer"], format!("/{field}"), "{wrong}");
    }
    // Whatever the processor would say, and however the payment is made.
    for source in ["tok_timeout", "tok_declined", "tok_conflict"] {
        let mut body = payment(source);
        body["destination"] = "processor-receivable".into();
        for path in ["/payments/process", "/payments"] {
            merchant.post(path, &body).await.invalid("/destination");
        }
    }
    assert_eq!(books(&test, &merchant).await, before);
    let clerk = test.user(&merchant, "clerk", &["finance.payment.read"]).await;
    pay(&clerk, "tok_ok").await.refused(403, "FORBIDDEN");
    // The same handler by the cell's name asks for the same permission.
    let by_name = "/cells/payment-hub/payments/process";
    clerk.post(by_name, &payment("tok_ok")).await.refused(403, "FORBIDDEN");
    clerk.post("/payments/%70rocess", &payment("tok_ok")).await.refused(403, "FORBIDDEN");
    clerk.post("/transactions", &json!({})).await.refused(404, "NOT_FOUND");
    merchant.post("/cells/ledger/transactions", &json!({})).await.refused(404, "NOT_FOUND");
    merchant.post("/cells/processor/charges", &json!({})).await.refused(404, "NOT_FOUND");
    assert_eq!(books(&test, &merchant).await, before);
}

async fn the_books_balance_after_a_thousand_mixed_operations(test: TestKernel) {
    let merchant = merchant(&test).await;
    let sources = ["tok_ok", "tok_declined", "tok_timeout", "tok_ok", "tok_trap"];
    let currencies = ["EUR", "USD", "JPY"];
    let operations = (0..1000_i64).map(|number| {
        let merchant = merchant.clone();
        async move {
            let index = usize::try_from(number).unwrap();
            let source = sources[index % sources.len()];
            let mut body = payment(source);
            body["currency"] = currencies[index % currencies.len()].into();
            body["amount"] = (number + 1).into();
            body["destination"] = format!("merchant-{}", number % 7).into();
            let reply = merchant.post("/payments/process", &body).await;
            match source {
                "tok_ok" => reply.done(201),
                "tok_declined" => reply.done(402),
                "tok_trap" => reply.done(503),
                _ => {
                    let waiting = reply.expect(202);
                    let path = format!("/payments/{}/sync", text(&waiting["transaction_id"]));
                    merchant.post(&path, &Value::Null).await.done(200);
                }
            }
        }
    });
    in_parallel(operations, 16).await;

    let balance = merchant.get("/ledger/trial-balance").await.expect(200);
    let totals = balance["data"].as_array().unwrap();
    assert_eq!(totals.len(), currencies.len());
    for total in totals {
        assert_eq!(total["debits"], total["credits"], "{total}");
    }
    let posted: i64 = totals.iter().filter_map(|total| total["credits"].as_i64()).sum();
    let expected: i64 = (0..1000).filter(|number| !matches!(number % 5, 1 | 4)).map(|number| number + 1).sum();
    assert_eq!(posted, expected);
}

/// Runs futures, `width` at a time.
async fn in_parallel<F>(work: impl Iterator<Item = F>, width: usize)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut running = tokio::task::JoinSet::new();
    for job in work {
        if running.len() >= width {
            running.join_next().await.expect("one is running").expect("it ends well");
        }
        running.spawn(job);
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("it ends well");
    }
}

on_both_kernels!(
    a_payment_goes_through_three_cells,
    a_failing_ledger_leaves_nothing,
    a_trapping_processor_reports_where,
    declines_and_timeouts_are_recorded,
    bad_payments_write_nothing,
    the_books_balance_after_a_thousand_mixed_operations,
);
