//! Which users have which roles: one key for each pair, and its mirror image, so both questions are a prefix scan.

use serde::{Deserialize, Serialize};

use jiff::Timestamp;

use super::refusal::Refusal;
use super::role::{self, Role};
use super::user::{self, User};
use crate::context::Context;
use crate::id::{RoleId, TenantId, UserId};
use crate::limit;
use crate::state::work::{Work, WorkError};
use crate::state::{Scan, Space, StateKey};

/// A role given to a user.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Grant {
    granted_at: Timestamp,
    granted_by: String,
}

fn by_user(user: UserId) -> String {
    format!("user-role/{user}/")
}

fn by_role(role: RoleId) -> String {
    format!("role-user/{role}/")
}

fn keys(tenant: TenantId, user: UserId, role: RoleId) -> [StateKey; 2] {
    let space = Space::kernel(tenant);
    [space.key(format!("{}{role}", by_user(user))), space.key(format!("{}{user}", by_role(role)))]
}

/// Gives a user a role; giving it again changes nothing. Whoever gives it must hold what it grants: ask
/// [`role::may_grant_role`] first.
pub async fn grant(work: &Work, context: &Context, user: &User, role: &Role) -> Result<(), Refusal> {
    let most = limit::ROLES_PER_USER_MAX;
    let present = role_ids(work, user.tenant_id, user.id).await?;
    if present.contains(&role.id) {
        return Ok(());
    }
    if present.len() >= most as usize {
        return Err(Refusal::TooMany { what: "roles of a user", most: most as usize });
    }
    let grant = Grant { granted_at: context.now, granted_by: context.actor.principal() };
    for key in keys(user.tenant_id, user.id, role.id) {
        work.save(key, &grant)?;
    }
    Ok(())
}

/// Takes a role from a user. The last active owner stays one.
pub async fn revoke(work: &Work, tenant: TenantId, user: UserId, role: &Role) -> Result<(), Refusal> {
    if !role_ids(work, tenant, user).await?.contains(&role.id) {
        return Err(Refusal::not_found("role of this user", role.id));
    }
    if role.all {
        keep_an_owner(work, tenant, user).await?;
    }
    keys(tenant, user, role.id).into_iter().try_for_each(|key| work.delete(key))?;
    Ok(())
}

/// Takes every role from a user.
pub async fn revoke_all(work: &Work, tenant: TenantId, user: UserId) -> Result<(), WorkError> {
    for role in role_ids(work, tenant, user).await? {
        keys(tenant, user, role).into_iter().try_for_each(|key| work.delete(key))?;
    }
    Ok(())
}

/// The roles of a user.
pub async fn roles(work: &Work, tenant: TenantId, user: UserId) -> Result<Vec<Role>, Refusal> {
    let mut roles = Vec::new();
    for id in role_ids(work, tenant, user).await? {
        roles.push(role::load(work, tenant, id).await?);
    }
    Ok(roles)
}

/// Whether any user has a role.
pub async fn has_members(work: &Work, tenant: TenantId, role: RoleId) -> Result<bool, WorkError> {
    Ok(!members(work, tenant, role, None, 1).await?.is_empty())
}

/// Refuses when this user is the only active owner of the tenant, and so must stay active and an owner.
pub async fn keep_an_owner(work: &Work, tenant: TenantId, leaving: UserId) -> Result<(), Refusal> {
    let Some(owner) = role::find(work, tenant, role::OWNER).await? else { return Ok(()) };
    if !role_ids(work, tenant, leaving).await?.contains(&owner) {
        return Ok(());
    }
    let mut after = None;
    loop {
        let page = members(work, tenant, owner, after, limit::PAGE_MAX).await?;
        let Some(last) = page.last() else { return Err(Refusal::LastOwner) };
        after = Some(*last);
        for other in page.into_iter().filter(|other| *other != leaving) {
            if user::load(work, tenant, other).await?.status == user::Status::Active {
                return Ok(());
            }
        }
    }
}

async fn role_ids(work: &Work, tenant: TenantId, user: UserId) -> Result<Vec<RoleId>, WorkError> {
    let prefix = by_user(user);
    let scan =
        Scan { space: Space::kernel(tenant), prefix: prefix.clone(), after: None, limit: limit::ROLES_PER_USER_MAX };
    work.list(&scan).await?.into_iter().map(|(key, _)| tail(&key, &prefix)).collect()
}

async fn members(
    work: &Work,
    tenant: TenantId,
    role: RoleId,
    after: Option<UserId>,
    limit: u32,
) -> Result<Vec<UserId>, WorkError> {
    let prefix = by_role(role);
    let after = after.map(|user| format!("{prefix}{user}"));
    let scan = Scan { space: Space::kernel(tenant), prefix: prefix.clone(), after, limit };
    work.list(&scan).await?.into_iter().map(|(key, _)| tail(&key, &prefix)).collect()
}

/// The id that a key ends in.
fn tail<T: std::str::FromStr>(key: &str, prefix: &str) -> Result<T, WorkError> {
    key.strip_prefix(prefix).and_then(|id| id.parse().ok()).ok_or_else(|| WorkError::CorruptRecord(key.to_owned()))
}
