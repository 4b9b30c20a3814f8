//! What a cell cannot do: to the host, to its neighbours, to the books.

mod calls;
mod chaos;
mod hostile;
mod idempotency;
mod limits;
mod rejection;
mod storm;
mod swap;
mod traces;
mod unit_of_work;
pub(crate) mod variant;
