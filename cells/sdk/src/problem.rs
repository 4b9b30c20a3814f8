//! Errors as RFC 9457 `application/problem+json`. `code` is what programs read; `detail` is for people and never holds
//! anything internal.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{Effect, FieldError, Reply};

/// Why a request was not answered as asked. Returned as the `Err` of a handler; `?` turns the SDK's errors into one.
#[derive(Clone, Debug)]
pub struct Problem {
    status: u16,
    code: Cow<'static, str>,
    detail: String,
    members: Map<String, Value>,
    headers: Vec<(String, String)>,
    effect: Effect,
}

/// The members in the order in which people read them.
#[derive(Serialize)]
struct Body<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    instance: &'a str,
    code: &'a str,
    correlation_id: &'a str,
    #[serde(flatten)]
    members: &'a Map<String, Value>,
}

impl Problem {
    /// A problem with a stable, `UPPER_SNAKE` code. What was staged is discarded unless [`Problem::effect`] says
    /// otherwise.
    pub fn new(status: u16, code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self {
            status,
            code: code.into(),
            detail: detail.into(),
            members: Map::new(),
            headers: Vec::new(),
            effect: Effect::ByStatus,
        }
    }

    /// 400 `VALIDATION_ERROR` with every wrong field.
    #[must_use]
    pub fn validation(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [FieldError { pointer, message }] if pointer.is_empty() => message.clone(),
            [FieldError { pointer, message }] => format!("{pointer}: {message}"),
            _ => "The request holds wrong values.".to_owned(),
        };
        let errors: Vec<Value> = errors
            .into_iter()
            .map(|error| serde_json::json!({ "pointer": error.pointer, "message": error.message }))
            .collect();
        Self::new(400, "VALIDATION_ERROR", detail).member("errors", errors)
    }

    /// 400 `VALIDATION_ERROR` with one wrong field.
    #[must_use]
    pub fn invalid(pointer: &str, message: &str) -> Self {
        Self::validation(vec![FieldError::new(pointer, message)])
    }

    /// 404 `NOT_FOUND`: also what another tenant's object answers.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(404, "NOT_FOUND", detail)
    }

    /// 500 for a mistake in the cell. The host counts it as a failure and answers `CELL_FAILED` without this text, so
    /// the reason goes into the cell's log.
    pub fn internal(reason: impl AsRef<str>) -> Self {
        crate::log::error(reason.as_ref());
        Self::new(500, "INTERNAL", "The cell failed.")
    }

    /// Adds an extension member, for example `decline_code`.
    #[must_use]
    pub fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a header, for example `retry-after`.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Says what becomes of the staged writes: a declined payment is recorded together with its 402.
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

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The reply that carries this problem.
    #[must_use]
    pub fn into_reply(self, instance: &str, correlation_id: &str) -> Reply {
        let body = Body {
            r#type: "about:blank",
            title: title(self.status),
            status: self.status,
            detail: &self.detail,
            instance,
            code: &self.code,
            correlation_id,
            members: &self.members,
        };
        // Strings, integers and JSON values always serialize; an empty body still carries the status.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let reply = Reply::bytes(self.status, "application/problem+json", body).effect(self.effect);
        self.headers.into_iter().fold(reply, |reply, (name, value)| reply.header(name, value))
    }
}

/// With the type `about:blank` the title is the status's own phrase (RFC 9457 section 4.2.1).
fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        410 => "Gone",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        500 => "Internal Server Error",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_complete() {
        let reply = Problem::new(402, "PAYMENT_DECLINED", "The card was declined.")
            .member("decline_code", "card_declined")
            .effect(Effect::Commit)
            .into_reply("/payments/process", "01");
        assert_eq!(reply.status(), 402);
        let body: Value = serde_json::from_slice(&reply.into_body()).expect("JSON");
        assert_eq!(
            body,
            serde_json::json!({
                "type": "about:blank",
                "title": "Payment Required",
                "status": 402,
                "detail": "The card was declined.",
                "instance": "/payments/process",
                "code": "PAYMENT_DECLINED",
                "correlation_id": "01",
                "decline_code": "card_declined",
            })
        );
    }
}
