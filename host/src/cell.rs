//! Loads and runs cells: sandboxed WebAssembly components, each call metered, limited and thrown away,
//! or kept warm where the manifest asks for it.

pub mod binding;
pub mod capability;
pub mod catalog;
pub mod compiled;
pub mod counts;
pub mod course;
pub mod difference;
pub mod engine;
pub mod fault;
pub mod gate;
pub mod given;
pub mod invoke;
pub mod linker;
pub mod manifest;
pub mod measures;
pub mod outbound;
pub mod outcome;
pub mod outside;
pub mod pattern;
pub mod proxy;
mod queue;
pub mod registry;
pub mod rejection;
pub mod report;
pub mod signature;
pub mod spent;
pub mod stdio;
pub mod store;
pub mod supervisor;
pub mod translate;
pub mod version;
pub mod warm;
