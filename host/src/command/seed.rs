//! `aibos seed`: the demo. The operator's own tenant, a customer with users and roles, and the finance cells. Everything
//! that exists already is left as it is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::output::{Failure, say};
use super::toolchain::find_cells;
use crate::auth::password::{Password, PasswordHash};
use crate::clock::Clock;
use crate::config::{Config, Overrides, Profile};
use crate::http::operation::{Operation, locally};
use crate::http::problem::Problem;
use crate::http::route::cell::store_version;
use crate::http::route::lifecycle::{Switch, activate_version};
use crate::id::TenantId;
use crate::kernel::Kernel;
use crate::rbac::name::{Email, PermissionName, RoleName, Slug};
use crate::rbac::tenant::{bootstrapped, system_tenant};
use crate::rbac::user::NewUser;
use crate::rbac::{membership, role, tenant, user};

/// Slug of the operator's tenant.
pub const SYSTEM: &str = "system";
/// E-mail address of the operator.
pub const OPERATOR: &str = "operator@system.example";
/// Slug of the customer.
pub const DEMO: &str = "demo";
/// E-mail address of the customer's owner.
pub const OWNER: &str = "owner@demo.example";

/// The customer's other users and what they may do.
const STAFF: [(&str, &str, &[&str]); 2] = [
    (
        "cashier@demo.example",
        "cashier",
        &["finance.payment.execute", "finance.payment.read", "kernel.event.publish", "kernel.event.read"],
    ),
    (
        "auditor@demo.example",
        "auditor",
        &["finance.ledger.read", "finance.payment.read", "kernel.audit.read", "kernel.event.read"],
    ),
];

/// Make the demo tenant, users, roles and cells; again and again without harm.
#[derive(Debug, Args)]
#[command(after_help = "Example: aibos seed --cells target/cells")]
pub struct Seed {
    /// Directory with NAME/NAME.wasm and NAME/cell.toml, as `aibos cell build` leaves them.
    #[arg(long, default_value = "target/cells")]
    cells: PathBuf,
}

/// The passwords of the demo's users, kept so that each start can show them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Of the operator.
    pub operator: String,
    /// Of the customer's users.
    pub demo: String,
}

impl Credentials {
    /// Reads them, or makes and keeps new ones.
    pub fn load_or_create(data_dir: &Path) -> Result<Self, Failure> {
        let file = data_dir.join("demo-credentials.json");
        if let Ok(text) = std::fs::read_to_string(&file) {
            return serde_json::from_str(&text)
                .map_err(|cause| Failure(format!("{}: {cause}; start over with `aibos dev --reset`", file.display())));
        }
        let made = Self { operator: random_password()?, demo: random_password()? };
        crate::config::write_private(&file, serde_json::to_string_pretty(&made)?.as_bytes())?;
        Ok(made)
    }
}

impl Seed {
    /// Runs the command.
    pub async fn run(self) -> Result<(), Failure> {
        let config = Config::load(Profile::Production, &Overrides::default())?;
        let credentials = Credentials::load_or_create(&config.data_dir)?;
        let kernel = Kernel::start(config, Clock::System).await?;
        let done = self.fill(&kernel, &credentials).await;
        kernel.stop().await;
        done
    }

    async fn fill(&self, kernel: &Arc<Kernel>, credentials: &Credentials) -> Result<(), Failure> {
        people(kernel, credentials).await?;
        say(format_args!("tenant {SYSTEM}: {OPERATOR} with the password in demo-credentials.json"))?;
        say(format_args!("tenant {DEMO}: {OWNER} and staff with the password in demo-credentials.json"))?;
        for directory in find_cells(&self.cells)? {
            let text = std::fs::read_to_string(directory.join("cell.toml"))?;
            let name = directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let component = std::fs::read(directory.join(format!("{name}.wasm")))?;
            let signature = std::fs::read_to_string(directory.join(format!("{name}.sig"))).ok();
            let version = install(kernel, &text, &component, signature.as_deref()).await?;
            say(format_args!("cell {name} {version} is active"))?;
        }
        Ok(())
    }
}

/// Makes the tenants, users and roles that are missing.
pub async fn people(kernel: &Arc<Kernel>, credentials: &Credentials) -> Result<(), Failure> {
    let operator = hash(kernel, &credentials.operator).await?;
    let demo = hash(kernel, &credentials.demo).await?;
    locally(kernel, "kernel.seed", async |operation| {
        let mut made = false;
        if bootstrapped(&operation.work).await?.is_none() {
            let (work, context) = (&operation.work, &operation.context);
            system_tenant(work, context, name::<Slug>(SYSTEM)?, new_user(OPERATOR, &operator)?).await?;
            made = true;
        }
        if tenant::find(&operation.work, &name::<Slug>(DEMO)?).await?.is_none() {
            customer(&operation, &demo).await?;
            made = true;
        }
        if !made {
            operation.changes_nothing();
        }
        Ok(())
    })
    .await
    .map_err(|problem| Failure(problem.detail))
}

async fn customer(operation: &Operation, password: &PasswordHash) -> Result<(), Problem> {
    let (work, context) = (&operation.work, &operation.context);
    let slug = name::<Slug>(DEMO)?;
    let title = slug.to_name();
    let (demo, owner) = tenant::create(work, context, slug, title, tenant::Kind::Customer).await?;
    let first = user::create(work, context, demo.id, new_user(OWNER, password)?).await?;
    membership::grant(work, context, &first, &owner).await?;
    for (email, title, permissions) in STAFF {
        staff(operation, demo.id, new_user(email, password)?, title, permissions).await?;
    }
    operation.target("tenant", demo.id);
    Ok(())
}

async fn staff(
    operation: &Operation,
    tenant: TenantId,
    new: NewUser,
    title: &str,
    permissions: &[&str],
) -> Result<(), Problem> {
    let (work, context) = (&operation.work, &operation.context);
    let names = permissions.iter().map(|text| name::<PermissionName>(text)).collect::<Result<BTreeSet<_>, _>>()?;
    let made = role::create(work, context, tenant, name::<RoleName>(title)?, names).await?;
    let user = user::create(work, context, tenant, new).await?;
    Ok(membership::grant(work, context, &user, &made).await?)
}

/// Stores a cell and makes it the one that serves; answers the version. A version that exists with other content gets a
/// sibling whose build metadata names the content.
pub async fn install(
    kernel: &Arc<Kernel>,
    manifest: &str,
    component: &[u8],
    signature: Option<&str>,
) -> Result<String, Failure> {
    match install_as(kernel, manifest, component, signature).await {
        Err(problem) if problem.code == crate::http::problem::Code::VersionExists => {
            install_as(kernel, &sibling(manifest, component)?, component, signature).await
        }
        other => other,
    }
    .map_err(|problem| Failure(problem.detail))
}

async fn install_as(
    kernel: &Arc<Kernel>,
    manifest: &str,
    component: &[u8],
    signature: Option<&str>,
) -> Result<String, Problem> {
    locally(kernel, "cell.upload", async |operation| {
        let record = store_version(&operation, manifest.to_owned(), component.to_vec(), signature).await?;
        activate_version(&operation, &record, Switch::All).await?;
        Ok(record.version)
    })
    .await
}

/// The manifest with `+dev.` and a digest of manifest and component behind its version (semantic versioning, rule 10).
fn sibling(manifest: &str, component: &[u8]) -> Result<String, Failure> {
    let digest = crate::cell::version::digest_of(&[manifest.as_bytes(), component].concat());
    let short = digest.chars().skip("sha256:".len()).take(12).collect::<String>();
    let mut table: toml::Table = manifest.parse()?;
    if let Some(version) = table.get_mut("cell").and_then(|cell| cell.get_mut("version")) {
        let text = version.as_str().unwrap_or_default().to_owned();
        *version = format!("{text}+dev.{short}").into();
    }
    Ok(toml::to_string(&table)?)
}

async fn hash(kernel: &Kernel, password: &str) -> Result<PasswordHash, Failure> {
    let password = Password::try_from(password.to_owned())?;
    Ok(kernel.identity.passwords.hash(password).await?)
}

fn new_user(email: &str, password: &PasswordHash) -> Result<NewUser, Problem> {
    Ok(NewUser { email: name::<Email>(email)?, display_name: None, password_hash: Some(password.clone()) })
}

fn name<T: TryFrom<String>>(text: &str) -> Result<T, Problem>
where
    T::Error: std::fmt::Display,
{
    T::try_from(text.to_owned()).map_err(Problem::internal)
}

/// 120 random bits in letters and digits.
fn random_password() -> Result<String, Failure> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0_u8; 24];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Failure("the system has no randomness".into()))?;
    Ok(bytes.iter().filter_map(|byte| LETTERS.get(usize::from(byte % 32))).map(|letter| char::from(*letter)).collect())
}
