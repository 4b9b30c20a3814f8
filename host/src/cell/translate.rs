//! HTTP ⇄ WIT: which headers reach a cell, what a reply's effect is, and how it becomes an HTTP reply.

use axum::body::Body;
use axum::response::Response as HttpResponse;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::binding::{Effect, Response};
use crate::context::Context;

/// Set by the host; what a client or a caller sent under these names is dropped.
const HOST_HEADERS: [&str; 5] = ["x-tenant-id", "x-user-sub", "x-correlation-id", "x-forwarded-for", "traceparent"];

/// Of one connection only (RFC 9110, section 7.6.1), and the credentials, which are the kernel's business.
const DROPPED_HEADERS: [&str; 12] = [
    "authorization",
    "connection",
    "cookie",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-api-key",
];

/// Set by the kernel alone on a reply of a cell.
fn kernels_own(name: &str) -> bool {
    const NAMES: [&str; 9] = [
        "content-length",
        "content-security-policy",
        "cross-origin-resource-policy",
        "date",
        "idempotency-replayed",
        "referrer-policy",
        "strict-transport-security",
        "x-content-type-options",
        "x-frame-options",
    ];
    NAMES.contains(&name) || name.starts_with("access-control-")
}

/// The headers of a client as a cell sees them.
#[must_use]
pub fn request_headers(headers: &HeaderMap, context: &Context) -> Vec<(String, String)> {
    let hops: Vec<&str> = headers
        .get_all(http::header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(',').map(str::trim))
        .collect();
    let mut given = Vec::with_capacity(headers.len() + HOST_HEADERS.len());
    for (name, value) in headers {
        let name = name.as_str();
        // A header that is not UTF-8 has no meaning that a cell could rely on.
        if let Ok(value) = value.to_str()
            && crosses(name)
            && !hops.iter().any(|hop| hop.eq_ignore_ascii_case(name))
        {
            given.push((name.to_owned(), value.to_owned()));
        }
    }
    with_own_headers(given, context)
}

/// The headers of a caller as its callee sees them.
#[must_use]
pub fn forwarded_headers(mut headers: Vec<(String, String)>, context: &Context) -> Vec<(String, String)> {
    headers.retain(|(name, _)| crosses(name));
    with_own_headers(headers, context)
}

/// Whether a header may go from one side to the other as it was given.
fn crosses(name: &str) -> bool {
    !HOST_HEADERS.iter().chain(&DROPPED_HEADERS).any(|held| held.eq_ignore_ascii_case(name))
}

fn with_own_headers(mut headers: Vec<(String, String)>, context: &Context) -> Vec<(String, String)> {
    headers.push(("x-correlation-id".into(), context.correlation.to_string()));
    headers.push(("x-forwarded-for".into(), context.client.to_string()));
    if let Some(tenant) = context.actor.tenant() {
        headers.push(("x-tenant-id".into(), tenant.to_string()));
    }
    if let Some(user) = context.actor.user() {
        headers.push(("x-user-sub".into(), user.to_string()));
    }
    if let Some(trace) = &context.traceparent {
        headers.push(("traceparent".into(), trace.clone()));
    }
    headers
}

/// Whether a reply commits what its call staged.
#[must_use]
pub fn commits(response: &Response) -> bool {
    match response.effect {
        _ if response.status >= 500 => false,
        Effect::ByStatus => response.status < 400,
        Effect::Commit => true,
        Effect::Discard => false,
    }
}

/// The HTTP reply of a cell's answer. Names and values were checked when the cell answered.
#[must_use]
pub fn http_response(status: u16, headers: &[(String, String)], body: impl Into<Body>) -> HttpResponse {
    let mut response = HttpResponse::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    for (name, value) in headers {
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) else {
            continue;
        };
        if crosses(name.as_str()) && !kernels_own(name.as_str()) {
            response.headers_mut().append(name, value);
        }
    }
    response
}
