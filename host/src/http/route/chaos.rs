//! Faults on purpose: off unless the operator enabled chaos, and audited like everything else.

use jiff::SignedDuration;
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
use crate::id::{FaultId, TenantId};
use crate::limit;
use crate::rbac::name::Slug;
use crate::rbac::permission::ChaosInject;
use crate::rbac::permit::Permit;
use crate::rbac::tenant;
use crate::state::{Scan, StateKey};

/// A fault to inject.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewFault {
    /// The cell that it strikes.
    pub cell: String,
    /// What happens.
    pub kind: FaultKind,
    /// `start`, `host-call:N` or `return`; `start` when absent.
    #[serde(default)]
    pub at: FaultPlace,
    /// How likely it strikes a call that comes to its place, above 0 and at most 1; always when absent.
    #[serde(default)]
    pub probability: Option<f64>,
    /// How often it strikes, from 1; without end when absent.
    #[serde(default)]
    pub count: Option<u32>,
    /// Milliseconds after which it ends by itself, at most a week; never when absent.
    #[serde(default)]
    pub ttl_ms: Option<u64>,
    /// How long a `delay` lasts, in milliseconds, from 1 to 30000; for that kind only.
    #[serde(default)]
    pub delay_ms: Option<u64>,
    /// The slug of the only tenant whose calls it strikes; all when absent.
    #[serde(default)]
    pub tenant: Option<Slug>,
}

impl NewFault {
    /// Traps every call.
    fn trap(cell: String) -> Self {
        Self {
            cell,
            kind: FaultKind::Trap,
            at: FaultPlace::Start,
            probability: None,
            count: None,
            ttl_ms: None,
            delay_ms: None,
            tenant: None,
        }
    }

    fn check(&self) -> Result<(), Problem> {
        // Written so that a number that is none is refused, too.
        if self.probability.is_some_and(|probability| !(probability > 0.0 && probability <= 1.0)) {
            return Err(Problem::invalid("/probability", "must be above 0 and at most 1"));
        }
        if self.count == Some(0) {
            return Err(Problem::invalid("/count", "must be at least 1; leave it out for a fault without end"));
        }
        within("/ttl_ms", self.ttl_ms, limit::FAULT_TTL_MS_MAX)?;
        within("/delay_ms", self.delay_ms, limit::FAULT_DELAY_MS_MAX)?;
        match (self.kind, self.delay_ms) {
            (FaultKind::Delay, None) => Err(Problem::invalid("/delay_ms", "a delay needs its length in milliseconds")),
            (FaultKind::Delay, Some(_)) | (_, None) => Ok(()),
            (_, Some(_)) => Err(Problem::invalid("/delay_ms", "belongs to the kind \"delay\"; leave it out")),
        }
    }
}

fn within(pointer: &str, value: Option<u64>, most: u64) -> Result<(), Problem> {
    if value.is_none_or(|value| (1..=most).contains(&value)) {
        return Ok(());
    }
    Err(Problem::invalid(pointer, format!("must be between 1 and {most}")))
}

/// A fault and what it has done.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct FaultView {
    /// What was injected.
    #[serde(flatten)]
    pub fault: Fault,
    /// How often it has struck since this kernel started.
    pub struck: u64,
}

impl FaultView {
    fn of(operation: &Operation, fault: Fault) -> Self {
        Self { struck: operation.kernel.registry.faults.struck(fault.id), fault }
    }
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
) -> Result<Created<FaultView>, Problem> {
    inject_fault(&operation, body).await.map(Created)
}

/// `POST /api/v1/chaos/fail/{cell}`: every call traps until recovered.
pub async fn fail(
    operation: Operation,
    _permit: Permit<ChaosInject>,
    Path(path): Path<FaultyCellPath>,
) -> Result<Created<FaultView>, Problem> {
    inject_fault(&operation, NewFault::trap(path.cell)).await.map(Created)
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
pub async fn list(
    operation: Operation,
    _permit: Permit<ChaosInject>,
    (): (),
) -> Result<Ok200<Page<FaultView>>, Problem> {
    let faults = faults(&operation).await?.into_iter().filter(|fault| !fault.expired(operation.context.now));
    let data = faults.map(|fault| FaultView::of(&operation, fault)).collect();
    Ok(Ok200(Page { data, next_cursor: None }))
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

async fn inject_fault(operation: &Operation, body: NewFault) -> Result<FaultView, Problem> {
    enabled(operation)?;
    body.check()?;
    cell::find(operation, &body.cell).await?;
    let tenant_id = find_tenant(operation, body.tenant.as_ref()).await?;
    if remove_ended(operation).await? >= limit::FAULTS_MAX {
        return Err(Problem::new(
            Code::InUse,
            format!(
                "There are {} faults already; remove some with POST /api/v1/chaos/recover/CELL.",
                limit::FAULTS_MAX
            ),
        ));
    }
    let now = operation.context.now;
    let life = body.ttl_ms.map(|ttl_ms| SignedDuration::from_millis(i64::try_from(ttl_ms).unwrap_or(i64::MAX)));
    let fault = Fault {
        id: FaultId::new(&operation.context.clock),
        cell: body.cell,
        kind: body.kind,
        at: body.at,
        probability: body.probability,
        count: body.count,
        delay_ms: body.delay_ms,
        tenant_id,
        expires_at: life.and_then(|life| now.checked_add(life).ok()),
        created_at: now,
    };
    operation.work.save(fault_key(fault.id), &fault)?;
    operation.target("cell", &fault.cell);
    let view = FaultView { fault, struck: 0 };
    operation.detail("fault", serde_json::to_value(&view).unwrap_or_default());
    Ok(view)
}

async fn find_tenant(operation: &Operation, slug: Option<&Slug>) -> Result<Option<TenantId>, Problem> {
    let Some(slug) = slug else { return Ok(None) };
    let found = tenant::find(&operation.work, slug).await?;
    found.map(Some).ok_or_else(|| Problem::invalid("/tenant", format!("there is no tenant {slug}")))
}

/// Removes the faults whose time is over or whose strikes are used up; answers how many remain.
async fn remove_ended(operation: &Operation) -> Result<usize, Problem> {
    let mut remaining = 0;
    for fault in faults(operation).await? {
        let struck = operation.kernel.registry.faults.struck(fault.id);
        if fault.expired(operation.context.now) || fault.count.is_some_and(|count| struck >= u64::from(count)) {
            operation.work.delete(fault_key(fault.id))?;
        } else {
            remaining += 1;
        }
    }
    Ok(remaining)
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
