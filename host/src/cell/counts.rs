//! How the calls of a cell ended since the kernel started, and what the cell logged.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::outcome::Outcome;
use crate::id::CorrelationId;
use crate::limit;

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
