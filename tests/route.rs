//! Every operation of the control plane over HTTP, one file for each group: refusals before success; status, body, stored
//! effect and audit entry.

mod audit;
mod bad_input;
mod bootstrap;
mod cell;
mod chaos;
mod connection;
mod documentation;
mod event;
mod key;
mod probe;
mod role;
#[expect(clippy::module_inception, reason = "the operations on routes, among those of all groups")]
mod route;
mod session;
mod tenant;
mod user;
