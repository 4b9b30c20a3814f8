//! A reply and what becomes of the staged writes.

use serde::Serialize;

use crate::bindings::aibos::cell::types;
use crate::{Effect, Problem};

/// A buffered reply. By default the host commits what was staged when the status is below 400.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    effect: Effect,
}

impl Reply {
    /// No body, no content type.
    #[must_use]
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), effect: Effect::ByStatus }
    }

    /// A value as `application/json`.
    pub fn json<T: Serialize + ?Sized>(status: u16, value: &T) -> Result<Self, Problem> {
        let body =
            serde_json::to_vec(value).map_err(|error| Problem::internal(format!("the reply is not JSON: {error}")))?;
        Ok(Self::bytes(status, "application/json", body))
    }

    /// Text as `text/plain`.
    #[must_use]
    pub fn text(status: u16, text: &str) -> Self {
        Self::bytes(status, "text/plain; charset=utf-8", text.as_bytes().to_vec())
    }

    /// Bytes of any media type.
    #[must_use]
    pub fn bytes(status: u16, content_type: &str, body: Vec<u8>) -> Self {
        let mut reply = Self::empty(status).header("content-type", content_type);
        reply.body = body;
        reply
    }

    /// Adds a header. The host refuses the whole reply when a header is malformed.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Says what becomes of the staged writes, events and notes instead of leaving it to the status.
    #[must_use]
    pub fn effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The body, giving up the rest.
    #[must_use]
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }
}

impl From<Reply> for types::Response {
    fn from(reply: Reply) -> Self {
        Self { status: reply.status, headers: reply.headers, body: reply.body, effect: reply.effect }
    }
}
