//! What WASI gives, taken without end: handles, random bytes, clocks, waits, lines. Each guest first stages a write; it ends
//! with its documented code, the host lives, the neighbour answers as before, and nothing is written.

use serde_json::json;
use suite::cell::Guest;
use suite::kernel::{TestKernel, text};

use super::traces::{Traces, audited};
use super::variant::patient_probe;

on_both_kernels!(every_taker_is_stopped, a_call_of_wasi_is_a_host_call);

/// The status, the code and the limit that end each.
const ENDS: [(&str, u16, &str, Option<&str>); 22] = [
    ("fields", 503, "LIMIT_EXCEEDED", Some("resources")),
    ("requests", 503, "LIMIT_EXCEEDED", Some("resources")),
    ("responses", 503, "LIMIT_EXCEEDED", Some("resources")),
    ("bodies", 503, "LIMIT_EXCEEDED", Some("resources")),
    ("streams", 503, "LIMIT_EXCEEDED", Some("resources")),
    ("pollables", 503, "LIMIT_EXCEEDED", Some("resources")),
    ("subscriptions", 503, "LIMIT_EXCEEDED", Some("resources")),
    ("copies", 503, "LIMIT_EXCEEDED", Some("resources")),
    // The host refuses the header, and the guest panics about it.
    ("header", 503, "CELL_TRAPPED", None),
    ("much-random", 503, "CELL_TRAPPED", None),
    ("nothing", 503, "CELL_TRAPPED", None),
    ("random", 503, "LIMIT_EXCEEDED", Some("host_calls")),
    ("insecure", 503, "LIMIT_EXCEEDED", Some("host_calls")),
    ("clock", 503, "LIMIT_EXCEEDED", Some("host_calls")),
    ("wall-clock", 503, "LIMIT_EXCEEDED", Some("host_calls")),
    ("environment", 503, "LIMIT_EXCEEDED", Some("host_calls")),
    ("poll", 503, "LIMIT_EXCEEDED", Some("host_calls")),
    ("ready", 503, "LIMIT_EXCEEDED", Some("host_calls")),
    ("print", 503, "LIMIT_EXCEEDED", Some("host_calls")),
    ("print-raw", 503, "LIMIT_EXCEEDED", Some("host_calls")),
    ("block", 504, "CELL_TIMEOUT", None),
    ("wait", 504, "CELL_TIMEOUT", None),
];

/// The proxy with fuel for hours, so that something else must end it.
fn lavish_proxy() -> Guest {
    Guest::proxy().with("fuel = 50_000_000", "fuel = 10_000_000_000")
}

async fn every_taker_is_stopped(test: TestKernel) {
    let olga = test.owner().await;
    patient_probe().install(&olga).await;
    lavish_proxy().install(&olga).await;
    let anna = test.tenant("acme").await;
    anna.put("/probe/state/kept", &json!("as it was")).await.done(204);
    let mut wrong = Vec::new();
    for (what, status, code, limit) in ENDS {
        if status == 504 {
            lavish_proxy().version("1.0.1").with("timeout_ms = 30000", "timeout_ms = 300").install(&olga).await;
        }
        let reply = anna.post(&format!("/proxy/do/take?{what}"), &json!({})).await;
        let ended = (reply.status, reply.json["code"].as_str(), reply.json["limit"].as_str());
        if ended != (status, Some(code), limit) {
            wrong.push(format!("{what}: {ended:?} {}", reply.text));
        }
        assert_eq!(anna.get("/probe/state/kept").await.json, "as it was", "after {what}");
        assert_eq!(Traces::of(&test, &anna, &["proxy"]).await, Traces::default(), "{what} wrote nothing");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let lines = olga.get("/api/v1/cells/proxy/logs?limit=200").await.expect(200)["data"].as_array().unwrap().len();
    assert!(lines > 0, "what was printed before the limit is in the log");
    test.anonymous().get("/livez").await.done(200);
}

async fn a_call_of_wasi_is_a_host_call(test: TestKernel) {
    lavish_proxy().install(&test.owner().await).await;
    let anna = test.tenant("acme").await;
    let counted = async |path: &str| {
        let reply = anna.post(path, &json!({})).await;
        audited(&anna, &reply).await[0]["receipt"].clone()
    };
    let receipt = counted("/proxy/do/state?201").await;
    assert_eq!(receipt["host_calls"]["state"], 1, "{receipt}");
    let few = receipt["host_calls"]["wasi"].as_u64().unwrap();
    assert!((5..100).contains(&few), "a request and a reply are a few calls: {receipt}");
    let receipt = counted("/proxy/do/take?clock").await;
    assert_eq!(text(&receipt["outcome"]), "limit_exceeded", "{receipt}");
    assert!(receipt["host_calls"]["wasi"].as_u64().unwrap() > 9_999, "{receipt}");
}
