//! Roles of the caller's own tenant.

use std::collections::BTreeSet;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::http::input::{Json, Paging, Path, Query, present};
use crate::http::operation::Operation;
use crate::http::output::{Created, NoContent, Ok200, Page};
use crate::http::problem::Problem;
use crate::id::RoleId;
use crate::rbac::name::{PermissionName, RoleName};
use crate::rbac::permission::{RoleRead, RoleWrite};
use crate::rbac::permit::Permit;
use crate::rbac::role::{self, Role};
use crate::state::Space;

/// A role as the API shows it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RoleView {
    /// Id.
    pub id: RoleId,
    /// Unique in the tenant.
    pub name: RoleName,
    /// What it grants.
    pub permissions: BTreeSet<PermissionName>,
    /// Whether it grants everything, present and future: the role `owner`.
    pub all: bool,
    /// Whether it came with the tenant and cannot be changed.
    pub built_in: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A role by its id and name.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RoleReference {
    /// Id.
    pub id: RoleId,
    /// Name.
    pub name: RoleName,
}

/// A role to be made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleInput {
    /// Unique in the tenant, whatever the case.
    pub name: RoleName,
    /// What it grants. Only permissions that the caller holds; they may be of cells that are not uploaded yet.
    #[serde(default)]
    pub permissions: BTreeSet<PermissionName>,
}

/// What changes; what is absent stays.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleChange {
    /// Another name.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "RoleName")]
    pub name: Option<RoleName>,
}

/// Everything that a role grants.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RolePermissions {
    /// Replaces what the role granted. Only permissions that the caller holds can be added.
    pub permissions: BTreeSet<PermissionName>,
}

/// Which role.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct RolePath {
    /// The role's id.
    pub id: RoleId,
}

/// `GET /api/v1/roles`
pub async fn list(
    operation: Operation,
    permit: Permit<RoleRead>,
    Query(paging): Query<Paging>,
) -> Result<Ok200<Page<RoleView>>, Problem> {
    let scan = paging.scan::<RoleId>(Space::kernel(permit.access().tenant), role::PREFIX)?;
    let roles = operation.work.load_page::<Role>(&scan).await?;
    let views = roles.into_iter().map(|(_, role)| RoleView::from(role)).collect();
    Ok(Ok200(Page::cut(views, paging.size()?, |role| role.id.to_string())))
}

/// `POST /api/v1/roles`
pub async fn create(
    operation: Operation,
    permit: Permit<RoleWrite>,
    Json(body): Json<RoleInput>,
) -> Result<Created<RoleView>, Problem> {
    role::may_grant(permit.access(), &body.permissions)?;
    let tenant = permit.access().tenant;
    let role = role::create(&operation.work, &operation.context, tenant, body.name, body.permissions).await?;
    operation.target("role", role.id);
    operation.detail("name", role.name.as_str());
    operation.detail("permissions", names(&role.permissions));
    Ok(Created(role.into()))
}

/// `GET /api/v1/roles/{id}`
pub async fn read(
    operation: Operation,
    permit: Permit<RoleRead>,
    Path(path): Path<RolePath>,
) -> Result<Ok200<RoleView>, Problem> {
    Ok(Ok200(role::load(&operation.work, permit.access().tenant, path.id).await?.into()))
}

/// `PATCH /api/v1/roles/{id}`
pub async fn update(
    operation: Operation,
    permit: Permit<RoleWrite>,
    (Path(path), Json(change)): (Path<RolePath>, Json<RoleChange>),
) -> Result<Ok200<RoleView>, Problem> {
    let mut role = role::load(&operation.work, permit.access().tenant, path.id).await?;
    operation.target("role", role.id);
    if let Some(name) = change.name {
        operation.detail("name", name.as_str());
        role::rename(&operation.work, &mut role, name).await?;
    }
    role::save(&operation.work, &role)?;
    Ok(Ok200(role.into()))
}

/// `DELETE /api/v1/roles/{id}`
pub async fn delete(
    operation: Operation,
    permit: Permit<RoleWrite>,
    Path(path): Path<RolePath>,
) -> Result<NoContent, Problem> {
    let role = role::load(&operation.work, permit.access().tenant, path.id).await?;
    role::delete(&operation.work, &role).await?;
    operation.target("role", role.id);
    operation.detail("name", role.name.as_str());
    Ok(NoContent)
}

/// `PUT /api/v1/roles/{id}/permissions`
pub async fn set_permissions(
    operation: Operation,
    permit: Permit<RoleWrite>,
    (Path(path), Json(body)): (Path<RolePath>, Json<RolePermissions>),
) -> Result<Ok200<RoleView>, Problem> {
    let mut role = role::load(&operation.work, permit.access().tenant, path.id).await?;
    let before = role.permissions.clone();
    role::set_permissions(&mut role, permit.access(), body.permissions)?;
    role::save(&operation.work, &role)?;
    operation.target("role", role.id);
    operation.detail("added", names(role.permissions.difference(&before)));
    operation.detail("removed", names(before.difference(&role.permissions)));
    Ok(Ok200(role.into()))
}

fn names<'a>(permissions: impl IntoIterator<Item = &'a PermissionName>) -> Value {
    permissions.into_iter().map(PermissionName::as_str).collect()
}

impl From<Role> for RoleView {
    fn from(role: Role) -> Self {
        Self {
            id: role.id,
            name: role.name,
            permissions: role.permissions,
            all: role.all,
            built_in: role.built_in,
            created_at: role.created_at,
        }
    }
}

impl From<&Role> for RoleReference {
    fn from(role: &Role) -> Self {
        Self { id: role.id, name: role.name.clone() }
    }
}
