//! The Rust shape of `wit/`; the only generated code in the crate.
#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    reason = "generated; documented in wit/"
)]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "imports",
    imports: { default: async | trappable },
    with: { "aibos:cell/secrets.secret": crate::cell::capability::secrets::Secret },
});

pub use aibos::cell::types::{Effect, Request, Response};
