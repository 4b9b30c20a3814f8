//! How many calls of a cell run at once, how they ended, and what the cell logged.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::outcome::Outcome;
use crate::id::CorrelationId;
use crate::limit;

/// How many calls of a cell run at once, and how they ended.
#[derive(Debug)]
pub struct Gate {
    slots: Arc<Semaphore>,
    slots_max: u32,
    waiting: AtomicU32,
    waiting_max: u32,
}

/// What a cell did since the kernel started. Outlives versions and changes of its concurrency.
#[derive(Debug, Default)]
pub struct Counts {
    requests: AtomicU64,
    traps: AtomicU64,
    fuel_exhausted: AtomicU64,
    timeouts: AtomicU64,
    restarts: AtomicU64,
    lines: Mutex<VecDeque<LogLine>>,
}

/// A line that a cell logged.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// When its request began.
    pub at: Timestamp,
    /// `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// The line.
    pub message: String,
    /// The request.
    pub correlation_id: CorrelationId,
    /// The version that ran.
    pub version: String,
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
    /// Instances that were thrown away because their call failed, and restarts by an operator.
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

    /// Calls that may run at once.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slots_max
    }

    /// Calls that run now.
    #[must_use]
    pub fn running(&self) -> u32 {
        let free = u32::try_from(self.slots.available_permits()).unwrap_or(u32::MAX);
        self.slots_max.saturating_sub(free)
    }
}

impl Counts {
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

    /// Keeps a line, in place of the oldest when there are many.
    pub fn log(&self, line: LogLine) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= limit::LOG_LINES_KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The lines that are kept, newest first.
    #[must_use]
    pub fn lines(&self, most: usize) -> Vec<LogLine> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().take(most).cloned().collect()
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
