//! What every request passes, whoever answers it: correlation id, authentication, the body within its limit, a task of its
//! own so that a client that hangs up cancels nothing, audit of denials, security headers and metrics.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams};
use axum::response::Response;
use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{AUTHORIZATION, HeaderName, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use memchr::memmem;
use metrics::SharedString;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::input::{Raw, is_json};
use super::measure;
use super::operation::Route;
use super::problem::{Code, Problem};
use crate::audit::{Outcome, Party};
use crate::auth::actor::Actor;
use crate::context::Context;
use crate::id::CorrelationId;
use crate::kernel::Kernel;
use crate::limit;
use crate::rbac::permit::{Access, Denied, Rule};

/// The correlation id's header.
pub const CORRELATION: HeaderName = HeaderName::from_static("x-correlation-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// An authenticated request before its body is read.
#[derive(Debug)]
pub struct Caller {
    /// Who, when, which request.
    pub context: Context,
    /// What the actor may do; none without a token.
    pub access: Option<Arc<Access>>,
}

/// Answers a request of the control plane.
pub async fn operation(kernel: Arc<Kernel>, route: Arc<Route>, request: Request<Body>) -> Response {
    let label = SharedString::const_str(route.path);
    enveloped(kernel, label, request, async move |kernel, caller, mut parts, body| {
        permit(&kernel, &caller, route.rule, route.name).await?;
        let body = body.read(route.body_bytes_max).await?;
        own_tenant_only(&kernel, &caller.context, &parts.headers, &body).await?;
        let body = if is_json(&parts.headers) { without_tenant(body) } else { body };
        let path: Vec<(String, String)> = RawPathParams::from_request_parts(&mut parts, &())
            .await
            .map_err(|_| Problem::invalid("/path", "must be valid percent-encoded UTF-8"))?
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        if query.contains("%00") || path.iter().any(|(_, value)| value.contains('\0')) {
            return Err(Problem::invalid("", "the path and the query must not hold the character U+0000"));
        }
        let raw = Arc::new(Raw { path, query, headers: parts.headers, body });
        let Caller { context, access } = caller;
        let answer = route.run(&kernel, &context, access, raw).await;
        if let Err(problem) = &answer {
            audit_denial(&kernel, &context, route.name, problem).await?;
        }
        answer
    })
    .await
}

/// Runs a request inside everything that all requests have in common. `label` is the template of its route, for the metrics.
pub async fn enveloped<F, R>(kernel: Arc<Kernel>, label: SharedString, request: Request<Body>, run: F) -> Response
where
    F: FnOnce(Arc<Kernel>, Caller, Parts, Incoming) -> R + Send + 'static,
    R: Future<Output = Result<Response, Problem>> + Send + 'static,
{
    let (parts, body) = request.into_parts();
    if let Some(reply) = preflight(&kernel, &parts) {
        return reply;
    }
    let body = Incoming(Some(body));
    let (exchange, given) = Exchange::begin(&kernel, label, &parts);
    let correlation = exchange.correlation;
    let task_kernel = Arc::clone(&kernel);
    let answer = match given {
        Err(problem) => Err(problem),
        #[expect(
            clippy::disallowed_methods,
            reason = "awaited on the next line; the task outlives a client that hangs up"
        )]
        Ok(()) => tokio::spawn(async move {
            let caller = authenticate(&task_kernel, &parts, correlation).await?;
            // In its own box: the task is moved several times, and most of what a request needs is in here.
            Box::pin(run(task_kernel, caller, parts, body)).await
        })
        .await
        .unwrap_or_else(|cause| Err(Problem::internal(cause))),
    };
    exchange.end(&kernel, answer)
}

/// Refuses a request before anything is done for it: with more of them than can be served, refusing must be cheap.
pub fn refuse(kernel: &Kernel, label: SharedString, request: Request<Body>, problem: Problem) -> Response {
    let (parts, body) = request.into_parts();
    if let Some(reply) = preflight(kernel, &parts) {
        return reply;
    }
    drop(Incoming(Some(body)));
    let (exchange, given) = Exchange::begin(kernel, label, &parts);
    exchange.end(kernel, Err(given.err().unwrap_or(problem)))
}

/// What is remembered of a request until its reply.
struct Exchange {
    started: Instant,
    label: SharedString,
    method: Method,
    path: String,
    origin: Option<HeaderValue>,
    correlation: CorrelationId,
}

impl Exchange {
    /// A request, and whether the correlation id that it chose is one.
    fn begin(kernel: &Kernel, label: SharedString, parts: &Parts) -> (Self, Result<(), Problem>) {
        let given = correlation(&parts.headers);
        let chosen = given.as_ref().ok().copied().flatten();
        let exchange = Self {
            started: Instant::now(),
            label,
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            origin: parts.headers.get(ORIGIN).cloned(),
            correlation: chosen.unwrap_or_else(|| CorrelationId::new(&kernel.clock)),
        };
        (exchange, given.map(|_| ()))
    }

    /// The reply, with what all replies have; it is counted.
    fn end(self, kernel: &Kernel, answer: Result<Response, Problem>) -> Response {
        let mut response = answer.unwrap_or_else(|problem| problem.render(&self.path, self.correlation));
        finish(kernel, response.headers_mut(), self.correlation, self.origin.as_ref());
        measure::answered(&self.method, self.label, response.status(), self.started.elapsed());
        response
    }
}

/// The answer to a browser that asks before a request from a listed origin (Fetch, section 4.8).
fn preflight(kernel: &Kernel, parts: &Parts) -> Option<Response> {
    const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
    const HEADERS: HeaderValue =
        HeaderValue::from_static("authorization, content-type, idempotency-key, x-correlation-id, traceparent");
    let origin = parts.headers.get(ORIGIN).filter(|origin| kernel.config.allows_origin(origin))?;
    if parts.method != Method::OPTIONS || !parts.headers.contains_key("access-control-request-method") {
        return None;
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert("access-control-allow-methods", METHODS);
    headers.insert("access-control-allow-headers", HEADERS);
    headers.insert("access-control-max-age", HeaderValue::from_static("600"));
    finish(kernel, headers, CorrelationId::new(&kernel.clock), Some(origin));
    Some(response)
}

/// The correlation id that the client chose, if any.
fn correlation(headers: &HeaderMap) -> Result<Option<CorrelationId>, Problem> {
    let Some(value) = headers.get(CORRELATION) else { return Ok(None) };
    value.to_str().ok().and_then(|text| text.parse().ok()).map(Some).ok_or_else(|| {
        Problem::new(
            Code::InvalidCorrelationId,
            "X-Correlation-Id must be a UUID, or absent: then the kernel makes one.",
        )
    })
}

async fn authenticate(kernel: &Kernel, parts: &Parts, correlation: CorrelationId) -> Result<Caller, Problem> {
    let actor = kernel.identity.authenticate(&kernel.storage, parts.headers.get(AUTHORIZATION)).await?;
    let access = kernel.directory.access(&kernel.storage, &actor).await?;
    // A token of a user or tenant that is gone or suspended is no better than none.
    let actor = if access.is_some() { actor } else { Actor::Anonymous };
    let client = parts.extensions.get::<SocketAddr>().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), SocketAddr::ip);
    let traceparent = parts.headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()).filter(|t| valid_trace(t));
    let context = Context {
        actor,
        correlation,
        traceparent: traceparent.map(str::to_owned),
        now: kernel.clock.now(),
        clock: kernel.clock.clone(),
        client: kernel.config.client_address(client, &parts.headers),
    };
    Ok(Caller { context, access })
}

/// Refuses, with its audit entry, a caller that the rule does not let through; before any body is read.
async fn permit(kernel: &Kernel, caller: &Caller, rule: Rule, target: &str) -> Result<(), Problem> {
    let denied = match (rule, &caller.access) {
        (Rule::SignedIn | Rule::Needs(..), None) => Denied::Unauthenticated,
        (Rule::Needs(permission, _), Some(access)) if !access.holds(permission) => Denied::Missing(permission.into()),
        (Rule::Public, _) | (Rule::SignedIn | Rule::Needs(..), Some(_)) => return Ok(()),
    };
    let problem = Problem::from(denied);
    audit_denial(kernel, &caller.context, target, &problem).await?;
    Err(problem)
}

/// Writes the `authz.deny` entry of a refusal, before its reply. Does nothing for other problems.
pub async fn audit_denial(kernel: &Kernel, context: &Context, target: &str, problem: &Problem) -> Result<(), Problem> {
    let Some(missing) = problem.extra.get("missing_permissions") else {
        if problem.code == Code::Unauthenticated {
            metrics::counter!("auth_failures_total", "reason" => "unauthenticated").increment(1);
        }
        return Ok(());
    };
    metrics::counter!("auth_failures_total", "reason" => "forbidden").increment(1);
    let mut entry = context.entry("authz.deny", Party::new("operation", target), Outcome::Denied);
    entry.details.insert("required_permissions".into(), missing.clone());
    entry.details.insert("missing_permissions".into(), missing.clone());
    kernel.record(entry).await?;
    Ok(())
}

/// A request's body. One that nobody read to its end is drained in the background, within bounds: a client that still sends
/// would otherwise find the connection closed before it sees its refusal.
#[derive(Debug)]
pub struct Incoming(Option<Body>);

impl Incoming {
    /// The whole body, within its limit.
    pub async fn read(mut self, bytes_max: usize) -> Result<Bytes, Problem> {
        let Some(body) = &mut self.0 else { return Ok(Bytes::new()) };
        let reading = Limited::new(body, bytes_max).collect();
        let read = tokio::time::timeout(limit::BODY_READ_TIMEOUT, reading)
            .await
            .map_err(|_| Problem::invalid("", "the body did not arrive in time"))?;
        match read {
            Ok(body) => {
                self.0 = None;
                Ok(body.to_bytes())
            }
            Err(error) if error.is::<LengthLimitError>() => {
                Err(Problem::new(Code::PayloadTooLarge, format!("The body may have at most {bytes_max} bytes.")))
            }
            Err(_) => Err(Problem::invalid("", "the body ended early")),
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) else { return };
        let mut rest = Box::pin(drain(body));
        // A short body came with its head.
        if rest.as_mut().now_or_never().is_some() {
            return;
        }
        #[expect(clippy::disallowed_methods, reason = "bounded in bytes and time, and nobody waits for it")]
        tokio::spawn(tokio::time::timeout(limit::DRAIN_TIMEOUT, rest));
    }
}

async fn drain(mut body: Body) {
    let mut left = limit::DRAIN_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        if left == 0 || body.is_end_stream() {
            break;
        }
    }
}

/// The tenant comes from the token. A JSON body that names another one is refused and audited; the body itself is left as
/// it was sent.
pub async fn own_tenant_only(
    kernel: &Kernel,
    context: &Context,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<(), Problem> {
    // An escape could spell the name, too.
    let suspicious = |part: &[u8]| memmem::find(body, part).is_some();
    let Some(own) = context.actor.tenant() else { return Ok(()) };
    if !is_json(headers) || !(suspicious(b"tenant_id") || suspicious(b"\\u")) {
        return Ok(());
    }
    let Ok(TenantNames(named)) = serde_json::from_slice(body) else { return Ok(()) };
    let foreign =
        named.iter().find(|named| !named.as_str().is_some_and(|id| id.eq_ignore_ascii_case(&own.to_string())));
    let Some(foreign) = foreign else { return Ok(()) };
    let mut entry = context.entry("security.cross_tenant", Party::new("tenant", own), Outcome::Denied);
    entry.details.insert("named_tenant".into(), foreign.to_string().chars().take(64).collect::<String>().into());
    kernel.record(entry).await?;
    Err(Problem::new(
        Code::TenantMismatch,
        "The tenant comes from the access token; leave tenant_id out of the body, or sign in to that tenant.",
    ))
}

/// Every value of a top-level member `tenant_id`, repetitions included.
struct TenantNames(Vec<Value>);

impl<'de> Deserialize<'de> for TenantNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TenantNamesVisitor)
    }
}

struct TenantNamesVisitor;

impl<'de> Visitor<'de> for TenantNamesVisitor {
    type Value = TenantNames;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<TenantNames, A::Error> {
        let mut named = Vec::new();
        while let Some(name) = members.next_key::<String>()? {
            if name == "tenant_id" {
                named.push(members.next_value()?);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(TenantNames(named))
    }
}

/// The body without its `tenant_id`, which was found to be the caller's own: operations take it from the token.
fn without_tenant(body: Bytes) -> Bytes {
    const NAME: &[u8] = b"tenant_id";
    if memmem::find(&body, NAME).is_none() {
        return body;
    }
    let Ok(mut members) = serde_json::from_slice::<BTreeMap<String, Box<RawValue>>>(&body) else { return body };
    if members.remove("tenant_id").is_none() {
        return body;
    }
    serde_json::to_vec(&members).map(Bytes::from).unwrap_or(body)
}

/// Headers of every reply.
fn finish(kernel: &Kernel, headers: &mut HeaderMap, correlation: CorrelationId, origin: Option<&HeaderValue>) {
    const FIXED: [(HeaderName, HeaderValue); 5] = [
        (HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff")),
        (HeaderName::from_static("x-frame-options"), HeaderValue::from_static("DENY")),
        (HeaderName::from_static("referrer-policy"), HeaderValue::from_static("no-referrer")),
        (
            HeaderName::from_static("strict-transport-security"),
            HeaderValue::from_static("max-age=31536000; includeSubDomains"),
        ),
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    ];
    // All that a reply usually has, at once.
    headers.reserve(FIXED.len() + 5);
    for (name, value) in FIXED {
        headers.insert(name, value);
    }
    headers
        .entry("content-security-policy")
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    headers.entry("cache-control").or_insert(HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::from_str(&correlation.to_string()) {
        headers.insert(CORRELATION, value);
    }
    if let Some(origin) = origin.filter(|origin| kernel.config.allows_origin(origin)) {
        headers.insert("access-control-allow-origin", origin.clone());
        headers.insert("vary", HeaderValue::from_static("origin"));
    }
}

/// Whether a text is a version 00 trace context (W3C Trace Context, section 3.2).
fn valid_trace(text: &str) -> bool {
    let lengths = [2, 32, 16, 2];
    let parts: Vec<&str> = text.split('-').collect();
    parts.len() == 4
        && parts.iter().zip(lengths).all(|(part, length)| {
            part.len() == length && part.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
        })
        && parts.first() == Some(&"00")
}
