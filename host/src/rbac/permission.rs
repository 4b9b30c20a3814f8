//! The kernel's own permissions. Cells declare theirs in their manifests; both kinds are plain dotted names in a role.

use schemars::JsonSchema;
use serde::Serialize;

/// Whose objects a permission is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Cells, routes, tenants, faults, signing keys: the system tenant's alone.
    Platform,
    /// Everything that belongs to one tenant.
    Tenant,
}

/// A permission as a type, so that a handler's signature names what it needs.
pub trait Permission: Send + Sync + 'static {
    /// The dotted name.
    const NAME: &'static str;
    /// Whose objects.
    const SCOPE: Scope;
}

/// A permission as a line of a list.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The dotted name.
    pub name: &'static str,
    /// Whose objects.
    pub scope: Scope,
    /// What it allows.
    pub summary: &'static str,
}

macro_rules! permissions {
    ($(#[doc = $doc:literal] $type:ident = $name:literal, $scope:ident;)+) => {
        $(
            #[doc = $doc]
            #[derive(Debug)]
            pub struct $type;
            impl Permission for $type {
                const NAME: &'static str = $name;
                const SCOPE: Scope = Scope::$scope;
            }
        )+
        /// Every permission of the kernel.
        pub const ALL: &[Known] = &[$(Known { name: $name, scope: Scope::$scope, summary: $doc }),+];
    };
}

permissions! {
    /// See tenants.
    TenantRead = "kernel.tenant.read", Platform;
    /// Make, rename and suspend tenants.
    TenantWrite = "kernel.tenant.write", Platform;
    /// See users.
    UserRead = "kernel.user.read", Tenant;
    /// Make, change and remove users, set their passwords, give them roles.
    UserWrite = "kernel.user.write", Tenant;
    /// See roles and permissions.
    RoleRead = "kernel.role.read", Tenant;
    /// Make, change and remove roles.
    RoleWrite = "kernel.role.write", Tenant;
    /// Publish events.
    EventPublish = "kernel.event.publish", Tenant;
    /// Read events.
    EventRead = "kernel.event.read", Tenant;
    /// Read the audit log.
    AuditRead = "kernel.audit.read", Tenant;
    /// See cells, their versions and traps.
    CellRead = "kernel.cell.read", Platform;
    /// Upload and activate cells.
    CellDeploy = "kernel.cell.deploy", Platform;
    /// Restart, quarantine and release cells, and give them settings and secrets.
    CellOperate = "kernel.cell.operate", Platform;
    /// See routes.
    RouteRead = "kernel.route.read", Platform;
    /// Add and remove routes.
    RouteWrite = "kernel.route.write", Platform;
    /// See what the tenant's calls of cells used.
    UsageRead = "kernel.usage.read", Tenant;
    /// Inject faults.
    ChaosInject = "kernel.chaos.inject", Platform;
}

/// Whether a dotted name is only the system tenant's to hold.
#[must_use]
pub fn is_platform(name: &str) -> bool {
    ALL.iter().any(|known| known.name == name && known.scope == Scope::Platform)
}

/// Whether a text may name a permission: two to six dotted lower-case words, at most 128 characters.
#[must_use]
pub fn valid_name(name: &str) -> bool {
    let words = name.split('.').count();
    (2..=6).contains(&words) && crate::event::valid_type(name)
}
