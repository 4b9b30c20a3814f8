//! One wrong field of a request, as `errors: [{pointer, message}]` of a validation problem. It knows nothing of HTTP,
//! so pure rules can answer it.

use serde::{Deserialize, Serialize};

/// Which field is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// JSON Pointer (RFC 6901) into the body, for example `/amount`; `/query/NAME` for a query parameter.
    pub pointer: String,
    /// A sentence for the caller's developer.
    pub message: String,
}

impl FieldError {
    /// A wrong field.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }
}
