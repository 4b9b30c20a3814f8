//! What a cell cannot do: to the host, to its neighbours, to the books.

mod apart;
mod calls;
mod chaos;
mod compiled;
mod given;
mod hostile;
mod idempotency;
mod lifecycle;
mod limits;
mod outbound;
#[cfg(feature = "polyglot")]
mod polyglot;
mod proxy;
mod rejection;
mod signature;
mod storm;
mod supervisor;
mod swap;
mod traces;
mod unit_of_work;
mod usage;
pub(crate) mod variant;
mod warm;
mod wasi;
