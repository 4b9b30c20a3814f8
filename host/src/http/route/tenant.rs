//! Tenants: the operator's business alone.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::password::Password;
use crate::http::input::{Json, Paging, Path, Query, present};
use crate::http::operation::Operation;
use crate::http::output::{Created, Ok200, Page};
use crate::http::problem::Problem;
use crate::id::{TenantId, UserId};
use crate::rbac::name::{Email, Slug, TenantName};
use crate::rbac::permission::{TenantRead, TenantWrite};
use crate::rbac::permit::Permit;
use crate::rbac::tenant::{self, Status, Tenant};
use crate::rbac::user::NewUser;
use crate::rbac::{membership, user};
use crate::state::Space;

/// A tenant as the API shows it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TenantView {
    /// Id.
    pub id: TenantId,
    /// Names it in a sign-in.
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

/// A new tenant, and its first owner where one was named.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TenantMade {
    /// The tenant.
    #[serde(flatten)]
    pub tenant: TenantView,
    /// The first owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<UserId>,
}

/// A tenant to be made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTenant {
    /// Names it in a sign-in; cannot be changed.
    pub slug: Slug,
    /// Screen name.
    pub name: TenantName,
    /// Its first owner.
    #[serde(default)]
    pub owner: Option<FirstOwner>,
}

/// The first user of a tenant.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirstOwner {
    /// E-mail address.
    pub email: Email,
    /// Password.
    pub password: Password,
}

/// What changes; what is absent stays.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantChange {
    /// Screen name.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "TenantName")]
    pub name: Option<TenantName>,
    /// `suspended` refuses every sign-in and token of the tenant at once.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Status")]
    pub status: Option<Status>,
}

/// Which tenant.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct TenantPath {
    /// The tenant's id.
    pub id: TenantId,
}

/// `GET /api/v1/tenants`
pub async fn list(
    operation: Operation,
    _permit: Permit<TenantRead>,
    Query(paging): Query<Paging>,
) -> Result<Ok200<Page<TenantView>>, Problem> {
    let scan = paging.scan::<TenantId>(Space::kernel(TenantId::PLATFORM), tenant::PREFIX)?;
    let tenants = operation.work.load_page::<Tenant>(&scan).await?;
    let views = tenants.into_iter().map(|(_, tenant)| TenantView::from(tenant)).collect();
    Ok(Ok200(Page::cut(views, paging.size()?, |tenant| tenant.id.to_string())))
}

/// `POST /api/v1/tenants`
pub async fn create(
    operation: Operation,
    _permit: Permit<TenantWrite>,
    Json(body): Json<NewTenant>,
) -> Result<Created<TenantMade>, Problem> {
    let (work, context) = (&operation.work, &operation.context);
    let (tenant, role) = tenant::create(work, context, body.slug, body.name, tenant::Kind::Customer).await?;
    let mut owner_id = None;
    if let Some(owner) = body.owner {
        let password_hash = Some(operation.kernel.identity.passwords.hash(owner.password).await?);
        let new = NewUser { email: owner.email, display_name: None, password_hash };
        let user = user::create(work, context, tenant.id, new).await?;
        membership::grant(work, context, &user, &role).await?;
        operation.detail("owner_id", user.id.to_string());
        owner_id = Some(user.id);
    }
    operation.target("tenant", tenant.id);
    operation.detail("slug", tenant.slug.as_str());
    Ok(Created(TenantMade { tenant: tenant.into(), owner_id }))
}

/// `GET /api/v1/tenants/{id}`
pub async fn read(
    operation: Operation,
    _permit: Permit<TenantRead>,
    Path(path): Path<TenantPath>,
) -> Result<Ok200<TenantView>, Problem> {
    Ok(Ok200(tenant::load(&operation.work, path.id).await?.into()))
}

/// `PATCH /api/v1/tenants/{id}`
pub async fn update(
    operation: Operation,
    _permit: Permit<TenantWrite>,
    (Path(path), Json(change)): (Path<TenantPath>, Json<TenantChange>),
) -> Result<Ok200<TenantView>, Problem> {
    let mut tenant = tenant::load(&operation.work, path.id).await?;
    operation.target("tenant", tenant.id);
    if let Some(name) = change.name {
        operation.detail("name", name.as_str());
        tenant.name = name;
    }
    if let Some(status) = change.status {
        tenant::set_status(&mut tenant, status)?;
        operation.detail("status", serde_json::to_value(status).unwrap_or_default());
    }
    tenant::save(&operation.work, &tenant)?;
    Ok(Ok200(tenant.into()))
}

impl From<Tenant> for TenantView {
    fn from(tenant: Tenant) -> Self {
        Self {
            id: tenant.id,
            slug: tenant.slug,
            name: tenant.name,
            status: tenant.status,
            system: tenant.system,
            created_at: tenant.created_at,
        }
    }
}
