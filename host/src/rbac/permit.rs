//! Access rules as types. A handler that takes a `Permit<UserWrite>` cannot be reached without one, and only this module
//! can make one.

use std::collections::HashSet;
use std::marker::PhantomData;
use std::sync::Arc;

use super::permission::{self, Permission, Scope};
use crate::auth::actor::Actor;
use crate::id::{RoleId, TenantId, UserId};

/// What a signed-in actor may do, as looked up for this request.
#[derive(Debug)]
pub struct Access {
    /// The user.
    pub user: UserId,
    /// The user's tenant.
    pub tenant: TenantId,
    /// Whether that is the operator's own tenant.
    pub system: bool,
    /// The roles, by id and name.
    pub roles: Vec<(RoleId, String)>,
    /// Whether a role holds everything, present and future.
    pub owner: bool,
    /// The permissions of all roles together.
    pub permissions: HashSet<Arc<str>>,
}

impl Access {
    /// Whether the actor holds a permission. Platform permissions count only in the system tenant.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        (self.owner || self.permissions.contains(name)) && (self.system || !permission::is_platform(name))
    }
}

/// Who may call an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Anyone, without a token.
    Public,
    /// Anyone with a valid token.
    SignedIn,
    /// Holders of a permission.
    Needs(&'static str, Scope),
}

/// Why somebody may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is no valid token.
    #[error("a valid access token is needed")]
    Unauthenticated,
    /// These permissions are missing.
    #[error("permission {0} is missing")]
    Missing(String),
}

/// An access rule that a handler names in its signature.
pub trait Proof: Sized + Send + 'static {
    /// The rule.
    const RULE: Rule;
    /// The proof that the rule holds for this actor.
    fn prove(actor: &Actor, access: Option<&Arc<Access>>) -> Result<Self, Denied>;
}

/// No token is asked for.
#[derive(Debug)]
pub struct Public(());

/// The caller has a valid token.
#[derive(Debug)]
pub struct SignedIn {
    access: Arc<Access>,
}

/// The caller holds the permission `P`.
#[derive(Debug)]
pub struct Permit<P> {
    access: Arc<Access>,
    permission: PhantomData<P>,
}

/// The caller may call a cell's route.
#[derive(Debug)]
pub struct RoutePermit(());

impl<P> Permit<P> {
    /// What the holder may do.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }
}

impl SignedIn {
    /// What the holder may do.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }
}

impl Proof for Public {
    const RULE: Rule = Rule::Public;
    fn prove(_actor: &Actor, _access: Option<&Arc<Access>>) -> Result<Self, Denied> {
        Ok(Self(()))
    }
}

impl Proof for SignedIn {
    const RULE: Rule = Rule::SignedIn;
    fn prove(_actor: &Actor, access: Option<&Arc<Access>>) -> Result<Self, Denied> {
        access.cloned().map(|access| Self { access }).ok_or(Denied::Unauthenticated)
    }
}

impl<P: Permission> Proof for Permit<P> {
    const RULE: Rule = Rule::Needs(P::NAME, P::SCOPE);
    fn prove(_actor: &Actor, access: Option<&Arc<Access>>) -> Result<Self, Denied> {
        let access = access.ok_or(Denied::Unauthenticated)?;
        if access.holds(P::NAME) {
            Ok(Self { access: Arc::clone(access), permission: PhantomData })
        } else {
            Err(Denied::Missing(P::NAME.to_owned()))
        }
    }
}

impl RoutePermit {
    /// The proof for a cell's route, whose permission is known only at run time; `public` asks for nothing.
    pub fn prove(permission: &str, access: Option<&Arc<Access>>) -> Result<Self, Denied> {
        if permission == PUBLIC {
            return Ok(Self(()));
        }
        let access = access.ok_or(Denied::Unauthenticated)?;
        if access.holds(permission) { Ok(Self(())) } else { Err(Denied::Missing(permission.to_owned())) }
    }
}

/// The permission of a route that asks for no token.
pub const PUBLIC: &str = "public";
