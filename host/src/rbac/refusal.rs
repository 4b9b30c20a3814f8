//! Why a change of tenants, users or roles was refused.

use std::fmt::Display;

use crate::state::work::WorkError;

/// A refusal; nothing was staged that the caller may commit.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The unit of work failed.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// There is no such object in this tenant.
    #[error("there is no {what} {id}")]
    NotFound {
        /// The kind of object.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// The name belongs to another object.
    #[error("the {what} {name} exists")]
    Taken {
        /// The kind of name.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The tenant would be left without an active owner.
    #[error("the tenant would be left without an active owner")]
    LastOwner,
    /// The built-in role is as it is.
    #[error("the role owner is built in")]
    BuiltIn,
    /// Users have the role.
    #[error("users still have the role")]
    RoleInUse,
    /// The system tenant cannot be suspended.
    #[error("the system tenant cannot be suspended")]
    SystemTenant,
    /// The actor does not hold what it wants to grant.
    #[error("the actor does not hold {0:?}")]
    NotHeld(Vec<String>),
    /// There are as many as there may be.
    #[error("at most {most} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        most: usize,
    },
}

impl Refusal {
    /// There is no such object.
    pub fn not_found(what: &'static str, id: impl Display) -> Self {
        Self::NotFound { what, id: format!("{id}") }
    }

    /// The name belongs to another object.
    pub fn taken(what: &'static str, name: impl Display) -> Self {
        Self::Taken { what, name: format!("{name}") }
    }
}
