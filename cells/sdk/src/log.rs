//! Log lines of the cell. They are kept also when the call's effect is discarded. Always granted; at most 256 lines a
//! call.

use crate::bindings::aibos::cell::log;
pub use crate::bindings::aibos::cell::log::Level;

/// For whoever debugs the cell.
pub fn debug(message: &str) {
    write(Level::Debug, message);
}

/// Worth knowing.
pub fn info(message: &str) {
    write(Level::Info, message);
}

/// Worth a look.
pub fn warn(message: &str) {
    write(Level::Warn, message);
}

/// Something failed.
pub fn error(message: &str) {
    write(Level::Error, message);
}

/// One line; the host cuts it at 4 KiB. Native unit tests have no host to write to.
pub fn write(level: Level, message: &str) {
    if cfg!(target_family = "wasm") {
        log::write(level, message);
    }
}
