//! A call is one unit of work: everything that it staged is kept or nothing is, and calls at once end as if one came after
//! the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Method;
use serde_json::{Value, json};
use suite::actor::{Actor, Reply};
use suite::kernel::{TestKernel, text};
use tokio::task::JoinSet;

use super::traces::{Traces, audited, is_stored};
use super::variant::{anna_with_a_probe, patient_probe};

on_both_kernels!(
    increments_at_once_all_count,
    a_reader_never_sees_halves,
    nothing_survives_in_memory,
    what_fails_leaves_nothing,
    a_committed_refusal_keeps_everything,
    additions_never_conflict,
    a_bounded_counter_gives_out_what_is_there,
    a_value_that_is_no_counter_is_told_so,
    a_read_leaves_no_trace,
    tenants_have_state_of_their_own,
    without_a_tenant_there_is_no_state,
);

const STAGE: &str = "/probe/stage-then/{what}";

/// Sends the same request so many times at once.
async fn at_once(actor: &Actor, times: usize, path: &str) -> Vec<Reply> {
    let mut running = JoinSet::new();
    for _ in 0..times {
        let (actor, path) = (actor.clone(), path.to_owned());
        running.spawn(async move { actor.post(&path, &json!({})).await });
    }
    running.join_all().await
}

async fn put(actor: &Actor, key: &str, value: &str) {
    let body = Some(value.as_bytes().to_vec());
    actor.send_bytes(Method::PUT, &format!("/probe/state/{key}"), "text/plain", body).await.done(204);
}

async fn value_of(actor: &Actor, key: &str) -> String {
    let reply = actor.get(&format!("/probe/state/{key}")).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.text
}

async fn increments_at_once_all_count(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let mut values = Vec::new();
    for times in [2, 64] {
        for reply in at_once(&anna, times, "/probe/increment/n").await {
            values.push(reply.expect(200)["value"].as_i64().unwrap());
        }
    }
    values.sort_unstable();
    assert_eq!(values, (1..=66).collect::<Vec<i64>>(), "each call saw what the one before it left");
    let calls = test.audit(&anna, "cell.call").await;
    assert_eq!(calls.len(), 66, "a call that ran again is one call");
    assert!(calls.iter().all(|call| call["outcome"] == "success"));
    assert_eq!(value_of(&anna, "n").await, "66");
}

async fn a_reader_never_sees_halves(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let done = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for _ in 0..4 {
        let (anna, done) = (anna.clone(), Arc::clone(&done));
        readers.spawn(async move {
            let mut seen = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let pair = anna.get("/probe/pair").await.expect(200);
                assert_eq!(pair["a"], pair["b"], "half of a write was seen");
                seen.push(pair["a"].as_i64().unwrap());
            }
            assert!(seen.is_sorted(), "time does not run backwards: {seen:?}");
            seen.len()
        });
    }
    let mut writers = JoinSet::new();
    for _ in 0..2 {
        let anna = anna.clone();
        writers.spawn(async move {
            for _ in 0..50 {
                anna.post("/probe/pair", &json!({})).await.done(200);
            }
        });
    }
    writers.join_all().await;
    done.store(true, Ordering::Relaxed);
    let reads: usize = readers.join_all().await.into_iter().sum();
    assert!(reads > 0);
    assert_eq!(anna.get("/probe/pair").await.expect(200), json!({ "a": 100, "b": 100 }));
}

async fn nothing_survives_in_memory(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let bert = test.tenant("bolt").await;
    let mut running = JoinSet::new();
    for number in 0..32 {
        let actor = if number % 2 == 0 { anna.clone() } else { bert.clone() };
        running.spawn(async move { actor.get("/probe/memory").await.expect(200) });
    }
    for counted in running.join_all().await {
        assert_eq!(counted, json!({ "calls": 1 }));
    }
    anna.post("/probe/panic", &json!({})).await.refused(503, "CELL_TRAPPED");
    assert_eq!(anna.get("/probe/memory").await.expect(200), json!({ "calls": 1 }));
}

async fn what_fails_leaves_nothing(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let keyed = anna.with_header("idempotency-key", "k");
    let stage = async |what: &str| keyed.post(&format!("/probe/stage-then/{what}"), &json!({})).await;
    // The last column: whether it is a failure of the cell, which is audited, or an answer.
    for (what, status, code, failed) in [
        ("trap", 503, "CELL_TRAPPED", true),
        ("fail", 503, "PROBE_DOWN", true),
        ("fail-commit", 503, "PROBE_DOWN", true),
        ("status500", 503, "CELL_FAILED", true),
        ("bad-status", 502, "BAD_RESPONSE", true),
        ("bad-header", 502, "BAD_RESPONSE", true),
        ("decline", 402, "PROBE_DECLINED", false),
        ("what-it-cannot", 404, "NOT_FOUND", false),
    ] {
        let reply = stage(what).await;
        reply.clone().refused(status, code);
        assert!(!reply.text.contains("must not reach"), "{}", reply.text);
        assert_eq!(Traces::of(&test, &anna, &["probe"]).await, Traces::default(), "{what}");
        anna.get("/probe/state/staged").await.refused(404, "NOT_FOUND");
        assert!(!is_stored(&test, &anna, STAGE, "k").await, "{what}");
        let entries = audited(&anna, &reply).await;
        assert_eq!(entries.len(), usize::from(failed), "{what}: {entries:?}");
        assert!(entries.iter().all(|entry| entry["action"] == "cell.call" && entry["outcome"] == "failure"));
    }
    assert_eq!(stage("fail").await.json["detail"], "The probe says that it is down.", "a 503 is the cell's own");

    let kept = stage("reply").await;
    kept.clone().done(200);
    let expected = Traces {
        state: vec![("probe/staged".into(), "reply".into())],
        events: vec!["/cells/probe probe.staged reply".into()],
        notes: vec!["cell.probe.staged".into()],
    };
    assert_eq!(Traces::of(&test, &anna, &["probe"]).await, expected);
    assert!(is_stored(&test, &anna, STAGE, "k").await, "no failure used up the key");
    let outcomes: Vec<Value> = audited(&anna, &kept).await.into_iter().map(|entry| entry["outcome"].clone()).collect();
    assert_eq!(outcomes, ["success", "success"], "the call and its note");
}

async fn a_committed_refusal_keeps_everything(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let keyed = anna.with_header("idempotency-key", "k");
    let path = "/probe/stage-then/decline-commit";
    let declined = keyed.post(path, &json!({})).await;
    declined.clone().refused(402, "PROBE_DECLINED");
    let expected = Traces {
        state: vec![("probe/staged".into(), "decline-commit".into())],
        events: vec!["/cells/probe probe.staged decline-commit".into()],
        notes: vec!["cell.probe.staged".into()],
    };
    assert_eq!(Traces::of(&test, &anna, &["probe"]).await, expected);
    let call = test.audit(&anna, "cell.call").await.remove(0);
    assert_eq!((text(&call["outcome"]), text(&call["details"]["message"])), ("success", "402"));
    let event = &anna.get("/api/v1/events").await.expect(200)["data"][0];
    assert_eq!(event["correlationid"].as_str(), Some(declined.header("x-correlation-id")));
    assert_eq!((event["sequence"].as_i64(), &event["data"]), (Some(1), &json!({ "then": "decline-commit" })));

    let again = keyed.post(path, &json!({})).await;
    assert_eq!((again.status, &again.text), (402, &declined.text));
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(Traces::of(&test, &anna, &["probe"]).await, expected, "a replay has no second effect");
}

async fn additions_never_conflict(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    for reply in at_once(&anna, 200, "/probe/add/n?delta=3").await {
        assert_eq!(reply.expect(200), json!({ "added": 3 }));
    }
    assert_eq!(value_of(&anna, "n").await, "600");
    anna.post("/probe/add/n?delta=-601", &json!({})).await.done(200);
    assert_eq!(value_of(&anna, "n").await, "-1", "an addition without a bound has none");
}

async fn a_bounded_counter_gives_out_what_is_there(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    for (key, stock, amount, times, taken) in [("ones", 50, 1, 80, 50), ("threes", 10, 3, 16, 3), ("empty", 0, 1, 8, 0)]
    {
        anna.post(&format!("/probe/add/{key}?delta={stock}"), &json!({})).await.done(200);
        let replies = at_once(&anna, times, &format!("/probe/take/{key}?amount={amount}")).await;
        let (given, refused): (Vec<Reply>, Vec<Reply>) = replies.into_iter().partition(|reply| reply.status == 200);
        assert_eq!((given.len(), refused.len()), (taken, times - taken), "{key}");
        for reply in refused {
            reply.refused(402, "INSUFFICIENT");
        }
        let left = stock - amount * i64::try_from(taken).unwrap();
        assert_eq!(value_of(&anna, key).await, left.to_string());
    }
    anna.post("/probe/take/ones?mark=dropped", &json!({})).await.refused(402, "INSUFFICIENT");
    anna.post("/probe/take/ones?mark=kept&effect=commit", &json!({})).await.refused(402, "INSUFFICIENT");
    anna.get("/probe/state/dropped").await.refused(404, "NOT_FOUND");
    assert_eq!(value_of(&anna, "kept").await, "marked");
}

async fn a_value_that_is_no_counter_is_told_so(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    put(&anna, "word", "seven").await;
    put(&anna, "most", "9223372036854775807").await;
    for path in ["/probe/take/word", "/probe/add/word", "/probe/add/most"] {
        anna.post(path, &json!({})).await.refused(409, "NOT_A_COUNTER");
    }
    assert_eq!(value_of(&anna, "word").await, "seven");
    assert_eq!(value_of(&anna, "most").await, "9223372036854775807");
}

async fn a_read_leaves_no_trace(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    put(&anna, "x", "of anna").await;
    assert_eq!(test.audit(&anna, "cell.call").await.len(), 1, "the write");
    anna.get("/probe/context").await.done(200);
    anna.get("/probe/list").await.done(200);
    assert_eq!(test.audit(&anna, "cell.call").await.len(), 1, "a route that only reads");
    anna.get("/probe/pair").await.done(200);
    assert_eq!(value_of(&anna, "x").await, "of anna");
    assert_eq!(test.audit(&anna, "cell.call").await.len(), 1, "a successful read, also where the route can write");
}

async fn tenants_have_state_of_their_own(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let bert = test.tenant("bolt").await;
    let olga = test.owner().await;
    put(&anna, "secret", "of anna").await;
    for stranger in [&bert, &olga] {
        stranger.get("/probe/state/secret").await.refused(404, "NOT_FOUND");
        stranger.delete("/probe/state/secret").await.done(204);
        assert_eq!(stranger.get("/probe/list").await.expect(200)["data"], json!([]));
    }
    put(&bert, "secret", "of bert").await;
    assert_eq!(value_of(&anna, "secret").await, "of anna");
    assert_eq!(value_of(&bert, "secret").await, "of bert");
    // What a client says about the tenant is not heard.
    let liar = anna.with_header("x-tenant-id", &bert.tenant_id).with_header("x-user-sub", &bert.id);
    assert_eq!(value_of(&liar, "secret").await, "of anna");
    let context = liar.get("/probe/context").await.expect(200);
    assert_eq!((text(&context["tenant"]), text(&context["user"])), (anna.tenant_id.as_str(), anna.id.as_str()));
    let headers = context["headers"].to_string();
    assert!(!headers.contains(&bert.tenant_id) && !headers.contains(&bert.id), "{headers}");
    assert!(!headers.contains("authorization") && !headers.contains("Bearer"), "{headers}");
    bert.post("/probe/stage-then/reply", &json!({})).await.done(200);
    assert_eq!(Traces::of(&test, &anna, &["probe"]).await.events, Vec::<String>::new());
    assert_eq!(Traces::of(&test, &bert, &["probe"]).await.events.len(), 1);
}

async fn without_a_tenant_there_is_no_state(test: TestKernel) {
    let guarded =
        |route: &str, methods: &str| format!("route = \"{route}\"\nmethods = [{methods}]\npermission = \"probe.use\"");
    let mut open = patient_probe();
    for (route, methods) in [("/probe/state/{key}", "\"GET\", \"PUT\", \"DELETE\""), (STAGE, "\"POST\"")] {
        let guarded = guarded(route, methods);
        open = open.with(&guarded, &guarded.replace("probe.use", "public"));
    }
    open.install(&test.owner().await).await;
    let anna = test.tenant("acme").await;
    let nobody = test.anonymous().with_header("idempotency-key", "k");
    nobody.get("/probe/state/x").await.refused(401, "UNAUTHENTICATED");
    nobody.put("/probe/state/x", &json!(1)).await.refused(401, "UNAUTHENTICATED");
    nobody.post("/probe/stage-then/reply", &json!({})).await.refused(401, "UNAUTHENTICATED");
    put(&anna, "x", "with a token").await;
    assert_eq!(value_of(&anna, "x").await, "with a token");
    nobody.get("/probe/state/x").await.refused(401, "UNAUTHENTICATED");
    nobody.get("/probe/context").await.refused(401, "UNAUTHENTICATED");
}
