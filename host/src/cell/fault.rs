//! Injected faults. A fault is a record like any other, so it survives a restart, and each injection is audited.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::FaultId;

/// A stored fault.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Fault {
    /// Its id.
    pub id: FaultId,
    /// The cell that it strikes.
    pub cell: String,
    /// What happens.
    pub kind: FaultKind,
    /// Where.
    pub at: FaultPlace,
    /// When it was injected.
    pub created_at: Timestamp,
}

/// What happens to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FaultKind {
    /// The engine stops it inside its own code.
    Trap,
}

/// Where a fault strikes: `start`, or `host-call:N` with N from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub enum FaultPlace {
    /// At the guest's first instruction.
    #[default]
    Start,
    /// In its N-th host call, after what the calls before it staged.
    HostCall(u32),
}

/// The faults that strike one invocation.
#[derive(Clone, Debug, Default)]
pub struct Armed {
    /// The one that strikes at the first instruction.
    pub at_start: Option<FaultId>,
    /// Those that strike in a host call.
    pub at_host_call: Vec<(u32, FaultId)>,
}

impl Armed {
    /// The faults as one invocation meets them.
    #[must_use]
    pub fn new(faults: &[Fault]) -> Self {
        let mut armed = Self::default();
        for fault in faults {
            match fault.at {
                FaultPlace::Start => armed.at_start = Some(fault.id),
                FaultPlace::HostCall(number) => armed.at_host_call.push((number, fault.id)),
            }
        }
        armed
    }

    /// The fault that strikes in this host call.
    #[must_use]
    pub fn at_host_call(&self, number: u32) -> Option<FaultId> {
        self.at_host_call.iter().find(|(at, _)| *at == number).map(|(_, id)| *id)
    }
}

impl Serialize for FaultPlace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Start => serializer.serialize_str("start"),
            Self::HostCall(number) => serializer.collect_str(&format_args!("host-call:{number}")),
        }
    }
}

impl<'de> Deserialize<'de> for FaultPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "start" {
            return Ok(Self::Start);
        }
        text.strip_prefix("host-call:")
            .and_then(|number| number.parse().ok())
            .filter(|number| *number > 0)
            .map(Self::HostCall)
            .ok_or_else(|| D::Error::custom("must be \"start\" or \"host-call:N\" with N from 1"))
    }
}
