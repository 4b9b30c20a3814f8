//! The edge: turns sockets into operations of the control plane and calls of cells, and failures into problems.

pub mod cell;
pub mod edge;
pub mod input;
mod measure;
pub mod openapi;
pub mod operation;
pub mod output;
pub mod problem;
pub mod route;
pub mod router;
pub mod server;
