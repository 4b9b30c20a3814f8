//! AI-BOS Kernel: one process that runs finance cells as sandboxed WebAssembly components next to the books.
//!
//! The modules below stand in the order in which a request meets them; nothing points back up the list. `kernel` is the one
//! place that builds them; the last ones are leaves that everything may use.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

pub mod command;

pub mod kernel;

pub mod http;

pub mod auth;
pub mod rbac;

pub mod gateway;

pub mod cell;

pub mod state;

pub mod audit;
pub mod event;

pub mod storage;

pub mod address;
pub mod background;
pub mod clock;
pub mod config;
pub mod context;
pub mod id;
pub mod limit;
pub mod telemetry;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
