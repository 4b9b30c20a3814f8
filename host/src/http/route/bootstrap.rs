//! The first tenant and its owner: the operator's own, who holds every permission. Done once, by whoever has the key from
//! the kernel's configuration.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Deserialize;

use crate::audit::{Outcome, Party};
use crate::auth::password::Password;
use crate::auth::throttle::Subject;
use crate::http::input::{Input, InputDocument, Json, Raw};
use crate::http::operation::Operation;
use crate::http::output::Created;
use crate::http::problem::{Code, Problem};
use crate::rbac::name::{Email, Slug};
use crate::rbac::permit::Public;
use crate::rbac::tenant::{Bootstrapped, bootstrapped, system_tenant};
use crate::rbac::user::NewUser;

const HEADER: &str = "x-bootstrap-key";

/// Who the operator is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bootstrap {
    /// Slug of the system tenant.
    pub tenant: Slug,
    /// E-mail address of its owner.
    pub email: Email,
    /// The owner's password.
    pub password: Password,
}

/// The key, and the body that is looked at only when the key is right.
#[derive(Debug)]
pub struct Keyed {
    key: Option<Vec<u8>>,
    body: Result<Json<Bootstrap>, Problem>,
}

impl Input for Keyed {
    fn parse(raw: &Raw) -> Result<Self, Problem> {
        let key = raw.headers.get(HEADER).map(|value| value.as_bytes().to_vec());
        Ok(Self { key, body: Json::parse(raw) })
    }
    fn describe(generator: &mut SchemaGenerator, document: &mut InputDocument) {
        document.headers.push(("X-Bootstrap-Key", "The value of AIBOS_BOOTSTRAP_KEY."));
        Json::<Bootstrap>::describe(generator, document);
    }
}

/// `POST /api/v1/bootstrap`
pub async fn bootstrap(operation: Operation, _public: Public, input: Keyed) -> Result<Created<Bootstrapped>, Problem> {
    check_key(&operation, input.key.as_deref()).await?;
    let Json(body) = input.body?;
    let made = bootstrapped(&operation.work).await?;
    if made.is_some() {
        return Err(Problem::new(
            Code::AlreadyBootstrapped,
            "The system tenant exists; sign in as its owner and make further tenants with POST /api/v1/tenants.",
        ));
    }
    let password_hash = Some(operation.kernel.identity.passwords.hash(body.password).await?);
    let owner = NewUser { email: body.email, display_name: None, password_hash };
    let made = system_tenant(&operation.work, &operation.context, body.tenant, owner).await?;
    operation.acts_as(made.tenant_id, Party::new("operator", "bootstrap-key"));
    operation.target("tenant", made.tenant_id);
    operation.detail("user_id", made.user_id.to_string());
    Ok(Created(made))
}

async fn check_key(operation: &Operation, given: Option<&[u8]>) -> Result<(), Problem> {
    let (kernel, context) = (&operation.kernel, &operation.context);
    let client = [Subject::address(context.client)];
    kernel.identity.throttle.check(&client, kernel.clock.now())?;
    let wanted = kernel.config.bootstrap_key.as_ref().map(|key| key.expose().as_bytes());
    // Hashes have one length, so the comparison tells nothing about the key's.
    let hash = |key: &[u8]| digest(&SHA256, key);
    let right = match (wanted, given) {
        (Some(wanted), Some(given)) => verify_slices_are_equal(hash(wanted).as_ref(), hash(given).as_ref()).is_ok(),
        (None, _) | (_, None) => false,
    };
    if right {
        return Ok(());
    }
    kernel.identity.throttle.failed(&client, kernel.clock.now());
    metrics::counter!("auth_failures_total", "reason" => "bootstrap_key").increment(1);
    kernel.record(context.entry("kernel.bootstrap", Party::new("kernel", "kernel"), Outcome::Denied)).await?;
    Err(Problem::new(
        Code::InvalidCredentials,
        "The header X-Bootstrap-Key must hold the value of AIBOS_BOOTSTRAP_KEY; when that is not set, there is no bootstrap.",
    ))
}
