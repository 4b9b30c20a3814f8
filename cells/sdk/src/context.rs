//! Who is calling, and the only clock and source of ids that a cell needs. Always granted.

use crate::Timestamp;
use crate::bindings::aibos::cell::context;

/// The tenant's id; none on a public route that was called without a token. A call without a tenant has no state.
#[must_use]
pub fn tenant_id() -> Option<String> {
    context::tenant_id()
}

/// The user behind the token; none without a token.
#[must_use]
pub fn user_id() -> Option<String> {
    context::user_id()
}

/// The id that every log line, event and audit entry of this call carries.
#[must_use]
pub fn correlation_id() -> String {
    context::correlation_id()
}

/// The cell that made this call; none when it came over HTTP.
#[must_use]
pub fn caller() -> Option<String> {
    context::caller()
}

/// When the call began: the same moment in every cell of the call tree, also when the host runs the call again.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::from_milliseconds(context::now_ms())
}

/// A new `UUIDv7`: sorts by the time it was made.
#[must_use]
pub fn new_id() -> String {
    context::new_id()
}

/// Milliseconds until the host stops this call.
#[must_use]
pub fn remaining_ms() -> u64 {
    context::remaining_ms()
}
