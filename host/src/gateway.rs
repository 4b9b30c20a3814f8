//! From an authorized request to a call of a cell, and back: route, admission, idempotency, the unit of work and its commit.

pub mod call;
pub mod call_error;
pub mod idempotency;
pub mod meter;
pub mod resolve;
mod supervise;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::cell::registry::trap_key;
use crate::clock::Clock;
use crate::id::TenantId;
use crate::limit;
use crate::state::StateKey;

/// Lanes; two busy tenants in one would wait for each other.
const LANES: u64 = 256;

/// Calls of one tenant and cell that met a conflict repeatedly take turns, so that each makes progress. Newcomers do not wait
/// for a turn, until somebody who has it keeps losing against them.
#[derive(Debug, Default)]
pub struct Lane {
    turn: tokio::sync::Mutex<()>,
    starving: AtomicU32,
}

/// A call that keeps losing although it has its turn; newcomers wait until it is dropped.
#[derive(Debug)]
pub struct Starving<'a>(&'a AtomicU32);

impl Drop for Starving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lane {
    /// Waits for the turn.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Makes newcomers wait for their turn.
    pub fn starve(&self) -> Starving<'_> {
        self.starving.fetch_add(1, Ordering::Relaxed);
        Starving(&self.starving)
    }

    /// Whether newcomers wait.
    #[must_use]
    pub fn starves(&self) -> bool {
        self.starving.load(Ordering::Relaxed) > 0
    }
}

/// What the gateway keeps between requests.
#[derive(Debug)]
pub struct Gateway {
    /// Idempotency keys whose first request is running on this node.
    pub running: idempotency::Running,
    lanes: Vec<Lane>,
    /// What tenants used.
    pub meter: meter::Meter,
    traps: AtomicU64,
}

impl Gateway {
    /// A gateway without running requests.
    #[must_use]
    pub fn new(clock: &Clock) -> Self {
        // The ring of trap reports goes on somewhere after a restart, not at its newest entries.
        let start = u64::try_from(clock.now().as_second()).unwrap_or(0);
        Self {
            running: idempotency::Running::default(),
            meter: meter::Meter::default(),
            lanes: (0..LANES).map(|_| Lane::default()).collect(),
            traps: AtomicU64::new(start),
        }
    }

    /// The lane of a tenant's calls of a cell; a few may share one.
    #[must_use]
    pub fn lane(&self, tenant: Option<TenantId>, cell: &str) -> Option<&Lane> {
        let mut hasher = DefaultHasher::new();
        (tenant, cell).hash(&mut hasher);
        self.lanes.get(usize::try_from(hasher.finish() % LANES).unwrap_or(0))
    }

    /// The next place in a cell's ring of trap reports.
    pub fn trap_slot(&self, cell: &str) -> StateKey {
        trap_key(cell, self.traps.fetch_add(1, Ordering::Relaxed) % limit::TRAPS_KEPT)
    }
}
