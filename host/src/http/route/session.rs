//! Signing in, and what a signed-in user can see and change of themselves.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::permission::effective;
use super::role::RoleReference;
use super::tenant::TenantView;
use super::user::UserView;
use crate::audit::{Outcome, Party};
use crate::auth::actor::Actor;
use crate::auth::password::{Attempt, Password};
use crate::auth::session::{self, Session};
use crate::auth::throttle::Subject;
use crate::http::input::Json;
use crate::http::operation::Operation;
use crate::http::output::{NoContent, Ok200};
use crate::http::problem::{Code, Problem};
use crate::id::{SessionId, TenantId, UserId};
use crate::rbac::name::{Email, Slug};
use crate::rbac::permit::{Public, SignedIn};
use crate::rbac::tenant::Tenant;
use crate::rbac::tenant::bootstrapped;
use crate::rbac::user::User;
use crate::rbac::{membership, tenant, user};

/// Who wants to sign in. Any text is taken: a malformed name fails like an unknown one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The tenant's slug.
    pub tenant: String,
    /// The user's e-mail address.
    pub email: String,
    /// The password.
    pub password: Attempt,
}

/// A token for the `Authorization` header.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TokenView {
    /// The access token: a JWS of type `at+jwt`.
    pub access_token: String,
    /// Always `Bearer`.
    pub token_type: &'static str,
    /// Life in seconds.
    pub expires_in: u64,
}

/// Who the caller is and may do.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Me {
    /// The tenant.
    pub tenant: TenantView,
    /// The user.
    pub user: UserView,
    /// The roles.
    pub roles: Vec<RoleReference>,
    /// Every permission that the caller holds at this moment.
    pub permissions: Vec<String>,
}

/// A new password.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The present password.
    pub current: Attempt,
    /// The new one.
    pub new: Password,
}

/// `POST /api/v1/auth/login`
pub async fn login(
    operation: Operation,
    _public: Public,
    Json(body): Json<Login>,
) -> Result<Ok200<TokenView>, Problem> {
    let identity = &operation.kernel.identity;
    let account = Subject::account(&body.tenant, &body.email);
    let subjects = [account, Subject::address(operation.context.client)];
    identity.throttle.check(&subjects, operation.kernel.clock.now())?;
    let named = Named::find(&operation, &body).await?;
    let turn = identity.passwords.turn().await?;
    // Asked again once the turn has come: of many guesses at once only as many as there are turns go uncounted.
    identity.throttle.check(&subjects, operation.kernel.clock.now())?;
    let stored = named.user.as_ref().and_then(|user| user.password_hash.clone());
    let right = turn.matches(body.password.clone(), stored).await?;
    match named.may_sign_in(right) {
        Ok(user) => {
            identity.throttle.succeeded(account);
            Ok(Ok200(open_session(&operation, user).await?))
        }
        Err(reason) => {
            identity.throttle.failed(&subjects, operation.kernel.clock.now());
            metrics::counter!("auth_failures_total", "reason" => "credentials").increment(1);
            named.record_failure(&operation, &body, reason).await?;
            Err(Problem::new(Code::InvalidCredentials, "The tenant, the e-mail address or the password is wrong."))
        }
    }
}

/// `GET /api/v1/auth/me`
pub async fn me(operation: Operation, caller: SignedIn, (): ()) -> Result<Ok200<Me>, Problem> {
    let access = caller.access();
    let tenant = tenant::load(&operation.work, access.tenant).await?;
    let user = user::load(&operation.work, access.tenant, access.user).await?;
    let roles = membership::roles(&operation.work, access.tenant, access.user).await?;
    Ok(Ok200(Me {
        tenant: tenant.into(),
        user: user.into(),
        roles: roles.iter().map(RoleReference::from).collect(),
        permissions: effective(&operation.kernel, access),
    }))
}

/// `POST /api/v1/auth/password`: ends every other session of the user.
pub async fn password(
    operation: Operation,
    caller: SignedIn,
    Json(body): Json<PasswordChange>,
) -> Result<NoContent, Problem> {
    let (work, identity) = (&operation.work, &operation.kernel.identity);
    let (tenant_id, user_id) = (caller.access().tenant, caller.access().user);
    operation.target("user", user_id);
    let subject = [Subject::account(&tenant_id.to_string(), &user_id.to_string())];
    let mut user = user::load(work, tenant_id, user_id).await?;
    let turn = identity.passwords.turn().await?;
    identity.throttle.check(&subject, operation.kernel.clock.now())?;
    if !turn.matches(body.current, user.password_hash.clone()).await? {
        identity.throttle.failed(&subject, operation.kernel.clock.now());
        let entry = operation.context.entry("auth.password", Party::new("user", user_id), Outcome::Denied);
        operation.kernel.record(entry).await?;
        return Err(Problem::new(Code::InvalidCredentials, "The current password is wrong."));
    }
    user::set_password(&mut user, identity.passwords.hash(body.new).await?);
    user::save(work, &user)?;
    if let Actor::User { session: own, .. } = operation.context.actor {
        let key = session::key(tenant_id, user_id, own);
        if let Some(mut session) = work.load::<Session>(&key).await? {
            session.epoch = user.session_epoch;
            work.save(key, &session)?;
        }
    }
    Ok(NoContent)
}

/// Whom a sign-in names, as far as they exist.
struct Named {
    tenant: Option<Tenant>,
    user: Option<User>,
    /// Who may read of a failure when there is no such tenant: the operator.
    system: Option<TenantId>,
}

impl Named {
    /// Reads the same keys in the same number whether the names exist or not.
    async fn find(operation: &Operation, body: &Login) -> Result<Self, Problem> {
        let work = &operation.work;
        let nobody = (TenantId::PLATFORM, UserId(uuid::Uuid::nil()));
        let system = bootstrapped(work).await?.map(|made| made.tenant_id);
        let tenant_id = match body.tenant.parse::<Slug>() {
            Ok(slug) => tenant::find(work, &slug).await?,
            Err(_) => None,
        };
        let tenant: Option<Tenant> = work.load(&tenant::key(tenant_id.unwrap_or(nobody.0))).await?;
        let user_id = match body.email.parse::<Email>() {
            Ok(email) => user::find(work, tenant_id.unwrap_or(nobody.0), &email).await?,
            Err(_) => None,
        };
        let user: Option<User> =
            work.load(&user::key(tenant_id.unwrap_or(nobody.0), user_id.unwrap_or(nobody.1))).await?;
        Ok(Self { tenant, user, system })
    }

    /// The user, or the reason that only the audit log tells.
    fn may_sign_in(&self, right: bool) -> Result<&User, &'static str> {
        let tenant = self.tenant.as_ref().ok_or("unknown_tenant")?;
        let user = self.user.as_ref().ok_or("unknown_user")?;
        match (tenant.status, user.status) {
            _ if !right => Err("wrong_password"),
            (tenant::Status::Suspended, _) => Err("tenant_suspended"),
            (_, user::Status::Disabled) => Err("user_disabled"),
            (tenant::Status::Active, user::Status::Active) => Ok(user),
        }
    }

    async fn record_failure(&self, operation: &Operation, body: &Login, reason: &str) -> Result<(), Problem> {
        let shortened = |text: &str| text.chars().take(254).collect::<String>();
        let target = match &self.user {
            Some(user) => Party::new("user", user.id),
            None => Party::new("user", shortened(&body.email)),
        };
        let mut entry = operation.context.entry("auth.login", target, Outcome::Denied);
        if let Some(tenant) = self.tenant.as_ref().map(|tenant| tenant.id).or(self.system) {
            entry.tenant_id = tenant;
        }
        entry.details.insert("tenant".into(), shortened(&body.tenant).into());
        entry.details.insert("email".into(), shortened(&body.email).into());
        entry.details.insert("reason".into(), reason.into());
        entry.details.insert("client".into(), operation.context.client.to_string().into());
        operation.kernel.record(entry).await?;
        Ok(())
    }
}

async fn open_session(operation: &Operation, user: &User) -> Result<TokenView, Problem> {
    let context = &operation.context;
    let session = Session {
        id: SessionId::new(&context.clock),
        user_id: user.id,
        created_at: context.now,
        expires_at: Session::end(context.clock.now()),
        client: context.client,
        epoch: user.session_epoch,
    };
    operation.work.save(session::key(user.tenant_id, user.id, session.id), &session)?;
    session::sweep(&operation.kernel.storage, &operation.work, user.tenant_id, user.id, context.now).await?;
    let issued = operation.kernel.identity.tokens.issue(user.id, user.tenant_id, session.id)?;
    operation.acts_as(user.tenant_id, Party::new("user", user.id));
    operation.target("user", user.id);
    operation.detail("session_id", session.id.to_string());
    operation.detail("client", context.client.to_string());
    Ok(TokenView { access_token: issued.token, token_type: "Bearer", expires_in: issued.expires_in_s })
}
