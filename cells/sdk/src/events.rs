//! The tenant's event log. Granted by `publish = ["type.*"]`.

use serde::Serialize;

use crate::bindings::aibos::cell::events;
pub use crate::bindings::aibos::cell::events::Error;

/// Stages an event that enters the log in the same commit as the reply, and answers its id. `data` becomes JSON of at
/// most 64 KiB.
pub fn publish<T: Serialize + ?Sized>(event_type: &str, subject: Option<&str>, data: &T) -> Result<String, Error> {
    let data = serde_json::to_string(data).map_err(|error| Error::Invalid(error.to_string()))?;
    events::publish(event_type, subject, &data)
}
