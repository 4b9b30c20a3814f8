//! The identity behind a request, and nothing but identity: what it may do is looked up anew for each request.

use crate::audit::Party;
use crate::id::{SessionId, TenantId, UserId};

/// Who acts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    /// No token, or a public route.
    Anonymous,
    /// A user with a valid access token.
    User {
        /// The user.
        user: UserId,
        /// The user's tenant, from the token.
        tenant: TenantId,
        /// The sign-in.
        session: SessionId,
    },
    /// The operator at the command line of the machine itself (`aibos seed`, `aibos dev`).
    Operator,
}

impl Actor {
    /// The tenant that the actor belongs to.
    #[must_use]
    pub fn tenant(&self) -> Option<TenantId> {
        match self {
            Self::User { tenant, .. } => Some(*tenant),
            Self::Anonymous | Self::Operator => None,
        }
    }

    /// The user, where there is one.
    #[must_use]
    pub fn user(&self) -> Option<UserId> {
        match self {
            Self::User { user, .. } => Some(*user),
            Self::Anonymous | Self::Operator => None,
        }
    }

    /// The actor in an audit entry.
    #[must_use]
    pub fn party(&self) -> Party {
        match self {
            Self::User { user, .. } => Party::new("user", user),
            Self::Anonymous => Party::new("anonymous", "anonymous"),
            Self::Operator => Party::new("operator", "local"),
        }
    }

    /// The principal in events and idempotency keys, for example `user:0197…`.
    #[must_use]
    pub fn principal(&self) -> String {
        let party = self.party();
        format!("{}:{}", party.kind, party.id)
    }
}
