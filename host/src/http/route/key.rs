//! The public keys that access tokens are checked with.

use axum::response::Response;
use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;

use crate::auth::signing_key::{PublicKey, SigningKey};
use crate::http::operation::Operation;
use crate::http::output::{self, Output};
use crate::http::problem::Problem;
use crate::rbac::permit::Public;
use crate::state::unit::Receipt;

/// A key set (RFC 7517).
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeySet {
    /// The keys, oldest first.
    pub keys: Vec<PublicKey>,
}

impl Output for KeySet {
    const STATUS: StatusCode = StatusCode::OK;

    fn respond(self, _receipt: &Receipt) -> Response {
        let mut response = output::json(Self::STATUS, &self);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
        response
    }

    fn describe(generator: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        Some(("application/json", generator.subschema_for::<Self>()))
    }
}

/// `GET /.well-known/jwks.json`
pub async fn jwks(operation: Operation, _public: Public, (): ()) -> Result<KeySet, Problem> {
    Ok(KeySet { keys: operation.kernel.identity.tokens.keys().iter().map(SigningKey::public).collect() })
}
