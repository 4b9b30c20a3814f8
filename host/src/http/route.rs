//! The operations of the control plane, one file for each group of objects.

pub mod audit;
pub mod audit_export;
pub mod audit_proof;
pub mod audit_verify;
pub mod bootstrap;
pub mod cell;
pub mod cell_config;
pub mod cell_route;
pub mod cell_secret;
pub mod cell_signature;
pub mod chaos;
pub mod documentation;
pub mod event;
pub mod key;
pub mod lifecycle;
pub mod permission;
pub mod probe;
pub mod role;
pub mod session;
pub mod tenant;
pub mod usage;
pub mod user;
