//! A component of the standard world, built for any host of WASI 0.2, runs behind the same doors and inside the same walls
//! as a cell of our own world.

use std::io::ErrorKind;
use std::net::TcpListener;

use http::Method;
use serde_json::{Value, json};
use suite::actor::Actor;
use suite::cell::Guest;
use suite::kernel::{TestKernel, text};

use super::traces::{Traces, audited, report_of};
use super::variant::patient_probe;

on_both_kernels!(
    it_answers_behind_its_permission,
    each_limit_ends_it,
    its_status_decides_what_commits,
    a_typed_cell_calls_it,
    nothing_is_granted,
    the_outside_is_refused,
);

/// Anna, who owns the tenant `acme`, at a kernel with the proxy.
async fn anna_with_a_proxy(test: &TestKernel) -> Actor {
    Guest::proxy().install(&test.owner().await).await;
    test.tenant("acme").await
}

/// The values of a header as the cell saw them.
fn seen<'a>(echo: &'a Value, name: &str) -> Vec<&'a str> {
    let headers = echo["headers"].as_array().unwrap().iter();
    headers.filter(|header| header[0] == name).map(|header| text(&header[1])).collect()
}

async fn it_answers_behind_its_permission(test: TestKernel) {
    let anna = anna_with_a_proxy(&test).await;
    test.anonymous().get("/proxy/do/echo").await.refused(401, "UNAUTHENTICATED");
    let mark = test.user(&anna, "mark", &["acme.other"]).await;
    let refused = mark.get("/proxy/do/echo").await.refused(403, "FORBIDDEN");
    assert_eq!(refused["missing_permissions"], json!(["proxy.use"]));
    test.anonymous().get("/proxy/public/echo").await.done(200);

    let mira = test.user(&anna, "mira", &["proxy.use"]).await;
    let forger = mira.with_header("x-tenant-id", "forged").with_header("x-asked", "so").with_header("te", "trailers");
    let reply = forger.send_text(Method::PUT, "/proxy/do/echo?a=1&b=%20", Some("hello".into())).await;
    let echo = reply.clone().expect(200);
    assert_eq!((text(&echo["method"]), text(&echo["path"])), ("PUT", "/proxy/do/echo?a=1&b=%20"));
    assert_eq!(echo["body"], "hello");
    assert_eq!(format!("http://{}", text(&echo["authority"])), test.url());
    assert_eq!(seen(&echo, "x-tenant-id"), [anna.tenant_id.as_str()]);
    assert_eq!(seen(&echo, "x-user-sub"), [mira.id.as_str()]);
    assert_eq!(seen(&echo, "x-correlation-id"), [reply.header("x-correlation-id")]);
    assert_eq!(seen(&echo, "x-asked"), ["so"]);
    assert_eq!((seen(&echo, "authorization").len(), seen(&echo, "te").len()), (0, 0));
    assert_eq!(reply.header("content-type"), "application/json");

    let entries = audited(&anna, &reply).await;
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!((text(&entries[0]["action"]), text(&entries[0]["outcome"])), ("cell.call", "success"));
    assert_eq!(entries[0]["actor"], json!({ "type": "user", "id": mira.id }));
    assert_eq!(text(&entries[0]["cell"]["name"]), "proxy");
}

async fn each_limit_ends_it(test: TestKernel) {
    let anna = anna_with_a_proxy(&test).await;
    let olga = test.owner().await;
    for (path, status, code, outcome) in [
        ("loop", 503, "FUEL_EXHAUSTED", "fuel_exhausted"),
        ("eat", 503, "MEMORY_EXCEEDED", "memory_exceeded"),
        ("trap", 503, "CELL_TRAPPED", "trapped"),
        ("answer-then-trap", 503, "CELL_TRAPPED", "trapped"),
        ("flood", 502, "OUTPUT_EXCEEDED", "output_exceeded"),
        ("silent", 502, "BAD_RESPONSE", "bad_response"),
        ("kept", 502, "BAD_RESPONSE", "bad_response"),
        ("error", 502, "BAD_RESPONSE", "bad_response"),
        ("unfinished", 502, "BAD_RESPONSE", "bad_response"),
        ("status?199", 502, "BAD_RESPONSE", "bad_response"),
    ] {
        let reply = anna.post(&format!("/proxy/do/{path}"), &json!({})).await;
        reply.clone().refused(status, code);
        let entries = audited(&anna, &reply).await;
        assert_eq!(entries.len(), 1, "{path}: {entries:?}");
        assert_eq!((text(&entries[0]["outcome"]), text(&entries[0]["details"]["outcome"])), ("failure", outcome));
        let report = report_of(&olga.get("/api/v1/cells/proxy/traps").await.expect(200), &reply);
        assert_eq!(report["kind"], outcome, "{path}");
    }
    let hurried = Guest::proxy().with("timeout_ms = 30000", "timeout_ms = 200").version("1.0.1");
    hurried.install(&olga).await;
    anna.post("/proxy/do/sleep", &json!({})).await.refused(504, "CELL_TIMEOUT");
    Guest::proxy().version("1.0.2").install(&olga).await;
    olga.post("/api/v1/chaos/fail/proxy", &Value::Null).await.done(201);
    anna.post("/proxy/do/echo", &json!({})).await.refused(503, "CELL_TRAPPED");
    olga.post("/api/v1/chaos/recover/proxy", &Value::Null).await.done(200);
    anna.post("/proxy/do/echo", &json!({})).await.done(200);
}

async fn its_status_decides_what_commits(test: TestKernel) {
    let anna = anna_with_a_proxy(&test).await;
    anna.post("/proxy/do/state?402", &json!({})).await.done(402);
    anna.post("/proxy/do/state?503", &json!({})).await.done(503);
    anna.post("/proxy/do/state?500", &json!({})).await.refused(503, "CELL_FAILED");
    assert_eq!(Traces::of(&test, &anna, &["proxy"]).await, Traces::default());
    assert_eq!(anna.post("/proxy/do/state?201", &json!({})).await.expect(201), json!({ "staged": true }));
    assert_eq!(Traces::of(&test, &anna, &["proxy"]).await.state, [("proxy/key".to_owned(), "201".to_owned())]);

    let ungranted = Guest::proxy().with("state = true\n", "").version("1.0.1");
    let problem = ungranted.upload(&test.owner().await, "").await.refused(422, "CELL_REJECTED");
    assert_eq!(problem["reasons"][0]["code"], "DENIED_CAPABILITY");
}

async fn a_typed_cell_calls_it(test: TestKernel) {
    let anna = anna_with_a_proxy(&test).await;
    let olga = test.owner().await;
    patient_probe().with("calls = [\"probe-callee\"]", "calls = [\"proxy\"]").install(&olga).await;
    let errand = |path: &str| json!({ "cell": "proxy", "method": "POST", "path": format!("/proxy/call/{path}") });
    let answer = anna.post("/probe/call", &errand("echo")).await.expect(200);
    assert_eq!((text(&answer["outcome"]), &answer["status"]), ("replied", &json!(200)));
    assert_eq!(seen(&answer["body"], "x-tenant-id"), [anna.tenant_id.as_str()]);
    let answer = anna.post("/probe/call", &errand("trap")).await.expect(200);
    assert_eq!((text(&answer["outcome"]), text(&answer["error"])), ("error", "trapped"));
    let health = anna.get("/probe/health-of/proxy").await;
    assert_eq!(health.status, 200, "{}", health.text);
    assert!(health.text.contains("healthy"), "{}", health.text);
}

async fn nothing_is_granted(test: TestKernel) {
    let anna = anna_with_a_proxy(&test).await;
    let world = anna.get("/proxy/do/world").await.expect(200);
    let expected = json!({
        "arguments": 0, "environment": 0, "input": 0, "file": false, "new file": false, "folder": false,
        "connection": false, "listener": false, "datagrams": false, "name": false, "output": true,
    });
    assert_eq!(world, expected);
}

async fn the_outside_is_refused(test: TestKernel) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let listed =
        format!("\"http://localhost:{port}\", \"http://127.0.0.1:{port}\", \"http://[::ffff:127.0.0.1]:{port}\"");
    Guest::proxy().with("\"http://localhost:1\"", &listed).install(&test.owner().await).await;
    let anna = test.tenant("acme").await;
    for (target, error) in [
        (format!("http/localhost:{port}/"), "DestinationIpProhibited"),
        (format!("http/127.0.0.1:{port}/rates?at=noon"), "DestinationIpProhibited"),
        (format!("http/[::ffff:127.0.0.1]:{port}/"), "DestinationIpProhibited"),
        (format!("https/localhost:{port}/"), "HttpRequestDenied"),
        ("http/localhost/".to_owned(), "HttpRequestDenied"),
        (format!("http/localhost.:{port}/"), "HttpRequestDenied"),
        (format!("http/127.1:{port}/"), "HttpRequestDenied"),
        ("https/rates.example.com/".to_owned(), "HttpRequestDenied"),
        (format!("http/anna@localhost:{port}/"), "HttpRequestUriInvalid"),
    ] {
        let answer = anna.get(&format!("/proxy/do/outbound?{target}")).await.expect(200);
        assert!(text(&answer["error"]).contains(error), "{target}: {answer}");
    }
    let nobody = listener.accept().map(|_| ()).map_err(|cause| cause.kind());
    assert_eq!(nobody, Err(ErrorKind::WouldBlock), "no connection was made");

    for bad in ["https://rates.example.com/eur", "rates.example.com", "ftp://rates.example.com"] {
        let guest = Guest::proxy().with("http://localhost:1", bad).version("1.0.9");
        let problem = guest.upload(&test.owner().await, "").await.refused(422, "CELL_REJECTED");
        assert!(text(&problem["reasons"][0]["message"]).contains("must be an origin like"), "{problem}");
    }
}
