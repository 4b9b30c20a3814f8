//! Users of the caller's own tenant: their records, passwords and roles.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::role::RoleReference;
use crate::auth::password::Password;
use crate::http::input::{Json, Paging, Path, Query, present};
use crate::http::operation::Operation;
use crate::http::output::{Created, NoContent, Ok200, Page};
use crate::http::problem::Problem;
use crate::id::{RoleId, TenantId, UserId};
use crate::rbac::name::{DisplayName, Email};
use crate::rbac::permission::{UserRead, UserWrite};
use crate::rbac::permit::Permit;
use crate::rbac::user::{self, NewUser, Status, User};
use crate::rbac::{membership, role};
use crate::state::Space;

/// A user as the API shows it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct UserView {
    /// Id.
    pub id: UserId,
    /// The tenant.
    pub tenant_id: TenantId,
    /// Names the user in a sign-in.
    pub email: Email,
    /// Screen name.
    pub display_name: Option<DisplayName>,
    /// Whether the user may act.
    pub status: Status,
    /// Whether the user can sign in with a password.
    pub has_password: bool,
    /// When the user was made.
    pub created_at: Timestamp,
}

/// A user with its roles.
#[derive(Debug, Serialize, JsonSchema)]
pub struct UserWithRoles {
    /// The user.
    #[serde(flatten)]
    pub user: UserView,
    /// The roles.
    pub roles: Vec<RoleReference>,
}

/// A user to be made, without roles.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserInput {
    /// Names the user in a sign-in; unique in the tenant.
    pub email: Email,
    /// Without one the user cannot sign in until a password is set.
    #[serde(default)]
    pub password: Option<Password>,
    /// Screen name.
    #[serde(default)]
    pub display_name: Option<DisplayName>,
}

/// What changes; what is absent stays.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserChange {
    /// Names the user in a sign-in.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Email")]
    pub email: Option<Email>,
    /// Screen name; null removes it.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Option<DisplayName>")]
    pub display_name: Option<Option<DisplayName>>,
    /// `disabled` ends every session of the user at once.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Status")]
    pub status: Option<Status>,
}

/// A password to be set.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordInput {
    /// The new password.
    pub password: Password,
}

/// Which user.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct UserPath {
    /// The user's id.
    pub id: UserId,
}

/// Which role of which user.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct MembershipPath {
    /// The user's id.
    pub id: UserId,
    /// The role's id.
    pub role_id: RoleId,
}

/// `GET /api/v1/users`
pub async fn list(
    operation: Operation,
    permit: Permit<UserRead>,
    Query(paging): Query<Paging>,
) -> Result<Ok200<Page<UserView>>, Problem> {
    let scan = paging.scan::<UserId>(Space::kernel(permit.access().tenant), user::PREFIX)?;
    let users = operation.work.load_page::<User>(&scan).await?;
    let views = users.into_iter().map(|(_, user)| UserView::from(user)).collect();
    Ok(Ok200(Page::cut(views, paging.size()?, |user| user.id.to_string())))
}

/// `POST /api/v1/users`
pub async fn create(
    operation: Operation,
    permit: Permit<UserWrite>,
    Json(body): Json<UserInput>,
) -> Result<Created<UserView>, Problem> {
    let password_hash = match body.password {
        Some(password) => Some(operation.kernel.identity.passwords.hash(password).await?),
        None => None,
    };
    let new = NewUser { email: body.email, display_name: body.display_name, password_hash };
    let user = user::create(&operation.work, &operation.context, permit.access().tenant, new).await?;
    operation.target("user", user.id);
    operation.detail("email", user.email.as_str());
    Ok(Created(user.into()))
}

/// `GET /api/v1/users/{id}`
pub async fn read(
    operation: Operation,
    permit: Permit<UserRead>,
    Path(path): Path<UserPath>,
) -> Result<Ok200<UserWithRoles>, Problem> {
    let tenant = permit.access().tenant;
    let user = user::load(&operation.work, tenant, path.id).await?;
    let roles = membership::roles(&operation.work, tenant, path.id).await?;
    Ok(Ok200(UserWithRoles { user: user.into(), roles: roles.iter().map(RoleReference::from).collect() }))
}

/// `PATCH /api/v1/users/{id}`
pub async fn update(
    operation: Operation,
    permit: Permit<UserWrite>,
    (Path(path), Json(change)): (Path<UserPath>, Json<UserChange>),
) -> Result<Ok200<UserView>, Problem> {
    let work = &operation.work;
    let mut user = user::load(work, permit.access().tenant, path.id).await?;
    operation.target("user", user.id);
    if let Some(email) = change.email {
        operation.detail("email", email.as_str());
        user::set_email(work, &mut user, email).await?;
    }
    if let Some(display_name) = change.display_name {
        operation.detail("display_name", display_name.as_ref().map(DisplayName::as_str));
        user.display_name = display_name;
    }
    if let Some(status) = change.status {
        operation.detail("status", serde_json::to_value(status).unwrap_or_default());
        user::set_status(work, &mut user, status).await?;
    }
    user::save(work, &user)?;
    Ok(Ok200(user.into()))
}

/// `DELETE /api/v1/users/{id}`
pub async fn delete(
    operation: Operation,
    permit: Permit<UserWrite>,
    Path(path): Path<UserPath>,
) -> Result<NoContent, Problem> {
    let user = user::load(&operation.work, permit.access().tenant, path.id).await?;
    user::delete(&operation.work, &user).await?;
    operation.target("user", user.id);
    operation.detail("email", user.email.as_str());
    Ok(NoContent)
}

/// `PUT /api/v1/users/{id}/password`: ends every session of the user. Whoever sets a password could sign in with it, so they
/// must hold everything that the user holds.
pub async fn set_password(
    operation: Operation,
    permit: Permit<UserWrite>,
    (Path(path), Json(body)): (Path<UserPath>, Json<PasswordInput>),
) -> Result<NoContent, Problem> {
    let tenant = permit.access().tenant;
    let mut user = user::load(&operation.work, tenant, path.id).await?;
    for role in membership::roles(&operation.work, tenant, path.id).await? {
        role::may_grant_role(permit.access(), &role)?;
    }
    user::set_password(&mut user, operation.kernel.identity.passwords.hash(body.password).await?);
    user::save(&operation.work, &user)?;
    operation.target("user", user.id);
    Ok(NoContent)
}

/// `PUT /api/v1/users/{id}/roles/{role_id}`
pub async fn grant_role(
    operation: Operation,
    permit: Permit<UserWrite>,
    Path(path): Path<MembershipPath>,
) -> Result<NoContent, Problem> {
    let (work, tenant) = (&operation.work, permit.access().tenant);
    let user = user::load(work, tenant, path.id).await?;
    let role = role::load(work, tenant, path.role_id).await?;
    role::may_grant_role(permit.access(), &role)?;
    membership::grant(work, &operation.context, &user, &role).await?;
    operation.target("user", user.id);
    operation.detail("role_id", role.id.to_string());
    operation.detail("role", role.name.as_str());
    Ok(NoContent)
}

/// `DELETE /api/v1/users/{id}/roles/{role_id}`
pub async fn revoke_role(
    operation: Operation,
    permit: Permit<UserWrite>,
    Path(path): Path<MembershipPath>,
) -> Result<NoContent, Problem> {
    let (work, tenant) = (&operation.work, permit.access().tenant);
    let user = user::load(work, tenant, path.id).await?;
    let role = role::load(work, tenant, path.role_id).await?;
    membership::revoke(work, tenant, user.id, &role).await?;
    operation.target("user", user.id);
    operation.detail("role_id", role.id.to_string());
    operation.detail("role", role.name.as_str());
    Ok(NoContent)
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            tenant_id: user.tenant_id,
            email: user.email,
            display_name: user.display_name,
            status: user.status,
            has_password: user.password_hash.is_some(),
            created_at: user.created_at,
        }
    }
}
