//! The tenant's event log: `CloudEvents` 1.0, insert-only, numbered without gaps in commit order.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::id::{CorrelationId, TenantId};

/// An event as it is staged; its sequence is given by the commit.
#[derive(Clone, Debug)]
pub struct Event {
    /// UUIDv7, or the id that the client chose.
    pub id: String,
    /// Whether the client chose the id, so that a repetition must be found.
    pub id_chosen: bool,
    /// `/cells/NAME` or `/users/ID`.
    pub source: String,
    /// For example `payment.succeeded`.
    pub kind: String,
    /// What it is about.
    pub subject: Option<String>,
    /// When its request began.
    pub time: Timestamp,
    /// JSON.
    pub data: String,
    /// Whose log.
    pub tenant: TenantId,
    /// The principal, for example `user:0197…`.
    pub actor: String,
    /// The request.
    pub correlation: CorrelationId,
    /// W3C trace context of the request.
    pub traceparent: Option<String>,
}

/// An event as the log holds it.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// Gapless per tenant.
    pub sequence: i64,
    /// The rest.
    pub event: Event,
}

/// Which events a reader wants, oldest first.
#[derive(Clone, Debug)]
pub struct EventQuery {
    /// Whose log.
    pub tenant: TenantId,
    /// An exact type, or a prefix that ends in `*`.
    pub kind: Option<String>,
    /// An exact subject.
    pub subject: Option<String>,
    /// Exclusive lower bound of the sequence.
    pub after: i64,
    /// At most so many.
    pub limit: u32,
}

/// The `CloudEvents` envelope of the API (JSON format, version 1.0).
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Envelope {
    /// Always `1.0`.
    pub specversion: String,
    /// Unique for its source.
    pub id: String,
    /// `/cells/NAME` or `/users/ID`; set by the kernel.
    pub source: String,
    /// For example `payment.succeeded`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the event is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When its request began.
    pub time: Timestamp,
    /// Always `application/json`.
    pub datacontenttype: String,
    /// The payload.
    #[schemars(with = "serde_json::Value")]
    pub data: Box<RawValue>,
    /// Gapless per tenant, in commit order.
    pub sequence: i64,
    /// The tenant.
    pub tenantid: TenantId,
    /// The principal that caused it.
    pub actor: String,
    /// The correlation id of the request.
    pub correlationid: CorrelationId,
    /// W3C trace context of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

impl From<StoredEvent> for Envelope {
    fn from(stored: StoredEvent) -> Self {
        let event = stored.event;
        Self {
            specversion: "1.0".into(),
            id: event.id,
            source: event.source,
            kind: event.kind,
            subject: event.subject,
            time: event.time,
            datacontenttype: "application/json".into(),
            data: RawValue::from_string(event.data).unwrap_or_default(),
            sequence: stored.sequence,
            tenantid: event.tenant,
            actor: event.actor,
            correlationid: event.correlation,
            traceparent: event.traceparent,
        }
    }
}

/// Whether a text is an event type: dotted lower-case words of at most 128 characters.
#[must_use]
pub fn valid_type(kind: &str) -> bool {
    kind.len() <= 128
        && !kind.is_empty()
        && kind.split('.').all(|word| {
            word.starts_with(|first: char| first.is_ascii_lowercase())
                && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
        })
}

/// Whether a type is among those of a pattern: the type itself, or `prefix.*`.
#[must_use]
pub fn matches(pattern: &str, kind: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => kind.starts_with(prefix),
        None => pattern == kind,
    }
}

/// Whether a text may be a subject: absent, or 1 to 256 characters without control characters.
#[must_use]
pub fn valid_subject(subject: Option<&str>) -> bool {
    subject.is_none_or(|text| (1..=256).contains(&text.chars().count()) && !text.chars().any(char::is_control))
}
