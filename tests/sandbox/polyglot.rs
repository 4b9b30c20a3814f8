//! Cells that know nothing of this host, built by other languages' own tools for the standard HTTP world, run as they are.
//! Their toolchains are large, so these tests belong to `tests/run --all`.

use serde_json::{Value, json};
use suite::cell::Guest;
use suite::database::Backend;
use suite::kernel::{TestKernel, text};

use super::traces::{audited, report_of};

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
