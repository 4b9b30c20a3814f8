//! Tenants. Their records are the platform's; everything inside a tenant is in the tenant's own space.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::membership;
use super::name::{Slug, TenantName};
use super::refusal::Refusal;
use super::role::{self, Role};
use super::user::{self, NewUser};
use crate::context::Context;
use crate::id::{TenantId, UserId};
use crate::state::work::{Work, WorkError};
use crate::state::{Space, StateKey};

/// Prefix of the records.
pub const PREFIX: &str = "tenant/";

/// Whether a tenant's users may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "TenantStatus")]
pub enum Status {
    /// They may.
    Active,
    /// None of them may sign in, and their tokens are refused.
    Suspended,
}

/// A tenant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tenant {
    /// Id.
    pub id: TenantId,
    /// Names it in a sign-in; never changes.
    pub slug: Slug,
    /// Screen name.
    pub name: TenantName,
    /// Whether its users may act.
    pub status: Status,
    /// Whether it is the operator's own.
    pub system: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Whose tenant a new one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The operator's: there is one.
    System,
    /// A customer's.
    Customer,
}

/// The key of a tenant's record.
#[must_use]
pub fn key(id: TenantId) -> StateKey {
    Space::kernel(TenantId::PLATFORM).key(format!("{PREFIX}{id}"))
}

fn slug_key(slug: &Slug) -> StateKey {
    Space::kernel(TenantId::PLATFORM).key(format!("tenant-slug/{slug}"))
}

/// Makes a tenant with its built-in role `owner`.
pub async fn create(
    work: &Work,
    context: &Context,
    slug: Slug,
    name: TenantName,
    kind: Kind,
) -> Result<(Tenant, Role), Refusal> {
    if find(work, &slug).await?.is_some() {
        return Err(Refusal::taken("tenant", slug));
    }
    let tenant = Tenant {
        id: TenantId::new(&context.clock),
        slug,
        name,
        status: Status::Active,
        system: kind == Kind::System,
        created_at: context.now,
    };
    work.save(slug_key(&tenant.slug), &tenant.id)?;
    save(work, &tenant)?;
    let owner = role::create_owner(work, context, tenant.id).await?;
    Ok((tenant, owner))
}

/// The tenant of a slug.
pub async fn find(work: &Work, slug: &Slug) -> Result<Option<TenantId>, WorkError> {
    work.load(&slug_key(slug)).await
}

/// A tenant.
pub async fn load(work: &Work, id: TenantId) -> Result<Tenant, Refusal> {
    work.load(&key(id)).await?.ok_or_else(|| Refusal::not_found("tenant", id))
}

/// Suspends a tenant or lets it act again.
pub fn set_status(tenant: &mut Tenant, status: Status) -> Result<(), Refusal> {
    if tenant.system && status == Status::Suspended {
        return Err(Refusal::SystemTenant);
    }
    tenant.status = status;
    Ok(())
}

/// Stages a tenant's record.
pub fn save(work: &Work, tenant: &Tenant) -> Result<(), WorkError> {
    work.save(key(tenant.id), tenant)
}

/// What the bootstrap made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bootstrapped {
    /// The system tenant.
    pub tenant_id: TenantId,
    /// Its owner.
    pub user_id: UserId,
}

/// Makes the system tenant and its owner, and remembers that it was done. A seed does the same.
pub async fn system_tenant(
    work: &Work,
    context: &Context,
    slug: Slug,
    owner: NewUser,
) -> Result<Bootstrapped, Refusal> {
    let name = slug.to_name();
    let (tenant, role) = create(work, context, slug, name, Kind::System).await?;
    let user = user::create(work, context, tenant.id, owner).await?;
    membership::grant(work, context, &user, &role).await?;
    let made = Bootstrapped { tenant_id: tenant.id, user_id: user.id };
    work.save(record_key(), &made)?;
    Ok(made)
}

/// What the bootstrap made, if it happened.
pub async fn bootstrapped(work: &Work) -> Result<Option<Bootstrapped>, WorkError> {
    work.load(&record_key()).await
}

fn record_key() -> StateKey {
    Space::kernel(TenantId::PLATFORM).key("bootstrap")
}
