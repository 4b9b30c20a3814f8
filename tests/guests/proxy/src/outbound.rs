//! Look-ups at servers outside, and what becomes of their answers.

use serde_json::{Value, json};
use wasip2::http::outgoing_handler;
use wasip2::http::types::{Fields, IncomingResponse, OutgoingRequest, Scheme, http_error_code};
use wasip2::io::streams::StreamError;

use crate::host::aibos::cell::state;

/// Asks `SCHEME/AUTHORITY/PATH`; answers what came back, or the error.
pub(crate) fn ask(target: &str) -> Value {
    let mut parts = target.splitn(3, '/');
    let request = OutgoingRequest::new(Fields::new());
    let scheme = if parts.next() == Some("https") { Scheme::Https } else { Scheme::Http };
    request.set_scheme(Some(&scheme)).expect("a scheme");
    let authority = parts.next().unwrap_or_default();
    if request.set_authority(Some(authority)).is_err() {
        return json!({ "error": "authority" });
    }
    let path = format!("/{}", parts.next().unwrap_or_default());
    request.set_path_with_query(Some(&path)).expect("a path");
    let pending = match outgoing_handler::handle(request, None) {
        Ok(pending) => pending,
        Err(error) => return json!({ "error": format!("{error:?}") }),
    };
    pending.subscribe().block();
    match pending.get() {
        Some(Ok(Ok(response))) => answered(&response),
        Some(Ok(Err(error))) => json!({ "error": format!("{error:?}") }),
        Some(Err(())) | None => json!({ "error": "nothing" }),
    }
}

fn answered(response: &IncomingResponse) -> Value {
    let location = response.headers().get("location").into_iter().next();
    let body = response.consume().expect("the body is there once");
    let stream = body.stream().expect("its stream is there once");
    let (mut bytes, mut begin, mut broken) = (0, Vec::new(), None);
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(some) => {
                bytes += some.len();
                begin.extend(some.into_iter().take(100 - begin.len().min(100)));
            }
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => {
                broken = Some(format!("{:?}", http_error_code(&error)));
                break;
            }
        }
    }
    json!({
        "status": response.status(),
        "location": location.map(|value| String::from_utf8_lossy(&value).into_owned()),
        "bytes": bytes,
        "body": String::from_utf8_lossy(&begin),
        "broken": broken,
    })
}

/// Reads what it stored last, asks, and stores the answer: wrong if somebody else stored something meanwhile.
pub(crate) fn remember(target: &str) -> Value {
    let before = state::get("key").expect("the state can be read");
    let answer = ask(target);
    state::put("key", answer["body"].as_str().unwrap_or_default().as_bytes()).expect("the state can be written");
    json!({ "before": before.map(|value| String::from_utf8_lossy(&value).into_owned()), "now": answer["body"] })
}

/// Asks until the host has had enough.
pub(crate) fn crawl(target: &str) -> Value {
    loop {
        ask(target);
    }
}
