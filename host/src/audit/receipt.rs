//! What an invocation cost and used, as it stands in the audit entry of its call.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A receipt. Fuel is counted by the engine; a call that did not return is charged all that it was granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Receipt {
    /// The cell.
    pub cell: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its component.
    pub digest: String,
    /// How it ended, for example `returned` or `trapped`.
    pub outcome: String,
    /// Fuel that it might use.
    pub fuel_granted: u64,
    /// Fuel that the engine counted, that of the cells below included; after a trap a lower bound.
    pub fuel_used: u64,
    /// Fuel that is charged.
    pub fuel_charged: u64,
    /// SHA-256 of the table of fuel that each operator costs.
    pub cost_table: String,
    /// Time from its first instruction to its end, waiting included, in microseconds.
    pub wall_us: u64,
    /// Host calls by interface.
    pub host_calls: BTreeMap<String, u32>,
    /// The receipts of the cells that it called, in the order in which they ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nested: Vec<Receipt>,
}
