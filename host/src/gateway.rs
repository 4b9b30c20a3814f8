//! From an authorized request to a call of a cell, and back: route, admission, idempotency, the unit of work and its commit.

pub mod call;
pub mod idempotency;
pub mod resolve;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::cell::registry::trap_key;
use crate::clock::Clock;
use crate::limit;
use crate::state::StateKey;

/// What the gateway keeps between requests.
#[derive(Debug)]
pub struct Gateway {
    /// Idempotency keys whose first request is running on this node.
    pub running: idempotency::Running,
    /// Calls that met a conflict repeatedly take turns, one for each tenant and cell, so that each makes progress.
    turns: Vec<tokio::sync::Mutex<()>>,
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
            turns: (0..64).map(|_| tokio::sync::Mutex::new(())).collect(),
            traps: AtomicU64::new(start),
        }
    }

    /// Waits for the turn of a call that keeps conflicting.
    pub async fn turn(&self, lane: usize) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        match self.turns.get(lane % self.turns.len().max(1)) {
            Some(turn) => Some(turn.lock().await),
            None => None,
        }
    }

    /// The next place in a cell's ring of trap reports.
    pub fn trap_slot(&self, cell: &str) -> StateKey {
        trap_key(cell, self.traps.fetch_add(1, Ordering::Relaxed) % limit::TRAPS_KEPT)
    }
}
