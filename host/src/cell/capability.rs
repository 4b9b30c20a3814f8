//! The host's side of `wit/`: one file for each interface, with its name.

pub mod audit;
pub mod calls;
pub mod config;
pub mod context;
pub mod events;
pub mod log;
pub mod secrets;
pub mod state;
