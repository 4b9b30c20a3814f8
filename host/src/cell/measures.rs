//! The metrics of one cell's calls, each looked up in the process's table of metrics once instead of at every call.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Counter, Histogram, SharedString};

/// Handles that are made when they are first needed: by then the process collects, or never will.
#[derive(Default)]
pub struct Measures {
    returned: OnceLock<Histogram>,
    fuel: OnceLock<Counter>,
}

impl Measures {
    /// Counts a call by how it ended; most return.
    pub fn ended(&self, cell: &Arc<str>, outcome: &'static str, elapsed: Duration) {
        if outcome == "returned" {
            self.returned.get_or_init(|| invocations(cell, outcome)).record(elapsed.as_secs_f64());
        } else {
            invocations(cell, outcome).record(elapsed.as_secs_f64());
        }
    }

    /// Counts the fuel of a call.
    pub fn consumed(&self, cell: &Arc<str>, fuel: u64) {
        let counter = || metrics::counter!("cell_fuel_consumed_total", "cell" => SharedString::from(Arc::clone(cell)));
        self.fuel.get_or_init(counter).increment(fuel);
    }
}

fn invocations(cell: &Arc<str>, outcome: &'static str) -> Histogram {
    let cell = SharedString::from(Arc::clone(cell));
    metrics::histogram!("cell_invocation_duration_seconds", "cell" => cell, "outcome" => outcome)
}
