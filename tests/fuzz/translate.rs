//! HTTP ⇄ WIT: what a client sends as a cell sees it, and what a cell answers as a client sees it. The input is lines of
//! headers, an empty line and a body; its first two bytes are the status of an answer.
#![no_main]

use std::sync::LazyLock;

use aibos::cell::binding::{Effect, Request, Response};
use aibos::cell::{invoke, proxy, translate};
use aibos::clock::Clock;
use aibos::context::Context;
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

static OPERATOR: LazyLock<Context> = LazyLock::new(|| Context::operator(&Clock::manual(Timestamp::UNIX_EPOCH)));

/// What no cell and no client may see of the other.
const NEVER: [&str; 7] =
    ["authorization", "cookie", "connection", "te", "transfer-encoding", "upgrade", "proxy-authorization"];

fuzz_target!(|input: &[u8]| {
    let Some(([high, low], rest)) = input.split_first_chunk::<2>() else { return };
    let end = rest.windows(2).position(|two| two == b"\n\n").unwrap_or(rest.len());
    let (head, body) = (&rest[..end], rest.get(end + 2..).unwrap_or_default());
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let fields: Vec<(&[u8], &[u8])> = lines
        .map(|line| line.split_at(line.iter().position(|byte| *byte == b':').unwrap_or(line.len())))
        .map(|(name, value)| (name, value.get(1..).unwrap_or_default()))
        .collect();
    asks(first, &fields, body);
    answers(u16::from_be_bytes([*high, *low]), &fields, body);
});

/// A client asks a cell; a cell asks another.
fn asks(line: &[u8], fields: &[(&[u8], &[u8])], body: &[u8]) {
    let mut sent = HeaderMap::new();
    for (name, value) in fields {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            sent.append(name, value);
        }
    }
    let seen = translate::request_headers(&sent, &OPERATOR);
    let count = |wanted: &str| seen.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).count();
    assert!(NEVER.iter().all(|name| count(name) == 0));
    assert_eq!([count("x-correlation-id"), count("x-forwarded-for"), count("x-tenant-id")], [1, 1, 0]);
    assert_eq!(translate::forwarded_headers(seen.clone(), &OPERATOR).len(), seen.len(), "forwarding adds nothing");

    let line = String::from_utf8_lossy(line);
    let (method, target) = line.split_once(' ').unwrap_or(("GET", &line));
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query.to_owned())));
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query,
        // What another cell wrote; it was never HTTP.
        headers: fields.iter().map(|(name, value)| (lossy(name), lossy(value))).collect(),
        body: body.to_vec(),
    };
    if let Ok(incoming) = proxy::incoming(request) {
        assert!(incoming.uri().authority().is_some());
    }
}

/// A cell answers.
fn answers(status: u16, fields: &[(&[u8], &[u8])], body: &[u8]) {
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers: Vec<(String, String)> = fields.iter().map(|(name, value)| (lossy(name), lossy(value))).collect();
    for effect in [Effect::ByStatus, Effect::Commit, Effect::Discard] {
        let response = Response { status, headers: headers.clone(), body: body.to_vec(), effect };
        let commits = translate::commits(&response);
        assert!(!commits || status < 500, "a failure commits nothing");
        if invoke::check_response(&response, 64 * 1024).is_ok() {
            let reply = translate::http_response(status, &response.headers, response.body.clone());
            assert_eq!(reply.status().as_u16(), status);
            assert!(NEVER.iter().all(|name| !reply.headers().contains_key(*name)));
            assert!(!reply.headers().contains_key("content-length") && !reply.headers().contains_key("x-tenant-id"));
        }
    }
}
