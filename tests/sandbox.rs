//! What a cell cannot do: to the host, to its neighbours, to the books.

mod calls;
mod chaos;
mod idempotency;
mod limits;
#[cfg(feature = "polyglot")]
mod polyglot;
mod proxy;
mod rejection;
mod swap;
mod traces;
mod unit_of_work;
pub(crate) mod variant;
