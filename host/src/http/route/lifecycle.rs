//! A cell's life after its upload: activate, try on a part of the tenants, roll back, restart, quarantine, release, delete.
//! Each is one record that changes in one commit, with who did it and why; requests in flight finish on the versions that
//! they began on.

use schemars::JsonSchema;
use serde::Deserialize;

use super::cell::{self, CellPath, CellView, VersionView};
use super::{cell_config, cell_route, cell_signature, chaos};
use crate::cell::catalog::{CanaryRecord, CellRecord, Quarantine, QuarantinedBy, RetiredCell};
use crate::cell::counts::LogLine;
use crate::cell::manifest::Manifest;
use crate::cell::registry::{cell_key, retired_key, version_key};
use crate::cell::rejection::{Reason, ReasonCode};
use crate::cell::version::VersionRecord;
use crate::http::input::{Json, OptionalJson, Paging, Path, Query};
use crate::http::operation::Operation;
use crate::http::output::{NoContent, Ok200, Page};
use crate::http::problem::{Code, Problem};
use crate::limit;
use crate::rbac::permission::{CellDeploy, CellOperate, CellRead};
use crate::rbac::permit::Permit;

/// Which version to activate.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Activation {
    /// An uploaded version.
    pub version: String,
    /// Of a hundred tenants, so many use it; the others stay with the active version. All when absent.
    #[serde(default)]
    pub canary_percent: Option<u8>,
    /// Why; kept in the audit log.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Why something is done to a cell; kept in the audit log.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Because {
    /// One sentence.
    pub reason: Option<String>,
}

/// For whom a version begins to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// For everybody.
    All,
    /// For so many of a hundred tenants.
    Canary(u8),
}

/// `POST /api/v1/cells/{name}/activate`
pub async fn activate(
    operation: Operation,
    _permit: Permit<CellDeploy>,
    (Path(path), Json(body)): (Path<CellPath>, Json<Activation>),
) -> Result<Ok200<VersionView>, Problem> {
    let switch = match body.canary_percent {
        None | Some(100) => Switch::All,
        Some(percent @ 1..=99) => Switch::Canary(percent),
        Some(_) => return Err(Problem::invalid("/canary_percent", "must be between 1 and 100")),
    };
    begin(&operation, &path.name, body.reason)?;
    let record = operation.work.load::<VersionRecord>(&version_key(&path.name, &body.version)).await?;
    let record = record.ok_or_else(|| Problem::not_found("version", format!("{} {}", path.name, body.version)))?;
    operation.detail("version", body.version.as_str());
    operation.detail("digest", record.digest.as_str());
    activate_version(&operation, &record, switch).await?;
    let cell = cell::find(&operation, &path.name).await?;
    Ok(Ok200(cell::view(record, &cell)))
}

/// Makes a version serve, unless its routes meet those of others or it cannot read the stored state.
pub async fn activate_version(operation: &Operation, record: &VersionRecord, switch: Switch) -> Result<(), Problem> {
    let mut cell = cell::find(operation, &record.name).await?;
    let manifest = can_serve(operation, record, &cell).await?;
    let is_active = cell.active.as_ref() == Some(&record.version);
    match switch {
        Switch::All if is_active && cell.canary.is_none() => {
            operation.changes_nothing();
            return Ok(());
        }
        Switch::All if is_active => cell.canary = None,
        Switch::All => {
            operation.detail("previous_version", cell.active.clone());
            replace_active(&mut cell, record, &manifest);
            cell.activated_at = Some(operation.context.now);
        }
        Switch::Canary(percent) => {
            begin_canary(operation, &mut cell, record, &manifest, percent).await?;
        }
    }
    operation.changes_something();
    operation.work.save(cell_key(&record.name), &cell)?;
    Ok(())
}

/// The version's manifest, if it could serve as the cell stands.
async fn can_serve(operation: &Operation, record: &VersionRecord, cell: &CellRecord) -> Result<Manifest, Problem> {
    cell_signature::check(operation, &record.digest, &record.manifest, record.signature.as_ref())?;
    let manifest = Manifest::parse(&record.manifest).map_err(|faults| Problem::internal_all(&faults))?;
    cell_route::check(operation, Some(&manifest), None).await?;
    if let Some(format) = cell.formats.iter().find(|format| !manifest.state.reads.contains(format)) {
        return Err(state_format(format!(
            "there is state in format {format}, which {} does not read; add it to [state] reads",
            record.version
        )));
    }
    // Loaded before the commit: an activation that was answered with 200 serves.
    if let Err(reason) = operation.kernel.registry.version(&operation.kernel.storage, record).await? {
        return Err(cell::rejected(vec![Reason::new(ReasonCode::CannotStart, reason)]));
    }
    Ok(manifest)
}

fn replace_active(cell: &mut CellRecord, record: &VersionRecord, manifest: &Manifest) {
    cell.history.retain(|version| *version != record.version);
    if let Some(previous) = cell.active.replace(record.version.clone()) {
        cell.history.push(previous);
    }
    if cell.history.len() > limit::HISTORY_MAX {
        cell.history.remove(0);
    }
    serve(cell, manifest);
}

/// What changes with the active version, whichever way it came.
fn serve(cell: &mut CellRecord, manifest: &Manifest) {
    writes(cell, manifest);
    cell.canary = None;
    cell.generation += 1;
    // What the supervisor held against the version before does not hold against this one.
    if cell.quarantine.as_ref().is_some_and(|quarantine| quarantine.by == QuarantinedBy::Supervisor) {
        cell.quarantine = None;
    }
}

/// State in the format of this version is among the stored from now on.
fn writes(cell: &mut CellRecord, manifest: &Manifest) {
    if !cell.formats.contains(&manifest.state.format) {
        cell.formats.push(manifest.state.format);
    }
}

/// Both versions serve at once, so each must read what the other writes.
async fn begin_canary(
    operation: &Operation,
    cell: &mut CellRecord,
    record: &VersionRecord,
    manifest: &Manifest,
    percent: u8,
) -> Result<(), Problem> {
    let active = cell.active.as_ref().filter(|active| **active != record.version).ok_or_else(|| {
        Problem::invalid("/canary_percent", "a canary needs another version that is active; activate without it")
    })?;
    let other = operation.work.load::<VersionRecord>(&version_key(&cell.name, active)).await?;
    let other = other.ok_or_else(|| Problem::not_found("version", format!("{} {active}", cell.name)))?;
    let other = Manifest::parse(&other.manifest).map_err(|faults| Problem::internal_all(&faults))?;
    if !other.state.reads.contains(&manifest.state.format) {
        return Err(state_format(format!(
            "{} writes state in format {}, which the active {active} does not read; two versions that serve at once must \
             read each other's state",
            record.version, manifest.state.format
        )));
    }
    operation.detail("canary_percent", percent);
    writes(cell, manifest);
    cell.generation += 1;
    cell.canary = Some(CanaryRecord { version: record.version.clone(), percent, since: operation.context.now });
    Ok(())
}

fn state_format(message: String) -> Problem {
    cell::rejected(vec![Reason::new(ReasonCode::StateFormat, message)])
}

/// `POST /api/v1/cells/{name}/rollback`: ends a canary; without one, goes back to the version that served before.
pub async fn rollback(
    operation: Operation,
    _permit: Permit<CellDeploy>,
    (Path(path), OptionalJson(body)): (Path<CellPath>, OptionalJson<Because>),
) -> Result<Ok200<CellView>, Problem> {
    begin(&operation, &path.name, body.reason)?;
    let mut record = cell::find(&operation, &path.name).await?;
    if let Some(canary) = record.canary.take() {
        operation.detail("ended_canary", canary.version);
    } else {
        let previous = record.history.pop().ok_or_else(|| {
            Problem::new(Code::NoPreviousVersion, format!("No version of {} served before this one.", path.name))
        })?;
        let version = operation.work.load::<VersionRecord>(&version_key(&path.name, &previous)).await?;
        let version = version.ok_or_else(|| Problem::not_found("version", format!("{} {previous}", path.name)))?;
        let manifest = can_serve(&operation, &version, &record).await?;
        operation.detail("previous_version", record.active.replace(previous));
        operation.detail("version", version.version);
        serve(&mut record, &manifest);
        record.activated_at = Some(operation.context.now);
    }
    saved(&operation, record).await
}

/// `POST /api/v1/cells/{name}/restart`: forgets strikes, closes breakers and ends warm instances.
pub async fn restart(
    operation: Operation,
    _permit: Permit<CellOperate>,
    (Path(path), OptionalJson(body)): (Path<CellPath>, OptionalJson<Because>),
) -> Result<Ok200<CellView>, Problem> {
    change(&operation, &path.name, body.reason, |record| {
        record.restarts += 1;
        record.generation += 1;
    })
    .await
}

/// `POST /api/v1/cells/{name}/quarantine`: takes the cell out of service until it is released.
pub async fn quarantine(
    operation: Operation,
    _permit: Permit<CellOperate>,
    (Path(path), OptionalJson(body)): (Path<CellPath>, OptionalJson<Because>),
) -> Result<Ok200<CellView>, Problem> {
    let reason = body.reason.clone().unwrap_or_default();
    let quarantine = Quarantine { since: operation.context.now, by: QuarantinedBy::Operator, reason };
    change(&operation, &path.name, body.reason, |record| record.quarantine = Some(quarantine)).await
}

/// `POST /api/v1/cells/{name}/release`: ends a quarantine and forgets strikes.
pub async fn release(
    operation: Operation,
    _permit: Permit<CellOperate>,
    (Path(path), OptionalJson(body)): (Path<CellPath>, OptionalJson<Because>),
) -> Result<Ok200<CellView>, Problem> {
    change(&operation, &path.name, body.reason, |record| {
        record.quarantine = None;
        record.generation += 1;
    })
    .await
}

/// `DELETE /api/v1/cells/{name}`: takes it out of service for good, with its faults, settings and secrets, and the routes
/// that operators gave it. Its versions stay as evidence of what ran, and the state of its tenants stays theirs.
pub async fn delete(
    operation: Operation,
    _permit: Permit<CellDeploy>,
    Path(path): Path<CellPath>,
) -> Result<NoContent, Problem> {
    begin(&operation, &path.name, None)?;
    let work = &operation.work;
    let record = cell::find(&operation, &path.name).await?;
    cell_route::delete_of(&operation, &path.name).await?;
    chaos::delete_of(&operation, &path.name).await?;
    cell_config::delete_of(&operation, &path.name).await?;
    operation.detail("version", record.active);
    let by_operator = record.quarantine.filter(|quarantine| quarantine.by == QuarantinedBy::Operator);
    let retired = RetiredCell { formats: record.formats, quarantine: by_operator, generation: record.generation + 1 };
    work.save(retired_key(&path.name), &retired)?;
    work.delete(cell_key(&path.name))?;
    Ok(NoContent)
}

/// `GET /api/v1/cells/{name}/logs`: the newest lines that the cell logged on this kernel.
pub async fn logs(
    operation: Operation,
    _permit: Permit<CellRead>,
    (Path(path), Query(paging)): (Path<CellPath>, Query<Paging>),
) -> Result<Ok200<Page<LogLine>>, Problem> {
    let size = paging.size()? as usize;
    paging.check_cursor(|_| false)?;
    cell::find(&operation, &path.name).await?;
    let active = operation.kernel.live.load().catalog.cell(&path.name);
    let data = active.map(|cell| cell.counts.lines(size)).unwrap_or_default();
    Ok(Ok200(Page { data, next_cursor: None }))
}

/// Names the cell and the reason in the audit entry.
fn begin(operation: &Operation, name: &str, reason: Option<String>) -> Result<(), Problem> {
    operation.target("cell", name);
    let Some(reason) = reason else { return Ok(()) };
    if reason.chars().count() > limit::REASON_LENGTH_MAX {
        return Err(Problem::invalid("/reason", format!("must have at most {} characters", limit::REASON_LENGTH_MAX)));
    }
    operation.detail("reason", reason);
    Ok(())
}

/// A verb that changes nothing but the cell's record.
async fn change(
    operation: &Operation,
    name: &str,
    reason: Option<String>,
    change: impl FnOnce(&mut CellRecord),
) -> Result<Ok200<CellView>, Problem> {
    begin(operation, name, reason)?;
    let mut record = cell::find(operation, name).await?;
    change(&mut record);
    saved(operation, record).await
}

async fn saved(operation: &Operation, record: CellRecord) -> Result<Ok200<CellView>, Problem> {
    operation.work.save(cell_key(&record.name), &record)?;
    Ok(Ok200(cell::cell_view(operation, record).await?))
}
