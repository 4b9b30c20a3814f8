//! What is active now: one immutable snapshot, swapped as a whole. A request pins the snapshot that it began on, with every
//! cell that it will call, so a swap never mixes versions within a request.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::counts::Counts;
use super::fault::{Armed, LiveFault};
use super::gate::Gate;
use super::given::Given;
use super::manifest::Idempotency;
use super::outside::Outside;
use super::pattern::Pattern;
use super::supervisor::{Pass, Refused, Side, Supervisor, Trial};
use super::version::CellVersion;
use super::warm::Warm;
use crate::context::Context;
use crate::event;
use crate::id::{RouteId, TenantId};

/// A cell as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CellRecord {
    /// Its name.
    pub name: String,
    /// The version that serves; none before the first activation.
    pub active: Option<String>,
    /// Every format in which a version of it wrote state.
    #[serde(default)]
    pub formats: Vec<u32>,
    /// When its first version was uploaded.
    pub created_at: Timestamp,
    /// When its active version last changed.
    pub activated_at: Option<Timestamp>,
    /// Versions that served before, newest last: where a rollback goes.
    #[serde(default)]
    pub history: Vec<String>,
    /// A version that is tried on a part of the tenants.
    #[serde(default)]
    pub canary: Option<CanaryRecord>,
    /// Why it answers nobody.
    #[serde(default)]
    pub quarantine: Option<Quarantine>,
    /// Times that an operator restarted it.
    #[serde(default)]
    pub restarts: u64,
    /// Raised by a restart and a release: strikes of an older one are forgotten.
    #[serde(default)]
    pub generation: u64,
}

/// What remains of a deleted cell, for a later one of its name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RetiredCell {
    /// Every format in which it wrote the state that its tenants still have.
    pub formats: Vec<u32>,
    /// An operator's quarantine does not end by a deletion.
    pub quarantine: Option<Quarantine>,
    /// Higher than the deleted cell's.
    pub generation: u64,
}

/// A version that is tried beside the active one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CanaryRecord {
    /// The version.
    pub version: String,
    /// Of a hundred tenants, so many use it.
    pub percent: u8,
    /// Since when.
    pub since: Timestamp,
}

/// Why a cell was taken out of service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quarantine {
    /// Since when.
    pub since: Timestamp,
    /// An operator, or the supervisor.
    pub by: QuarantinedBy,
    /// What was said about it.
    pub reason: String,
}

/// Who took a cell out of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuarantinedBy {
    /// A person, who releases it.
    Operator,
    /// The kernel, after failures. An activation of another version ends it.
    Supervisor,
}

/// A route that an operator added.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RouteRecord {
    /// Its id.
    pub id: RouteId,
    /// The pattern.
    #[schemars(with = "String")]
    pub route: Pattern,
    /// Upper-case methods.
    pub methods: Vec<String>,
    /// The cell that answers.
    pub cell: String,
    /// The permission asked for, or `public`.
    pub permission: String,
    /// What becomes of `Idempotency-Key`.
    pub idempotency: Idempotency,
    /// When it was added.
    pub created_at: Timestamp,
}

/// A cell that serves.
#[derive(Debug)]
pub struct ActiveCell {
    /// The code.
    pub version: Arc<CellVersion>,
    /// Its slots, which outlive versions.
    pub gate: Arc<Gate>,
    /// Its counters.
    pub counts: Arc<Counts>,
    /// Its strikes and breakers.
    pub supervisor: Arc<Supervisor>,
    /// Why it answers nobody.
    pub quarantine: Option<Quarantine>,
    /// The version that is tried beside this one.
    pub canary: Option<Canary>,
    /// While two versions serve, which of them this is.
    pub trial: Option<(Side, Arc<Trial>)>,
}

/// A version that serves a part of the tenants.
#[derive(Debug)]
pub struct Canary {
    /// Of a hundred tenants, so many use it.
    pub percent: u8,
    /// The cell with that version.
    pub cell: Arc<ActiveCell>,
}

/// Why a cell does not take a call now.
#[derive(Clone, Copy, Debug)]
pub enum NotServing {
    /// Its breaker is open.
    BreakerOpen(Refused),
    /// It is quarantined.
    Quarantined,
}

impl ActiveCell {
    /// The trial, when this is the version that is being tried.
    #[must_use]
    pub fn canary_trial(&self) -> Option<&Arc<Trial>> {
        self.trial.as_ref().filter(|(side, _)| *side == Side::Canary).map(|(_, trial)| trial)
    }

    /// Time of one call.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.version.manifest.limits.timeout_ms)
    }

    /// Lets a call pass.
    pub fn admit(&self, tenant: Option<TenantId>, now: Timestamp) -> Result<Pass, NotServing> {
        if self.quarantine.is_some() {
            return Err(NotServing::Quarantined);
        }
        let trial = self.trial.clone();
        self.supervisor.admit(&self.version, tenant, trial, now).map_err(NotServing::BreakerOpen)
    }
}

/// The snapshot.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Cells by name.
    pub cells: HashMap<Arc<str>, Arc<ActiveCell>>,
    /// Routes of operators.
    pub routes: Vec<RouteRecord>,
    /// Injected faults by cell.
    pub faults: HashMap<String, Vec<Arc<LiveFault>>>,
    /// Settings and secrets of cells.
    pub given: Arc<Given>,
    /// What cells reach outside.
    pub outside: Arc<Outside>,
    /// Instances that rest between two calls: the same of every snapshot.
    pub warm: Arc<Warm>,
    /// Which of them a request on this snapshot may take up and leave.
    pub generation: u64,
}

impl Catalog {
    /// A cell that serves.
    #[must_use]
    pub fn cell(&self, name: &str) -> Option<Arc<ActiveCell>> {
        self.cells.get(name).cloned()
    }

    /// The cell as it serves a tenant: a canary always has the same tenants.
    #[must_use]
    pub fn serving(&self, name: &str, tenant: Option<TenantId>) -> Option<Arc<ActiveCell>> {
        let cell = self.cells.get(name)?;
        match (&cell.canary, tenant) {
            (Some(canary), Some(tenant)) if share_of(tenant, &canary.cell.version) < canary.percent => {
                Some(Arc::clone(&canary.cell))
            }
            _ => Some(Arc::clone(cell)),
        }
    }

    /// The faults that may strike a call of a cell for this request.
    #[must_use]
    pub fn faults(&self, cell: &str, context: &Context) -> Armed {
        self.faults.get(cell).map(|faults| Armed::new(faults, context)).unwrap_or_default()
    }

    /// The cell that publishes events of this type.
    #[must_use]
    pub fn publisher(&self, kind: &str) -> Option<&str> {
        self.cells.values().find_map(|cell| {
            let publishes = &cell.version.manifest.capabilities.publish;
            publishes.iter().any(|pattern| event::matches(pattern, kind)).then_some(&*cell.version.name)
        })
    }

    /// The permissions that active cells declare and operators' routes ask for.
    #[must_use]
    pub fn permissions(&self) -> Vec<String> {
        let cells = self.cells.values().flat_map(|cell| cell.version.manifest.permissions().map(str::to_owned));
        let routes = self.routes.iter().map(|route| route.permission.clone());
        let mut all: Vec<String> = cells.chain(routes.filter(|name| name != crate::rbac::permit::PUBLIC)).collect();
        all.sort();
        all.dedup();
        all
    }
}

/// Where a tenant stands among a hundred: the same on every kernel, another for each version.
fn share_of(tenant: TenantId, version: &CellVersion) -> u8 {
    let text = format!("{tenant}/{}/{}", version.name, version.reference.version);
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    let head = hash.as_ref().first_chunk::<8>().map_or(0, |head| u64::from_be_bytes(*head));
    u8::try_from(head % 100).unwrap_or(0)
}
