//! Secrets that the operator gives. Granted by name: `secrets = ["API_KEY"]`.
//!
//! ```ignore
//! let key = secrets::obtain("API_KEY")?; // no value yet, nothing is recorded
//! let text = key.reveal()?; // the value; the operator's audit log says who revealed what
//! ```

use crate::bindings::aibos::cell::secrets;
pub use crate::bindings::aibos::cell::secrets::{Error, Secret};

/// A handle to a secret.
pub fn obtain(name: &str) -> Result<Secret, Error> {
    secrets::get(name)
}
