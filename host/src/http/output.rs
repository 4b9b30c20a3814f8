//! What an operation answers. The reply is made after the commit, from its receipt, so a number that only the commit can
//! give (an event's sequence) is in it.

use axum::body::Body;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;

use crate::state::unit::Receipt;

/// Something that an operation can answer.
pub trait Output: Send + 'static {
    /// The status of success.
    const STATUS: StatusCode;
    /// Another status of success with the same body, and when it is given.
    const OTHER: Option<(StatusCode, &'static str)> = None;
    /// The reply; `receipt` is that of the commit, or empty when there was nothing to commit.
    fn respond(self, receipt: &Receipt) -> Response;
    /// Media type and schema of the body.
    fn describe(generator: &mut SchemaGenerator) -> Option<(&'static str, Schema)>;
}

/// 200 with a JSON body.
#[derive(Debug)]
pub struct Ok200<T>(pub T);

/// 201 with a JSON body.
#[derive(Debug)]
pub struct Created<T>(pub T);

/// 204.
#[derive(Debug)]
pub struct NoContent;

/// A page of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
pub struct Page<T> {
    /// The objects.
    pub data: Vec<T>,
    /// Send it as `cursor` for the next page; null on the last.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A page of at most `size` out of `size + 1` objects that were fetched; `cursor` names the last shown.
    #[must_use]
    pub fn cut(mut data: Vec<T>, size: u32, cursor: impl Fn(&T) -> String) -> Self {
        let more = data.len() > size as usize;
        data.truncate(size as usize);
        let next_cursor = data.last().filter(|_| more).map(cursor);
        Self { data, next_cursor }
    }
}

impl<T: Serialize + JsonSchema + Send + 'static> Output for Ok200<T> {
    const STATUS: StatusCode = StatusCode::OK;
    fn respond(self, _receipt: &Receipt) -> Response {
        json(Self::STATUS, &self.0)
    }
    fn describe(generator: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        Some(("application/json", generator.subschema_for::<T>()))
    }
}

impl<T: Serialize + JsonSchema + Send + 'static> Output for Created<T> {
    const STATUS: StatusCode = StatusCode::CREATED;
    fn respond(self, _receipt: &Receipt) -> Response {
        json(Self::STATUS, &self.0)
    }
    fn describe(generator: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        Some(("application/json", generator.subschema_for::<T>()))
    }
}

impl Output for NoContent {
    const STATUS: StatusCode = StatusCode::NO_CONTENT;
    fn respond(self, _receipt: &Receipt) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = Self::STATUS;
        response
    }
    fn describe(_generator: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        None
    }
}

/// A JSON reply.
#[must_use]
pub fn json(status: StatusCode, body: &impl Serialize) -> Response {
    json_as(status, "application/json", body)
}

/// A reply of a media type that is written in JSON.
#[must_use]
pub fn json_as(status: StatusCode, media: &'static str, body: &impl Serialize) -> Response {
    let bytes = match serde_json::to_vec(body) {
        Ok(bytes) => bytes,
        Err(cause) => {
            tracing::error!(%cause, "a reply cannot be written as JSON");
            return with_type(StatusCode::INTERNAL_SERVER_ERROR, "application/problem+json", Vec::new());
        }
    };
    with_type(status, media, bytes)
}

/// A reply of a media type.
#[must_use]
pub fn with_type(status: StatusCode, media: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response
}
