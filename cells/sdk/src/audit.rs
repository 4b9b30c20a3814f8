//! Notes in the tenant's audit log, beside the entry that the host writes for every mutation. Always granted.

use serde::Serialize;

use crate::bindings::aibos::cell::audit;
pub use crate::bindings::aibos::cell::audit::Error;

/// Stages an entry `cell.NAME.ACTION` that commits with the reply. `details` becomes a JSON object of at most 4 KiB;
/// never put a secret there.
pub fn note<T: Serialize + ?Sized>(action: &str, details: &T) -> Result<(), Error> {
    let details = serde_json::to_string(details).map_err(|error| Error::Invalid(error.to_string()))?;
    audit::note(action, &details)
}
