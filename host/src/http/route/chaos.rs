//! Faults on purpose: off unless the operator enabled chaos, and audited like everything else.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cell;
use crate::cell::catalog::{Quarantine, QuarantinedBy};
use crate::cell::fault::{Fault, FaultKind, FaultPlace};
use crate::cell::registry::{cell_key, platform};
use crate::config::Chaos;
use crate::http::input::{Json, Path};
use crate::http::operation::Operation;
use crate::http::output::{Created, NoContent, Ok200, Page};
use crate::http::problem::{Code, Problem};
use crate::id::FaultId;
use crate::limit;
use crate::rbac::permission::ChaosInject;
use crate::rbac::permit::Permit;
use crate::state::{Scan, StateKey};

/// A fault to inject.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewFault {
    /// The cell that it strikes.
    pub cell: String,
    /// What happens.
    pub kind: FaultKind,
    /// `start` or `host-call:N`; `start` when absent.
    #[serde(default)]
    pub at: FaultPlace,
}

/// Names a cell.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct FaultyCellPath {
    /// Its name.
    pub cell: String,
}

/// Names a fault.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct FaultPath {
    /// Its id.
    pub id: FaultId,
}

/// What a recovery removed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Recovered {
    /// The cell.
    pub cell: String,
    /// Faults that were removed.
    pub removed: usize,
}

/// `POST /api/v1/chaos/faults`
pub async fn inject(
    operation: Operation,
    _permit: Permit<ChaosInject>,
    Json(body): Json<NewFault>,
) -> Result<Created<Fault>, Problem> {
    inject_fault(&operation, body).await.map(Created)
}

/// `POST /api/v1/chaos/fail/{cell}`: every call traps until recovered.
pub async fn fail(
    operation: Operation,
    _permit: Permit<ChaosInject>,
    Path(path): Path<FaultyCellPath>,
) -> Result<Created<Fault>, Problem> {
    let fault = NewFault { cell: path.cell, kind: FaultKind::Trap, at: FaultPlace::Start };
    inject_fault(&operation, fault).await.map(Created)
}

/// `POST /api/v1/chaos/recover/{cell}`: removes the faults of a cell, with the strikes, breakers and quarantine that they
/// caused.
pub async fn recover(
    operation: Operation,
    _permit: Permit<ChaosInject>,
    Path(path): Path<FaultyCellPath>,
) -> Result<Ok200<Recovered>, Problem> {
    let mut record = cell::find(&operation, &path.cell).await?;
    let struck = delete_of(&operation, &path.cell).await?;
    let caused = |quarantine: &Quarantine| {
        quarantine.by == QuarantinedBy::Supervisor && struck.iter().any(|fault| fault.created_at <= quarantine.since)
    };
    if record.quarantine.as_ref().is_some_and(caused) {
        record.quarantine = None;
        operation.detail("released", true);
    }
    // Where no fault can be, none can have caused a strike.
    if operation.kernel.config.chaos == Chaos::Enabled || !struck.is_empty() {
        record.generation += 1;
        operation.work.save(cell_key(&path.cell), &record)?;
    }
    operation.target("cell", &path.cell);
    operation.detail("removed", struck.len());
    Ok(Ok200(Recovered { cell: path.cell, removed: struck.len() }))
}

/// Removes the faults of a cell and answers them.
pub async fn delete_of(operation: &Operation, cell: &str) -> Result<Vec<Fault>, Problem> {
    let faults = faults(operation).await?;
    let struck: Vec<Fault> = faults.into_iter().filter(|fault| fault.cell == cell).collect();
    for fault in &struck {
        operation.work.delete(fault_key(fault.id))?;
    }
    Ok(struck)
}

/// `GET /api/v1/chaos/faults`
pub async fn list(operation: Operation, _permit: Permit<ChaosInject>, (): ()) -> Result<Ok200<Page<Fault>>, Problem> {
    Ok(Ok200(Page { data: faults(&operation).await?, next_cursor: None }))
}

/// `DELETE /api/v1/chaos/faults/{id}`
pub async fn remove(
    operation: Operation,
    _permit: Permit<ChaosInject>,
    Path(path): Path<FaultPath>,
) -> Result<NoContent, Problem> {
    let key = fault_key(path.id);
    let fault = operation.work.load::<Fault>(&key).await?.ok_or_else(|| Problem::not_found("fault", path.id))?;
    operation.work.delete(key)?;
    operation.target("cell", &fault.cell);
    operation.detail("fault", fault.id.to_string());
    Ok(NoContent)
}

async fn inject_fault(operation: &Operation, body: NewFault) -> Result<Fault, Problem> {
    enabled(operation)?;
    cell::find(operation, &body.cell).await?;
    if faults(operation).await?.len() >= limit::FAULTS_MAX {
        return Err(Problem::new(
            Code::InUse,
            format!(
                "There are {} faults already; remove some with POST /api/v1/chaos/recover/CELL.",
                limit::FAULTS_MAX
            ),
        ));
    }
    let fault = Fault {
        id: FaultId::new(&operation.context.clock),
        cell: body.cell,
        kind: body.kind,
        at: body.at,
        created_at: operation.context.now,
    };
    operation.work.save(fault_key(fault.id), &fault)?;
    operation.target("cell", &fault.cell);
    operation.detail("fault", serde_json::to_value(&fault).unwrap_or_default());
    Ok(fault)
}

async fn faults(operation: &Operation) -> Result<Vec<Fault>, Problem> {
    let limit = u32::try_from(limit::FAULTS_MAX).unwrap_or(u32::MAX);
    let scan = Scan { space: platform(), prefix: "fault/".into(), after: None, limit };
    Ok(operation.work.load_page::<Fault>(&scan).await?.into_iter().map(|(_, fault)| fault).collect())
}

fn enabled(operation: &Operation) -> Result<(), Problem> {
    match operation.kernel.config.chaos {
        Chaos::Enabled => Ok(()),
        Chaos::Disabled => Err(Problem::new(
            Code::ChaosDisabled,
            "Faults cannot be injected here; start the kernel with AIBOS_CHAOS=enabled.",
        )),
    }
}

fn fault_key(id: FaultId) -> StateKey {
    platform().key(format!("fault/{id}"))
}
