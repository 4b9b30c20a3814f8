//! What the tests share: a whole kernel with its callers, real databases that are gone when a test ends, and a network that
//! breaks on command.
#![expect(clippy::missing_panics_doc, reason = "a test that cannot go on panics, with a sentence")]

pub mod actor;
pub mod cell;
pub mod core;
pub mod database;
pub mod kernel;
pub mod outside;
pub mod proxy;
pub mod snapshot;
