//! What an invocation spent, as cheap to write down as it can be: a receipt is made of it only for an audit entry.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use wasmtime::OperatorCost;

use super::version::{CellVersion, digest_of};
use crate::audit::receipt::Receipt;

/// What one invocation spent.
#[derive(Clone, Debug)]
pub struct Spent {
    /// The code.
    pub version: Arc<CellVersion>,
    /// How it ended.
    pub outcome: &'static str,
    /// 1 for the outermost call.
    pub depth: u32,
    /// Fuel that it might use.
    pub fuel_granted: u64,
    /// Fuel that the engine counted, that of the cells below included.
    pub fuel_used: u64,
    /// Fuel that is charged, that of the cells below included.
    pub fuel_charged: u64,
    /// Time.
    pub wall: Duration,
    /// Host calls by interface.
    pub host_calls: Vec<(&'static str, u32)>,
    /// Body of its request, in bytes.
    pub bytes_in: u64,
    /// Body of its reply, in bytes.
    pub bytes_out: u64,
}

/// The table that the engine counts by, as a hash: two receipts can be compared when it is the same.
static COST_TABLE: LazyLock<String> = LazyLock::new(|| digest_of(format!("{:?}", OperatorCost::default()).as_bytes()));

impl Spent {
    fn receipt(&self) -> Receipt {
        let reference = &self.version.reference;
        Receipt {
            cell: reference.name.clone(),
            version: reference.version.clone(),
            digest: reference.digest.clone(),
            outcome: self.outcome.to_owned(),
            fuel_granted: self.fuel_granted,
            fuel_used: self.fuel_used,
            fuel_charged: self.fuel_charged,
            cost_table: COST_TABLE.clone(),
            wall_us: u64::try_from(self.wall.as_micros()).unwrap_or(u64::MAX),
            host_calls: self.host_calls.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect(),
            nested: Vec::new(),
        }
    }
}

/// The receipt of a request: that of its outermost call, with those below it. None when nothing ran.
#[must_use]
pub fn receipt(all: &[Spent]) -> Option<Receipt> {
    // Whoever is called ends before its caller: what waits is below the next one that ends above it.
    let mut waiting: Vec<(u32, Receipt)> = Vec::new();
    for spent in all {
        let mut receipt = spent.receipt();
        let below = waiting.iter().position(|(depth, _)| *depth > spent.depth).unwrap_or(waiting.len());
        receipt.nested = waiting.split_off(below).into_iter().map(|(_, nested)| nested).collect();
        waiting.push((spent.depth, receipt));
    }
    waiting.pop().map(|(_, receipt)| receipt)
}
