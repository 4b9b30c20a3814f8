//! Cells in other languages, built by their own tools: for the standard HTTP world, where they know nothing of this host,
//! and for the typed world, where they use its state. Their toolchains are large, so these tests belong to `tests/run --all`.

use http::Method;
use serde_json::{Value, json};
use suite::cell::Guest;
use suite::database::Backend;
use suite::kernel::{TestKernel, text};

use super::traces::{Traces, audited, report_of};

/// A call that the host has to end.
struct End {
    path: &'static str,
    code: &'static str,
    outcome: &'static str,
}

/// Installs the cell of a language; it answers whoever may ask, and what goes wrong in it stays in it.
async fn runs(language: &str, name: &str, ends: &[End]) {
    // A cell of any language is the same to the database.
    let test = TestKernel::start(Backend::Sqlite).await;
    let olga = test.owner().await;
    Guest::polyglot(language).install(&olga).await;
    let anna = test.tenant("acme").await;
    let path = format!("/cells/{language}/greet?of=anna");
    test.anonymous().post(&path, &json!({})).await.refused(401, "UNAUTHENTICATED");
    let mark = test.user(&anna, "mark", &["acme.other"]).await;
    mark.post(&path, &json!({})).await.refused(403, "FORBIDDEN");

    let greets = async || {
        let reply = anna.post(&path, &json!({ "hello": "cell" })).await;
        let answer = reply.clone().expect(200);
        let body = answer["body"].as_str().and_then(|body| serde_json::from_str::<Value>(body).ok());
        assert_eq!(body, Some(json!({ "hello": "cell" })));
        assert_eq!((text(&answer["language"]), text(&answer["method"])), (name, "POST"));
        assert_eq!((text(&answer["path"]), text(&answer["tenant"])), ("/greet?of=anna", anna.tenant_id.as_str()));
        let entries = audited(&anna, &reply).await;
        assert_eq!((entries.len(), text(&entries[0]["outcome"])), (1, "success"));
    };
    greets().await;
    for End { path, code, outcome } in ends {
        let reply = anna.post(&format!("/cells/{language}{path}"), &json!({})).await;
        reply.clone().refused(503, code);
        let report = report_of(&olga.get(&format!("/api/v1/cells/{language}/traps")).await.expect(200), &reply);
        assert_eq!(report["kind"], *outcome, "{report}");
        greets().await;
    }
}

/// Installs the counter of a language, built for the typed world, beside a neighbour. Its state is kept with a good answer,
/// and dropped with a refusal, an exception and an exhausted limit, which the neighbour does not notice.
async fn counts(language: &str, name: &str) {
    let test = TestKernel::start(Backend::Sqlite).await;
    let olga = test.owner().await;
    Guest::probe().install(&olga).await;
    let (cell, guest) = (format!("counter-{language}"), Guest::polyglot(&format!("counter-{language}")));
    guest.upload(&olga, "").await.done(201);
    let anna = test.tenant("acme").await;
    let path = format!("/{cell}");
    anna.get(&path).await.refused(404, "NOT_FOUND");
    let (api, version) = (format!("/api/v1/cells/{cell}"), json!({ "version": "1.0.0" }));
    olga.post(&format!("{api}/activate"), &version).await.done(200);
    test.anonymous().get(&path).await.refused(401, "UNAUTHENTICATED");
    let mark = test.user(&anna, "mark", &["acme.other"]).await;
    mark.post(&path, &json!({ "by": 1 })).await.refused(403, "FORBIDDEN");

    assert_eq!(anna.get(&path).await.expect(200), json!({ "language": name, "count": 0 }));
    let mut used = 0;
    for (by, count) in [(40, 40), (2, 42)] {
        let reply = anna.post(&path, &json!({ "by": by })).await;
        assert_eq!(reply.clone().expect(200), json!({ "language": name, "count": count }));
        assert_eq!(reply.header("content-type"), "application/json");
        let entries = audited(&anna, &reply).await;
        assert_eq!((entries.len(), text(&entries[0]["outcome"])), (1, "success"));
        used = entries[0]["receipt"]["fuel_used"].as_u64().expect("a receipt");
    }
    let logs = olga.get(&format!("{api}/logs")).await.expect(200);
    let lines: Vec<&str> = logs["data"].as_array().unwrap().iter().map(|line| text(&line["message"])).collect();
    assert_eq!(lines, ["counted to 42", "counted to 40"]);
    let bert = test.tenant("other").await;
    assert_eq!(bert.get(&path).await.expect(200)["count"], 0);

    let holds = async || {
        let kept = Traces::of(&test, &anna, &[&cell]).await;
        assert_eq!(kept.state, [(format!("{cell}/count"), "42".to_owned())]);
        test.anonymous().get("/probe/ping").await.done(200);
    };
    for body in [r#"{"by":0}"#, r#"{"by":-1}"#, r#"{"by":1.5}"#, r#"{"by":"1"}"#, r#"{"of":1}"#, "[]", "{", ""] {
        let refused = anna.send_text(Method::POST, &path, Some(body.to_owned())).await.expect(400);
        assert!(text(&refused["error"]).starts_with("send "), "{body}: {refused}");
    }
    let full = anna.post(&path, &json!({ "by": 959 })).await.expect(409);
    assert_eq!(full, json!({ "error": "the counter ends at 1000" }));
    holds().await;

    let reply = anna.post(&format!("{path}/fail"), &json!({ "by": 1 })).await;
    reply.clone().refused(503, "CELL_TRAPPED");
    let report = report_of(&olga.get(&format!("{api}/traps")).await.expect(200), &reply);
    assert_eq!(report["kind"], "trapped", "{report}");
    holds().await;

    let fuel = guest.manifest.lines().find(|line| line.starts_with("fuel")).expect("the manifest names its fuel");
    let halved = guest.clone().with(fuel, &format!("fuel = {}", used / 2)).version("1.0.1");
    halved.install(&olga).await;
    anna.post(&path, &json!({ "by": 1 })).await.refused(503, "FUEL_EXHAUSTED");
    holds().await;
    olga.post(&format!("{api}/rollback"), &json!({})).await.done(200);
    assert_eq!(anna.post(&path, &json!({ "by": 1 })).await.expect(200)["count"], 43);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn javascript_runs() {
    let memory = End { path: "/eat", code: "MEMORY_EXCEEDED", outcome: "memory_exceeded" };
    let fuel = End { path: "/loop", code: "FUEL_EXHAUSTED", outcome: "fuel_exhausted" };
    Box::pin(runs("javascript", "JavaScript", &[memory, fuel])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_runs() {
    let trap = End { path: "/trap", code: "CELL_TRAPPED", outcome: "trapped" };
    Box::pin(runs("python", "Python", &[trap])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_runs() {
    let trap = End { path: "/trap", code: "CELL_TRAPPED", outcome: "trapped" };
    let fuel = End { path: "/loop", code: "FUEL_EXHAUSTED", outcome: "fuel_exhausted" };
    Box::pin(runs("c", "C", &[trap, fuel])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn javascript_counts() {
    Box::pin(counts("javascript", "JavaScript")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_counts() {
    Box::pin(counts("python", "Python")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_counts() {
    Box::pin(counts("c", "C")).await;
}
