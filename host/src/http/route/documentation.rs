//! The API's own description: the OpenAPI document and a page that shows it, which needs nothing from elsewhere.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};
use http::{HeaderValue, StatusCode};
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::http::openapi;
use crate::http::operation::Operation;
use crate::http::output::{Output, with_type};
use crate::http::problem::Problem;
use crate::rbac::permit::Public;
use crate::state::unit::Receipt;

const PAGE: &str = include_str!("../docs.html");

static DOCUMENT: LazyLock<String> = LazyLock::new(|| openapi::document().to_string());

/// Nothing may run on the page but its own script, and it may talk to nobody but the kernel.
static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        source("<script>", "</script>")?,
        source("<style>", "</style>")?,
    );
    HeaderValue::try_from(policy).ok()
});

/// The OpenAPI document.
#[derive(Debug)]
pub struct Document;

/// The page that shows it.
#[derive(Debug)]
pub struct Browsable;

impl Output for Document {
    const STATUS: StatusCode = StatusCode::OK;

    fn respond(self, _receipt: &Receipt) -> Response {
        cached(with_type(Self::STATUS, "application/json", DOCUMENT.as_str()))
    }

    fn describe(_generator: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        Some(("application/json", json_schema!({ "type": "object", "description": "An OpenAPI 3.1 document." })))
    }
}

impl Output for Browsable {
    const STATUS: StatusCode = StatusCode::OK;

    fn respond(self, _receipt: &Receipt) -> Response {
        let mut response = cached(with_type(Self::STATUS, "text/html; charset=utf-8", PAGE));
        if let Some(policy) = POLICY.as_ref() {
            response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy.clone());
        }
        response
    }

    fn describe(_generator: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        Some(("text/html", json_schema!({ "type": "string" })))
    }
}

/// `GET /openapi.json`
pub async fn document(_operation: Operation, _public: Public, (): ()) -> Result<Document, Problem> {
    Ok(Document)
}

/// `GET /docs`
pub async fn page(_operation: Operation, _public: Public, (): ()) -> Result<Browsable, Problem> {
    Ok(Browsable)
}

fn cached(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// The hash by which the policy admits what stands between two tags of the page.
fn source(open: &str, close: &str) -> Option<String> {
    let (_, rest) = PAGE.split_once(open)?;
    let (text, _) = rest.split_once(close)?;
    Some(format!("sha256-{}", STANDARD.encode(digest(&SHA256, text.as_bytes()))))
}
