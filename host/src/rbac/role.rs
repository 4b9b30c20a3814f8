//! Roles: named sets of permissions of one tenant. The built-in role `owner` holds everything that its tenant may hold.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::membership;
use super::name::{PermissionName, RoleName};
use super::permit::Access;
use super::refusal::Refusal;
use crate::context::Context;
use crate::id::{RoleId, TenantId};
use crate::limit;
use crate::state::work::{Work, WorkError};
use crate::state::{Space, StateKey};

/// Prefix of the records.
pub const PREFIX: &str = "role/";
/// The name of the built-in role.
pub const OWNER: &str = "owner";
/// What a holder of everything holds, in lists of missing permissions.
pub const EVERYTHING: &str = "*";

/// A role.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Role {
    /// Id.
    pub id: RoleId,
    /// The tenant.
    pub tenant_id: TenantId,
    /// Unique in its tenant, whatever the case.
    pub name: RoleName,
    /// What it grants.
    pub permissions: BTreeSet<PermissionName>,
    /// Whether it grants everything, present and future.
    pub all: bool,
    /// Whether it came with the tenant and cannot be changed.
    pub built_in: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The key of a role's record.
#[must_use]
pub fn key(tenant: TenantId, id: RoleId) -> StateKey {
    Space::kernel(tenant).key(format!("{PREFIX}{id}"))
}

fn name_key(tenant: TenantId, folded: &str) -> StateKey {
    Space::kernel(tenant).key(format!("role-name/{folded}"))
}

/// Makes a role. Whoever makes it must hold what it grants: ask [`may_grant`] first.
pub async fn create(
    work: &Work,
    context: &Context,
    tenant: TenantId,
    name: RoleName,
    permissions: BTreeSet<PermissionName>,
) -> Result<Role, Refusal> {
    check_count(&permissions)?;
    let role = Role {
        id: RoleId::new(&context.clock),
        tenant_id: tenant,
        name,
        permissions,
        all: false,
        built_in: false,
        created_at: context.now,
    };
    claim(work, &role).await?;
    save(work, &role)?;
    Ok(role)
}

/// The built-in role of a new tenant.
pub async fn create_owner(work: &Work, context: &Context, tenant: TenantId) -> Result<Role, Refusal> {
    let name = RoleName::try_from(OWNER.to_owned()).map_err(|_| WorkError::CorruptRecord(OWNER.into()))?;
    let mut owner = create(work, context, tenant, name, BTreeSet::new()).await?;
    owner.all = true;
    owner.built_in = true;
    save(work, &owner)?;
    Ok(owner)
}

/// The role of a name.
pub async fn find(work: &Work, tenant: TenantId, name: &str) -> Result<Option<RoleId>, WorkError> {
    work.load(&name_key(tenant, &name.to_ascii_lowercase())).await
}

/// A role.
pub async fn load(work: &Work, tenant: TenantId, id: RoleId) -> Result<Role, Refusal> {
    work.load(&key(tenant, id)).await?.ok_or_else(|| Refusal::not_found("role", id))
}

/// Gives a role another name.
pub async fn rename(work: &Work, role: &mut Role, name: RoleName) -> Result<(), Refusal> {
    check_changeable(role)?;
    let other = name.folded() != role.name.folded();
    if other {
        work.delete(name_key(role.tenant_id, &role.name.folded()))?;
    }
    role.name = name;
    if other { claim(work, role).await } else { Ok(()) }
}

/// Replaces what a role grants. The actor must hold whatever is added.
pub fn set_permissions(role: &mut Role, access: &Access, wanted: BTreeSet<PermissionName>) -> Result<(), Refusal> {
    check_changeable(role)?;
    check_count(&wanted)?;
    may_grant(access, wanted.difference(&role.permissions))?;
    role.permissions = wanted;
    Ok(())
}

/// Stages a role's record.
pub fn save(work: &Work, role: &Role) -> Result<(), WorkError> {
    work.save(key(role.tenant_id, role.id), role)
}

/// Removes a role that nobody has.
pub async fn delete(work: &Work, role: &Role) -> Result<(), Refusal> {
    check_changeable(role)?;
    if membership::has_members(work, role.tenant_id, role.id).await? {
        return Err(Refusal::RoleInUse);
    }
    work.delete(name_key(role.tenant_id, &role.name.folded()))?;
    work.delete(key(role.tenant_id, role.id))?;
    Ok(())
}

/// Nobody can grant what they do not hold: refuses permissions that the actor lacks. A platform permission outside the
/// system tenant is held by nobody, so it is refused here too.
pub fn may_grant<'a>(
    access: &Access,
    permissions: impl IntoIterator<Item = &'a PermissionName>,
) -> Result<(), Refusal> {
    let lacking: Vec<String> =
        permissions.into_iter().filter(|name| !access.holds(name.as_str())).map(ToString::to_string).collect();
    if lacking.is_empty() { Ok(()) } else { Err(Refusal::NotHeld(lacking)) }
}

/// The same for a whole role: only an owner can make an owner.
pub fn may_grant_role(access: &Access, role: &Role) -> Result<(), Refusal> {
    if role.all && !access.owner {
        return Err(Refusal::NotHeld(vec![EVERYTHING.into()]));
    }
    may_grant(access, &role.permissions)
}

fn check_changeable(role: &Role) -> Result<(), Refusal> {
    if role.built_in { Err(Refusal::BuiltIn) } else { Ok(()) }
}

fn check_count(permissions: &BTreeSet<PermissionName>) -> Result<(), Refusal> {
    let most = limit::PERMISSIONS_PER_ROLE_MAX;
    if permissions.len() > most { Err(Refusal::TooMany { what: "permissions in a role", most }) } else { Ok(()) }
}

async fn claim(work: &Work, role: &Role) -> Result<(), Refusal> {
    let folded = role.name.folded();
    if find(work, role.tenant_id, &folded).await?.is_some() {
        return Err(Refusal::taken("role", &role.name));
    }
    work.save(name_key(role.tenant_id, &folded), &role.id)?;
    Ok(())
}
