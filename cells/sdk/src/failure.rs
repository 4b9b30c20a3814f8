//! How the capabilities' errors look at the edge: the one place where they meet HTTP.
//!
//! What the caller can put right keeps its meaning; everything else is a failure of the cell ([`Problem::internal`]).

use crate::{CallError, Problem, audit, config, events, secrets, state};

impl From<state::Error> for Problem {
    fn from(error: state::Error) -> Self {
        match error {
            state::Error::NoTenant => no_tenant(),
            state::Error::InvalidKey(reason) => Self::new(400, "INVALID_KEY", reason),
            state::Error::TooLarge(reason) => Self::new(413, "TOO_LARGE", reason),
            state::Error::NotACounter(reason) => Self::new(409, "NOT_A_COUNTER", reason),
            state::Error::Other(reason) => Self::internal(reason),
        }
    }
}

impl From<events::Error> for Problem {
    fn from(error: events::Error) -> Self {
        match error {
            events::Error::NoTenant => no_tenant(),
            events::Error::Denied(reason) => Self::new(403, "EVENT_DENIED", reason),
            events::Error::Invalid(reason) => Self::new(400, "INVALID_EVENT", reason),
            events::Error::TooLarge(reason) => Self::new(413, "TOO_LARGE", reason),
            events::Error::Other(reason) => Self::internal(reason),
        }
    }
}

impl From<audit::Error> for Problem {
    fn from(error: audit::Error) -> Self {
        match error {
            audit::Error::NoTenant => no_tenant(),
            audit::Error::Invalid(reason) => Self::new(400, "INVALID_NOTE", reason),
            audit::Error::TooLarge(reason) => Self::new(413, "TOO_LARGE", reason),
            audit::Error::Other(reason) => Self::internal(reason),
        }
    }
}

impl From<config::Error> for Problem {
    fn from(error: config::Error) -> Self {
        match error {
            config::Error::Denied(reason) | config::Error::Other(reason) => Self::internal(reason),
        }
    }
}

impl From<secrets::Error> for Problem {
    fn from(error: secrets::Error) -> Self {
        match error {
            secrets::Error::Denied(reason) | secrets::Error::Missing(reason) | secrets::Error::Other(reason) => {
                Self::internal(reason)
            }
        }
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        crate::log::warn(&format!("a call failed: {error:?}"));
        Self::new(503, "CALLEE_UNAVAILABLE", "Another cell that this one needs does not answer.")
    }
}

fn no_tenant() -> Problem {
    Problem::new(401, "UNAUTHENTICATED", "This needs a token: without one there is no tenant.")
}
