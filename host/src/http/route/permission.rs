//! The permissions that exist: the kernel's own and those that active cells declare.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::http::input::{Paging, Query};
use crate::http::operation::Operation;
use crate::http::output::{Ok200, Page};
use crate::http::problem::Problem;
use crate::kernel::Kernel;
use crate::rbac::permission::{self, RoleRead, Scope};
use crate::rbac::permit::{Access, Permit};

/// A permission as the API shows it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PermissionView {
    /// The dotted name.
    pub name: String,
    /// Whose objects: `platform` permissions count in the system tenant only.
    pub scope: Scope,
    /// What it allows; null for a cell's.
    pub summary: Option<&'static str>,
    /// Whether the caller holds it, and so can grant it.
    pub held: bool,
}

/// `GET /api/v1/permissions`
pub async fn list(
    operation: Operation,
    permit: Permit<RoleRead>,
    Query(paging): Query<Paging>,
) -> Result<Ok200<Page<PermissionView>>, Problem> {
    let size = paging.size()?;
    let after = paging.cursor.as_deref().unwrap_or_default();
    paging.check_cursor(permission::valid_name)?;
    let known = known(&operation.kernel, permit.access());
    let views = known.into_values().filter(|view| view.name.as_str() > after).take(size as usize + 1).collect();
    Ok(Ok200(Page::cut(views, size, |view| view.name.clone())))
}

/// The names of everything that an actor holds at this moment.
#[must_use]
pub fn effective(kernel: &Kernel, access: &Access) -> Vec<String> {
    let mut names: Vec<String> = known(kernel, access).into_values().filter(|view| view.held).map(|v| v.name).collect();
    names.extend(access.permissions.iter().filter(|name| access.holds(name)).map(ToString::to_string));
    names.sort();
    names.dedup();
    names
}

fn known(kernel: &Kernel, access: &Access) -> BTreeMap<String, PermissionView> {
    let own = permission::ALL.iter().map(|known| (known.name.to_owned(), known.scope, Some(known.summary.trim())));
    let declared = kernel.declared_permissions().into_iter().map(|name| (name, Scope::Tenant, None));
    // The kernel's own come last, so that no cell can redefine one.
    declared
        .chain(own)
        .map(|(name, scope, summary)| {
            let held = access.holds(&name);
            (name.clone(), PermissionView { name, scope, summary, held })
        })
        .collect()
}
