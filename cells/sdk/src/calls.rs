//! Calls to other cells. Granted by `calls = ["name"]`; the callee must name the caller in a `[[trigger.call]]`.
//!
//! The callee runs for the same tenant and user, inside the caller's remaining time and fuel. What it stages joins the
//! caller's unit of work when its reply says commit.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Health;
use crate::bindings::aibos::cell::{calls, health as judged, types};

/// Why there is no reply.
pub use crate::bindings::aibos::cell::calls::Error as CallError;

/// A request to another cell.
///
/// ```no_run
/// # use aibos_cell::{Call, Problem, json};
/// # fn charge() -> Result<(), Problem> {
/// let reply = Call::post("processor", "/charges").json(&json!({ "amount": 1 }))?.send()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Call {
    cell: String,
    request: types::Request,
}

/// What the other cell answered, whatever the status.
#[derive(Clone, Debug)]
pub struct CallReply {
    raw: types::Response,
}

impl Call {
    /// A `GET` of another cell's route.
    #[must_use]
    pub fn get(cell: &str, path: &str) -> Self {
        Self::new(cell, "GET", path)
    }

    /// A `POST` to another cell's route.
    #[must_use]
    pub fn post(cell: &str, path: &str) -> Self {
        Self::new(cell, "POST", path)
    }

    /// Any method. `path` may carry a query.
    #[must_use]
    pub fn new(cell: &str, method: &str, path: &str) -> Self {
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (path, None),
        };
        Self {
            cell: cell.to_owned(),
            request: types::Request {
                method: method.to_owned(),
                path: path.to_owned(),
                query,
                headers: Vec::new(),
                body: Vec::new(),
            },
        }
    }

    /// Sends a value as `application/json`.
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Result<Self, CallError> {
        self.request.body =
            serde_json::to_vec(value).map_err(|error| CallError::Other(format!("the request is not JSON: {error}")))?;
        Ok(self.header("content-type", "application/json"))
    }

    /// Adds a header; the name is lower case.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs the call and waits for the reply.
    pub fn send(self) -> Result<CallReply, CallError> {
        let raw = calls::call(&self.cell, &self.request)?;
        Ok(CallReply { raw })
    }
}

impl CallReply {
    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.raw.status
    }

    /// The body as it came.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.raw.body
    }

    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        serde_json::from_slice(&self.raw.body)
            .map_err(|error| CallError::Other(format!("the reply is not the JSON expected: {error}")))
    }
}

/// Asks another cell how it is.
pub fn health(cell: &str) -> Result<Health, CallError> {
    Ok(match calls::health(cell)? {
        judged::Status::Healthy => Health::Healthy,
        judged::Status::Degraded => Health::Degraded,
        judged::Status::Unhealthy => Health::Unhealthy,
    })
}
