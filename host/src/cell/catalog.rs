//! What is active now: one immutable snapshot, swapped as a whole. A request pins the snapshot that it began on, with every
//! cell that it will call, so a swap never mixes versions within a request.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::fault::{Armed, Fault};
use super::given::Given;
use super::manifest::Idempotency;
use super::outcome::Outcome;
use super::pattern::Pattern;
use super::version::CellVersion;
use crate::event;
use crate::id::RouteId;

/// A cell as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CellRecord {
    /// Its name.
    pub name: String,
    /// The version that serves; none before the first activation.
    pub active: Option<String>,
    /// The format in which the active version writes state.
    #[serde(default)]
    pub format: Option<u32>,
    /// When its first version was uploaded.
    pub created_at: Timestamp,
    /// When its active version last changed.
    pub activated_at: Option<Timestamp>,
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
    /// Its slots and counters, which outlive versions.
    pub gate: Arc<Gate>,
}

/// The snapshot.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Cells by name.
    pub cells: HashMap<Arc<str>, Arc<ActiveCell>>,
    /// Routes of operators.
    pub routes: Vec<RouteRecord>,
    /// Injected faults by cell.
    pub faults: HashMap<String, Vec<Fault>>,
    /// Settings and secrets of cells.
    pub given: Given,
}

impl Catalog {
    /// A cell that serves.
    #[must_use]
    pub fn cell(&self, name: &str) -> Option<Arc<ActiveCell>> {
        self.cells.get(name).cloned()
    }

    /// The faults that strike the next call of a cell.
    #[must_use]
    pub fn faults(&self, cell: &str) -> Armed {
        self.faults.get(cell).map(|faults| Armed::new(faults)).unwrap_or_default()
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

/// How many calls of a cell run at once, and how they ended.
#[derive(Debug)]
pub struct Gate {
    slots: Arc<Semaphore>,
    slots_max: u32,
    waiting: AtomicU32,
    waiting_max: u32,
    requests: AtomicU64,
    traps: AtomicU64,
    fuel_exhausted: AtomicU64,
    timeouts: AtomicU64,
    restarts: AtomicU64,
}

/// Calls of a cell since the kernel started.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Counters {
    /// All calls.
    pub requests: u64,
    /// Calls that trapped.
    pub traps: u64,
    /// Calls that used up their fuel.
    pub fuel_exhausted: u64,
    /// Calls that used up their time.
    pub timeouts: u64,
    /// Instances that were thrown away because their call failed.
    pub restarts: u64,
}

/// Calls that may wait for each slot; more are refused at once instead of piling up.
const QUEUE_PER_SLOT: u32 = 8;

/// All slots are taken, and the queue is full or the caller's time is up.
#[derive(Debug)]
pub struct Overloaded;

/// A place in the queue, given back also when the waiting call is dropped.
struct Queued<'a>(&'a AtomicU32);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    /// A gate of so many slots.
    #[must_use]
    pub fn new(concurrency: u32) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(concurrency as usize)),
            slots_max: concurrency,
            waiting: AtomicU32::new(0),
            waiting_max: concurrency.saturating_mul(QUEUE_PER_SLOT),
            requests: AtomicU64::new(0),
            traps: AtomicU64::new(0),
            fuel_exhausted: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
        }
    }

    /// Waits for a slot until the deadline.
    pub async fn enter(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Overloaded> {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok(slot);
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.waiting_max {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Overloaded);
        }
        let _queued = Queued(&self.waiting);
        let slot = Arc::clone(&self.slots).acquire_owned();
        match tokio::time::timeout_at(deadline.into(), slot).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) | Err(_) => Err(Overloaded),
        }
    }

    /// Counts a call by how it ended; none for one that returned.
    pub fn count(&self, outcome: Option<&Outcome>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let Some(outcome) = outcome else { return };
        self.restarts.fetch_add(1, Ordering::Relaxed);
        let counter = match outcome {
            Outcome::Trapped(_) => &self.traps,
            Outcome::FuelExhausted => &self.fuel_exhausted,
            Outcome::TimedOut => &self.timeouts,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls that run now.
    #[must_use]
    pub fn running(&self) -> u32 {
        let free = u32::try_from(self.slots.available_permits()).unwrap_or(u32::MAX);
        self.slots_max.saturating_sub(free)
    }

    /// The counts so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            requests: self.requests.load(Ordering::Relaxed),
            traps: self.traps.load(Ordering::Relaxed),
            fuel_exhausted: self.fuel_exhausted.load(Ordering::Relaxed),
            timeouts: self.timeouts.load(Ordering::Relaxed),
            restarts: self.restarts.load(Ordering::Relaxed),
        }
    }
}
