//! Loads and runs cells: sandboxed WebAssembly components, each call metered, limited and thrown away.

pub mod binding;
pub mod capability;
pub mod catalog;
pub mod compiled;
pub mod engine;
pub mod fault;
pub mod given;
pub mod invoke;
pub mod linker;
pub mod manifest;
pub mod outcome;
pub mod pattern;
pub mod registry;
pub mod rejection;
pub mod report;
pub mod signature;
pub mod store;
pub mod translate;
pub mod version;
