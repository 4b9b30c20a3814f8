//! Settings that the operator gives. Granted by name: `config = ["FEE_BPS"]`.

use crate::bindings::aibos::cell::config;
pub use crate::bindings::aibos::cell::config::Error;

/// The value of a setting; none when the operator set none.
pub fn value(name: &str) -> Result<Option<String>, Error> {
    config::get(name)
}
