//! Users. An e-mail address names one user of one tenant; the same address may name another user elsewhere.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::membership;
use super::name::{DisplayName, Email};
use super::refusal::Refusal;
use crate::auth::password::PasswordHash;
use crate::auth::session;
use crate::context::Context;
use crate::id::{TenantId, UserId};
use crate::limit;
use crate::state::work::{Work, WorkError};
use crate::state::{Scan, Space, StateKey};

/// Prefix of the records.
pub const PREFIX: &str = "user/";

/// Whether a user may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "UserStatus")]
pub enum Status {
    /// May.
    Active,
    /// May not sign in, and every token is refused.
    Disabled,
}

/// A user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct User {
    /// Id.
    pub id: UserId,
    /// The tenant.
    pub tenant_id: TenantId,
    /// Names the user in a sign-in.
    pub email: Email,
    /// Screen name.
    pub display_name: Option<DisplayName>,
    /// None: cannot sign in with a password.
    pub password_hash: Option<PasswordHash>,
    /// Whether the user may act.
    pub status: Status,
    /// Raised when every sign-in so far must end: a new password, a disabled user.
    pub session_epoch: u32,
    /// When the user was made.
    pub created_at: Timestamp,
}

/// What a new user is made of.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Names the user in a sign-in.
    pub email: Email,
    /// Screen name.
    pub display_name: Option<DisplayName>,
    /// The hash of the first password.
    pub password_hash: Option<PasswordHash>,
}

/// The key of a user's record.
#[must_use]
pub fn key(tenant: TenantId, id: UserId) -> StateKey {
    Space::kernel(tenant).key(format!("{PREFIX}{id}"))
}

fn email_key(tenant: TenantId, email: &Email) -> StateKey {
    Space::kernel(tenant).key(format!("user-email/{email}"))
}

/// Makes a user without roles.
pub async fn create(work: &Work, context: &Context, tenant: TenantId, new: NewUser) -> Result<User, Refusal> {
    let user = User {
        id: UserId::new(&context.clock),
        tenant_id: tenant,
        email: new.email,
        display_name: new.display_name,
        password_hash: new.password_hash,
        status: Status::Active,
        session_epoch: 0,
        created_at: context.now,
    };
    claim(work, &user).await?;
    save(work, &user)?;
    Ok(user)
}

/// The user of an e-mail address.
pub async fn find(work: &Work, tenant: TenantId, email: &Email) -> Result<Option<UserId>, WorkError> {
    work.load(&email_key(tenant, email)).await
}

/// A user.
pub async fn load(work: &Work, tenant: TenantId, id: UserId) -> Result<User, Refusal> {
    work.load(&key(tenant, id)).await?.ok_or_else(|| Refusal::not_found("user", id))
}

/// Gives a user another e-mail address.
pub async fn set_email(work: &Work, user: &mut User, email: Email) -> Result<(), Refusal> {
    if email == user.email {
        return Ok(());
    }
    work.delete(email_key(user.tenant_id, &user.email))?;
    user.email = email;
    claim(work, user).await
}

/// Disables a user, which ends all sessions for good, or lets the user act again.
pub async fn set_status(work: &Work, user: &mut User, status: Status) -> Result<(), Refusal> {
    if user.status == Status::Active && status == Status::Disabled {
        membership::keep_an_owner(work, user.tenant_id, user.id).await?;
        user.session_epoch = user.session_epoch.saturating_add(1);
    }
    user.status = status;
    Ok(())
}

/// Sets a password, which ends all sessions.
pub fn set_password(user: &mut User, hash: PasswordHash) {
    user.password_hash = Some(hash);
    user.session_epoch = user.session_epoch.saturating_add(1);
}

/// Stages a user's record.
pub fn save(work: &Work, user: &User) -> Result<(), WorkError> {
    work.save(key(user.tenant_id, user.id), user)
}

/// Removes a user with its memberships and sessions.
pub async fn delete(work: &Work, user: &User) -> Result<(), Refusal> {
    membership::keep_an_owner(work, user.tenant_id, user.id).await?;
    membership::revoke_all(work, user.tenant_id, user.id).await?;
    let space = Space::kernel(user.tenant_id);
    let scan = Scan {
        space: space.clone(),
        prefix: session::prefix(user.id),
        after: None,
        // What lies beyond is dead without its user all the same.
        limit: limit::PAGE_MAX,
    };
    for (key, _) in work.list(&scan).await? {
        work.delete(space.key(key))?;
    }
    work.delete(email_key(user.tenant_id, &user.email))?;
    work.delete(key(user.tenant_id, user.id))?;
    Ok(())
}

async fn claim(work: &Work, user: &User) -> Result<(), Refusal> {
    if find(work, user.tenant_id, &user.email).await?.is_some() {
        return Err(Refusal::taken("user", &user.email));
    }
    work.save(email_key(user.tenant_id, &user.email), &user.id)?;
    Ok(())
}
