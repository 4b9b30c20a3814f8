//! An `Idempotency-Key` gives a request one effect, however often it is sent, and its first reply every time.

use jiff::SignedDuration;
use serde_json::{Value, json};
use suite::actor::{Actor, Reply};
use suite::cell::install_finance;
use suite::database::Backend;
use suite::kernel::{PASSWORD, TestKernel};
use tokio::task::JoinSet;

use super::traces::{Traces, is_stored};
use super::variant::{anna_with_a_probe, lavish_probe, patient_probe};

on_both_kernels!(
    the_stored_reply_comes_back,
    a_key_belongs_to_one_request,
    duplicates_at_once_have_one_effect,
    a_payment_sent_twice_is_one_payment,
    a_running_request_holds_its_key,
    a_key_belongs_to_one_user_of_one_tenant,
    what_was_not_kept_can_be_tried_again,
    a_key_is_asked_for_and_looked_at,
    a_key_is_forgotten_after_its_time,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_on_two_kernels_have_one_effect() {
    let test = TestKernel::start(Backend::Postgres).await;
    let anna = anna_with_a_probe(&test).await;
    let twin = test.twin().await;
    for round in 1..=8 {
        let key = format!("round-{round}");
        let mut running = JoinSet::new();
        for number in 0..16 {
            let actor = keyed(&if number % 2 == 0 { anna.clone() } else { anna.at(&twin.url()) }, &key);
            running.spawn(async move { post(&actor, "/probe/increment/n").await });
        }
        let replies = running.join_all().await;
        let mut firsts = 0;
        for reply in replies {
            if reply.status == 409 {
                reply.refused(409, "IDEMPOTENCY_KEY_IN_USE");
            } else {
                firsts += usize::from(reply.header("idempotency-replayed").is_empty());
                assert_eq!(reply.expect(200), json!({ "value": round }));
            }
        }
        assert_eq!(firsts, 1, "one of both kernels was first, every other answer is a replay of it");
    }
    assert_eq!(value_of(&anna, "n").await, "8");
    assert_eq!(calls(&test, &anna).await, 8);
    twin.stop().await;
}

const INCREMENT: &str = "/probe/increment/{key}";

fn keyed(actor: &Actor, key: &str) -> Actor {
    actor.with_header("idempotency-key", key)
}

async fn post(actor: &Actor, path: &str) -> Reply {
    actor.post(path, &json!({})).await
}

async fn value_of(actor: &Actor, key: &str) -> String {
    actor.get(&format!("/probe/state/{key}")).await.text
}

/// How many POSTs to cells the audit log of a tenant has.
async fn calls(test: &TestKernel, owner: &Actor) -> usize {
    let calls = test.audit(owner, "cell.call").await;
    calls.iter().filter(|call| call["details"]["method"] == "POST").count()
}

#[track_caller]
fn is_replay(again: &Reply, first: &Reply) {
    assert_eq!((again.status, &again.text), (first.status, &first.text));
    assert_eq!(again.header("content-type"), first.header("content-type"));
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(first.header("idempotency-replayed"), "");
}

async fn the_stored_reply_comes_back(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let k = keyed(&anna, "k");
    let first = post(&k, "/probe/increment/n").await;
    assert_eq!(first.clone().expect(200), json!({ "value": 1 }));
    for path in ["/probe/increment/n", "/cells/probe/probe/increment/n"] {
        is_replay(&post(&k, path).await, &first);
    }
    assert_eq!(value_of(&anna, "n").await, "1");
    assert_eq!(calls(&test, &anna).await, 1, "a replay is no call");

    let odd = "  {\"b\":1.0,\r\n\"a\":\"\\u00e9\"}\n".to_owned();
    let media = "text/x-odd; q=1";
    let echo = async || k.send_bytes(http::Method::POST, "/probe/echo", media, Some(odd.clone().into_bytes())).await;
    let first = echo().await;
    assert_eq!((first.status, &first.text, first.header("content-type")), (200, &odd, media));
    is_replay(&echo().await, &first);

    let event = json!({ "type": "probe.sold", "data": {}, "subject": "x" });
    let first = k.post("/probe/publish", &event).await;
    is_replay(&k.post("/probe/publish", &event).await, &first);
    assert_eq!(anna.get("/api/v1/events").await.expect(200)["data"].as_array().unwrap().len(), 1);

    test.pass(SignedDuration::from_hours(24));
    let anna = test.sign_in("acme", "owner@acme.test", PASSWORD).await;
    let again = post(&keyed(&anna, "k"), "/probe/increment/n").await;
    assert_eq!((again.header("idempotency-replayed"), again.json.clone()), ("true", json!({ "value": 1 })));
}

async fn a_key_belongs_to_one_request(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let k = keyed(&anna, "k");
    k.post("/probe/echo", &json!({ "a": 1 })).await.done(200);
    k.post("/probe/echo", &json!({ "a": 2 })).await.refused(422, "IDEMPOTENCY_KEY_REUSED");
    k.post("/probe/echo", &json!({ "a": 1 })).await.done(200);
    post(&k, "/probe/add/n?delta=2").await.done(200);
    for other in ["/probe/add/n?delta=3", "/probe/add/n", "/probe/add/m?delta=2", "/probe/add/%6e?delta=2"] {
        post(&k, other).await.refused(422, "IDEMPOTENCY_KEY_REUSED");
    }
    assert_eq!(value_of(&anna, "n").await, "2");
    anna.get("/probe/state/m").await.refused(404, "NOT_FOUND");
    post(&k, "/probe/increment/n").await.done(200);
    assert_eq!(value_of(&anna, "n").await, "3", "on another route it is another key");
    let failures = test.audit(&anna, "cell.call").await.into_iter().filter(|call| call["outcome"] != "success");
    assert_eq!(failures.count(), 0, "a refused key is no failure of the cell");
}

/// Sends the same request so many times at once; answers the replies that are not `IDEMPOTENCY_KEY_IN_USE`.
async fn duplicates(actor: &Actor, times: usize, path: &'static str, body: Value) -> Vec<Reply> {
    let mut running = JoinSet::new();
    for _ in 0..times {
        let (actor, body) = (actor.clone(), body.clone());
        running.spawn(async move { actor.post(path, &body).await });
    }
    let mut answered = Vec::new();
    for reply in running.join_all().await {
        if reply.status == 409 {
            assert_eq!(reply.header("retry-after"), "1");
            reply.refused(409, "IDEMPOTENCY_KEY_IN_USE");
        } else {
            answered.push(reply);
        }
    }
    assert!(!answered.is_empty(), "somebody was first");
    let firsts = answered.iter().filter(|reply| reply.header("idempotency-replayed").is_empty()).count();
    assert_eq!(firsts, 1, "one is the first, the others replay it");
    assert!(answered.iter().all(|reply| reply.text == answered[0].text));
    answered
}

async fn duplicates_at_once_have_one_effect(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    for round in 1..=8 {
        let k = keyed(&anna, &format!("round-{round}"));
        let answered = duplicates(&k, 16, "/probe/increment/n", json!({})).await;
        assert_eq!(answered[0].json, json!({ "value": round }));
    }
    assert_eq!(value_of(&anna, "n").await, "8");
    assert_eq!(calls(&test, &anna).await, 8);
}

async fn a_payment_sent_twice_is_one_payment(test: TestKernel) {
    install_finance(&test.owner().await).await;
    let anna = test.tenant("acme").await;
    let payment = json!({ "amount": 700, "currency": "EUR", "source": "tok_ok", "destination": "shop" });
    let k = keyed(&anna, "order-7");
    let answered = duplicates(&k, 16, "/payments/process", payment.clone()).await;
    let paid = answered[0].clone().expect(201);
    k.post("/payments/process", &payment).await.done(201);
    let mut other = payment.clone();
    other["amount"] = 701.into();
    k.post("/payments/process", &other).await.refused(422, "IDEMPOTENCY_KEY_REUSED");
    assert_eq!(anna.get("/payments").await.expect(200)["data"], json!([paid]));
    let totals = json!({ "data": [{ "currency": "EUR", "debits": 700, "credits": 700 }] });
    assert_eq!(anna.get("/ledger/trial-balance").await.expect(200), totals);
    assert_eq!(anna.get("/api/v1/events").await.expect(200)["data"].as_array().unwrap().len(), 2);

    let mut declined = payment;
    declined["source"] = "tok_declined".into();
    let k = keyed(&anna, "order-8");
    let first = k.post("/payments/process", &declined).await;
    first.clone().refused(402, "PAYMENT_DECLINED");
    is_replay(&k.post("/payments/process", &declined).await, &first);
    assert_eq!(anna.get("/ledger/trial-balance").await.expect(200), totals);
}

async fn a_running_request_holds_its_key(test: TestKernel) {
    lavish_probe().install(&test.owner().await).await;
    let anna = test.tenant("acme").await;
    let path = "/probe/sleep?ms=800";
    let k = keyed(&anna, "k");
    let answered = duplicates(&k, 4, path, json!({})).await;
    assert!(answered.len() < 4, "the first request was never seen running");
    let again = post(&k, path).await;
    assert_eq!((again.header("idempotency-replayed"), &again.text), ("true", &answered[0].text));
    assert_eq!(calls(&test, &anna).await, 1);
}

async fn a_key_belongs_to_one_user_of_one_tenant(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let ada = test.user(&anna, "ada", &["probe.use"]).await;
    let bert = test.tenant("bolt").await;
    for (actor, value) in [(&anna, 1), (&ada, 2), (&bert, 1)] {
        assert!(!is_stored(&test, actor, INCREMENT, "k").await);
        let first = post(&keyed(actor, "k"), "/probe/increment/n").await;
        assert_eq!(first.clone().expect(200), json!({ "value": value }));
        is_replay(&post(&keyed(actor, "k"), "/probe/increment/n").await, &first);
        assert!(is_stored(&test, actor, INCREMENT, "k").await);
    }
    // Whoever may not call any more gets no stored reply either.
    let role = anna.get(&format!("/api/v1/users/{}", ada.id)).await.expect(200)["roles"][0]["id"].clone();
    let role = format!("/api/v1/users/{}/roles/{}", ada.id, role.as_str().unwrap());
    anna.delete(&role).await.done(204);
    post(&keyed(&ada, "k"), "/probe/increment/n").await.refused(403, "FORBIDDEN");
}

async fn what_was_not_kept_can_be_tried_again(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let olga = test.owner().await;
    let k = keyed(&anna, "k");
    olga.post("/api/v1/chaos/fail/probe", &Value::Null).await.done(201);
    post(&k, "/probe/increment/n").await.refused(503, "CELL_TRAPPED");
    assert!(!is_stored(&test, &anna, INCREMENT, "k").await);
    olga.post("/api/v1/chaos/recover/probe", &Value::Null).await.done(200);
    let first = post(&k, "/probe/increment/n").await;
    assert_eq!((first.header("idempotency-replayed"), first.json.clone()), ("", json!({ "value": 1 })));

    post(&k, "/probe/take/stock").await.refused(402, "INSUFFICIENT");
    post(&anna, "/probe/add/stock").await.done(200);
    let first = post(&k, "/probe/take/stock").await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (200, ""), "{}", first.text);
    is_replay(&post(&k, "/probe/take/stock").await, &first);
    assert_eq!(value_of(&anna, "stock").await, "0");
}

async fn a_key_is_asked_for_and_looked_at(test: TestKernel) {
    let rule =
        |route: &str| format!("route = \"{route}\"\nmethods = [\"POST\"]\npermission = \"probe.use\"\nidempotency = ");
    let changed = |guest: suite::cell::Guest, route: &str, word: &str| {
        guest.with(&format!("{}\"optional\"", rule(route)), &format!("{}\"{word}\"", rule(route)))
    };
    let strict = changed(changed(patient_probe(), INCREMENT, "required"), "/probe/add/{key}", "none");
    strict.install(&test.owner().await).await;
    let anna = test.tenant("acme").await;
    for path in ["/probe/increment/n", "/cells/probe/probe/increment/n"] {
        post(&anna, path).await.refused(400, "IDEMPOTENCY_KEY_REQUIRED");
    }
    for bad in ["", "a b", "\t", &"x".repeat(256)] {
        post(&keyed(&anna, bad), "/probe/increment/n").await.invalid("/header/Idempotency-Key");
        post(&keyed(&anna, bad), "/probe/take/n").await.invalid("/header/Idempotency-Key");
    }
    assert_eq!(Traces::of(&test, &anna, &["probe"]).await, Traces::default());
    for good in ["a", "~!\"#$%&'()*+,-./", &"x".repeat(255)] {
        let first = post(&keyed(&anna, good), "/probe/increment/n").await;
        first.clone().done(200);
        is_replay(&post(&keyed(&anna, good), "/probe/increment/n").await, &first);
    }
    assert_eq!(value_of(&anna, "n").await, "3");
    for _ in 0..2 {
        let counted = post(&keyed(&anna, "k"), "/probe/add/m").await;
        assert_eq!((counted.status, counted.header("idempotency-replayed")), (200, ""));
    }
    assert_eq!(value_of(&anna, "m").await, "2", "a route without idempotency ignores the key");
    let stranger = test.user(&anna, "stranger", &[]).await;
    post(&stranger, "/probe/increment/n").await.refused(403, "FORBIDDEN");
}

async fn a_key_is_forgotten_after_its_time(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    post(&keyed(&anna, "k"), "/probe/increment/n").await.done(200);
    test.pass(SignedDuration::from_hours(47));
    test.kernel.sweep().await;
    assert!(is_stored(&test, &anna, INCREMENT, "k").await);
    test.pass(SignedDuration::from_hours(2));
    test.kernel.sweep().await;
    assert!(!is_stored(&test, &anna, INCREMENT, "k").await);
    let anna = test.sign_in("acme", "owner@acme.test", PASSWORD).await;
    assert_eq!(post(&keyed(&anna, "k"), "/probe/increment/n").await.expect(200), json!({ "value": 2 }));
}
