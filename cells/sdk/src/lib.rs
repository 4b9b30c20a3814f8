//! Write a cell: a WebAssembly component that the kernel runs in a fresh sandbox for every call.
//!
//! A cell is a type with routes, exported once:
//!
//! ```
//! use aibos_cell::{Cell, Problem, Reply, Request, Router, json};
//!
//! /// Says hello.
//! pub struct Hello;
//!
//! impl Cell for Hello {
//!     fn routes() -> Router {
//!         Router::new().get("/hello/{name}", hello)
//!     }
//! }
//!
//! fn hello(request: &Request) -> Result<Reply, Problem> {
//!     let name = request.parameter("name")?;
//!     Reply::json(200, &json!({ "message": format!("hello {name}") }))
//! }
//!
//! aibos_cell::export!(Hello);
//! ```
//!
//! What a call stages through [`state`], [`events`], [`audit`] and [`calls`] commits together with its reply, or not at
//! all: a reply below 400 commits, a [`Problem`] discards, and either may say otherwise ([`Effect`]). Nothing that is
//! kept in a `static` survives a call.
//!
//! An import that a cell does not use is not in its component, so a cell needs grants only for what it calls.
#![cfg_attr(
    not(test),
    deny(clippy::expect_used, clippy::float_arithmetic, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)
)]

pub mod audit;
#[doc(hidden)]
pub mod bindings;
pub mod calls;
pub mod config;
pub mod context;
pub mod currency;
pub mod cursor;
pub mod events;
mod failure;
pub mod field;
pub mod identifier;
pub mod log;
pub mod money;
pub mod page;
mod pattern;
mod percent;
mod pointer;
pub mod problem;
pub mod reply;
pub mod request;
pub mod router;
pub mod secrets;
pub mod state;
pub mod time;

pub use bindings::aibos::cell::types::Effect;
pub use calls::{Call, CallError};
pub use currency::Currency;
pub use field::FieldError;
pub use money::{Money, MoneyError};
pub use page::{Listing, Page};
pub use problem::Problem;
pub use reply::Reply;
pub use request::Request;
pub use router::Router;
pub use serde_json::json;
pub use time::Timestamp;

use bindings::aibos::cell::types;
use bindings::exports::aibos::cell::{handler, health};

/// A cell: its routes and its own judgement of its health. Hand the type to [`export!`].
pub trait Cell {
    /// The routes, those of `[[trigger.http]]` and of `[[trigger.call]]` alike: the host has already checked permission
    /// and caller when a request arrives here.
    fn routes() -> Router;

    /// May this cell serve? Asked without a tenant and without state.
    #[must_use]
    fn health() -> Health {
        Health::Healthy
    }
}

/// A cell's judgement of itself, or of a cell that it asked ([`calls::health`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Serves.
    Healthy,
    /// Serves, with something missing.
    Degraded,
    /// Cannot serve.
    Unhealthy,
}

/// Makes the component's exports out of a type that implements [`Cell`]. Native builds (unit tests) export nothing.
#[macro_export]
macro_rules! export {
    ($cell:ident) => {
        #[cfg(target_family = "wasm")]
        $crate::bindings::export_component!($cell with_types_in $crate::bindings);
    };
}

impl<T: Cell> handler::Guest for T {
    fn handle(request: types::Request) -> types::Response {
        let request = Request::from(request);
        let path = request.path().to_owned();
        match T::routes().answer(request) {
            Ok(reply) => reply.into(),
            Err(problem) => problem.into_reply(&path, &context::correlation_id()).into(),
        }
    }
}

impl<T: Cell> health::Guest for T {
    fn check() -> health::Status {
        match T::health() {
            Health::Healthy => health::Status::Healthy,
            Health::Degraded => health::Status::Degraded,
            Health::Unhealthy => health::Status::Unhealthy,
        }
    }
}
