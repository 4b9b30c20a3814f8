//! Routes: those of manifests, and those that operators add.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cell::catalog::{CellRecord, RouteRecord};
use crate::cell::manifest::{Idempotency, Manifest, check_methods};
use crate::cell::pattern::Pattern;
use crate::cell::registry::{cell_key, platform, version_key};
use crate::cell::version::VersionRecord;
use crate::gateway::resolve::{self, Candidate};
use crate::http::input::{Json, Paging, Path, Query};
use crate::http::operation::Operation;
use crate::http::output::{Created, NoContent, Ok200, Page};
use crate::http::problem::{Code, Problem};
use crate::id::RouteId;
use crate::limit;
use crate::rbac::permission::{self, RouteRead, RouteWrite};
use crate::rbac::permit::{PUBLIC, Permit};
use crate::state::{Scan, StateKey};

/// Names a route of an operator.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct RoutePath {
    /// Its id.
    pub id: RouteId,
}

/// A route to add.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRoute {
    /// The pattern: `{name}` is one segment, `{*rest}` the rest.
    pub route: String,
    /// Upper-case methods.
    pub methods: Vec<String>,
    /// The cell that answers.
    pub cell: String,
    /// The permission asked for, or `public`.
    pub permission: String,
    /// What becomes of `Idempotency-Key`.
    #[serde(default)]
    pub idempotency: Idempotency,
}

/// A route as the API shows it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RouteView {
    /// Its id; none for a route of a manifest.
    pub id: Option<RouteId>,
    /// The pattern.
    pub route: String,
    /// Methods.
    pub methods: Vec<String>,
    /// The cell that answers.
    pub cell: String,
    /// The permission asked for, or `public`.
    pub permission: String,
    /// What becomes of `Idempotency-Key`.
    pub idempotency: Idempotency,
    /// `manifest` or `operator`.
    pub source: &'static str,
}

/// `GET /api/v1/routes`
pub async fn list(
    operation: Operation,
    _permit: Permit<RouteRead>,
    Query(paging): Query<Paging>,
) -> Result<Ok200<Page<RouteView>>, Problem> {
    let size = paging.size()?;
    paging.check_cursor(|cursor| cursor.split_once(' ').is_some_and(|(route, _)| Pattern::parse(route).is_ok()))?;
    let catalog = std::sync::Arc::clone(&operation.kernel.live.load().catalog);
    let manifests = catalog.cells.values().flat_map(|cell| {
        let name = cell.version.reference.name.clone();
        cell.version.manifest.trigger.http.iter().map(move |trigger| RouteView {
            id: None,
            route: trigger.route.as_str().to_owned(),
            methods: trigger.methods.clone(),
            cell: name.clone(),
            permission: trigger.permission.clone(),
            idempotency: trigger.idempotency,
            source: "manifest",
        })
    });
    let mut views: Vec<RouteView> = manifests.chain(catalog.routes.iter().cloned().map(view)).collect();
    views.sort_by_key(order);
    views.retain(|view| paging.cursor.as_ref().is_none_or(|cursor| order(view) > *cursor));
    Ok(Ok200(Page::cut(views, size, order)))
}

/// `POST /api/v1/routes`
pub async fn create(
    operation: Operation,
    _permit: Permit<RouteWrite>,
    Json(body): Json<NewRoute>,
) -> Result<Created<RouteView>, Problem> {
    let pattern = Pattern::parse(&body.route).map_err(|message| Problem::invalid("/route", message))?;
    if pattern.reserved() {
        return Err(Problem::invalid("/route", "the path is the kernel's own; start with another literal segment"));
    }
    let mut faults = Vec::new();
    check_methods("methods", &body.methods, &mut faults);
    if let Some(fault) = faults.into_iter().next() {
        return Err(Problem::invalid("/methods", fault));
    }
    if body.permission != PUBLIC && !permission::valid_name(&body.permission) {
        return Err(Problem::invalid("/permission", "must be dotted lower-case words, or `public`"));
    }
    if operation.work.load::<CellRecord>(&cell_key(&body.cell)).await?.is_none() {
        return Err(Problem::invalid("/cell", format!("there is no cell {:?}; upload it first", body.cell)));
    }
    let record = RouteRecord {
        id: RouteId::new(&operation.context.clock),
        route: pattern,
        methods: body.methods,
        cell: body.cell,
        permission: body.permission,
        idempotency: body.idempotency,
        created_at: operation.context.now,
    };
    check(&operation, None, Some(&record)).await?;
    operation.work.save(route_key(record.id), &record)?;
    operation.target("route", record.id);
    operation.detail("route", record.route.as_str());
    operation.detail("cell", record.cell.as_str());
    operation.detail("permission", record.permission.as_str());
    Ok(Created(view(record)))
}

/// `DELETE /api/v1/routes/{id}`
pub async fn delete(
    operation: Operation,
    _permit: Permit<RouteWrite>,
    Path(path): Path<RoutePath>,
) -> Result<NoContent, Problem> {
    let key = route_key(path.id);
    let record = operation.work.load::<RouteRecord>(&key).await?;
    let record = record.ok_or_else(|| Problem::not_found("route", path.id))?;
    operation.work.delete(key)?;
    operation.target("route", path.id);
    operation.detail("route", record.route.as_str());
    Ok(NoContent)
}

/// Removes the routes that operators gave a cell.
pub async fn delete_of(operation: &Operation, cell: &str) -> Result<(), Problem> {
    for route in all::<RouteRecord>(operation, "route/").await? {
        if route.cell == cell {
            operation.work.delete(route_key(route.id))?;
        }
    }
    Ok(())
}

/// Refuses a manifest or a route that would make two routes match one request. Everything is read through the unit of work,
/// so that two operators at once cannot both be right.
pub async fn check(
    operation: &Operation,
    manifest: Option<&Manifest>,
    route: Option<&RouteRecord>,
) -> Result<(), Problem> {
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut manifests = active_manifests(operation).await?;
    if let Some(manifest) = manifest {
        manifests.insert(manifest.cell.name.clone(), manifest.clone());
    }
    candidates.extend(manifests.values().flat_map(resolve::candidates_of));
    let stored = all::<RouteRecord>(operation, "route/").await?;
    candidates.extend(stored.iter().chain(route).map(resolve::candidate_of));
    resolve::check_conflicts(&candidates)
        .map_err(|conflict| Problem::new(Code::RouteConflict, format!("{conflict}; change or remove one of them.")))
}

/// The manifests of all active versions, by cell.
async fn active_manifests(operation: &Operation) -> Result<HashMap<String, Manifest>, Problem> {
    let cells = all::<CellRecord>(operation, "cell/").await?;
    let active: Vec<(String, String)> =
        cells.into_iter().filter_map(|cell| cell.active.map(|version| (cell.name, version))).collect();
    let mut manifests = HashMap::with_capacity(active.len());
    for (name, version) in active {
        let Some(record) = operation.work.load::<VersionRecord>(&version_key(&name, &version)).await? else { continue };
        manifests.insert(name, Manifest::parse(&record.manifest).map_err(|faults| Problem::internal_all(&faults))?);
    }
    Ok(manifests)
}

async fn all<T: serde::de::DeserializeOwned>(operation: &Operation, prefix: &str) -> Result<Vec<T>, Problem> {
    let mut scan = Scan { space: platform(), prefix: prefix.to_owned(), after: None, limit: limit::STATE_PAGE_MAX };
    let mut records = Vec::new();
    loop {
        let page = operation.work.load_page::<T>(&scan).await?;
        let full = page.len() >= limit::STATE_PAGE_MAX as usize;
        scan.after = page.last().map(|(key, _)| key.clone());
        records.extend(page.into_iter().map(|(_, record)| record));
        if !full {
            return Ok(records);
        }
    }
}

fn route_key(id: RouteId) -> StateKey {
    platform().key(format!("route/{id}"))
}

fn order(view: &RouteView) -> String {
    format!("{} {}", view.route, view.methods.join(","))
}

fn view(record: RouteRecord) -> RouteView {
    RouteView {
        id: Some(record.id),
        route: record.route.as_str().to_owned(),
        methods: record.methods,
        cell: record.cell,
        permission: record.permission,
        idempotency: record.idempotency,
        source: "operator",
    }
}
