//! Injected faults. A fault is a record like any other, so it survives a restart, and each injection is audited. How often
//! it has struck is counted in this process only: after a restart a counted fault begins anew.
//!
//! Whether a fault with a probability strikes follows from its id and from how many calls it has met: no clock, no hidden
//! randomness, and the same fault strikes the same calls of a repeated run.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::context::Context;
use crate::id::{FaultId, TenantId};

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
    /// How likely it strikes a call that comes to its place; always when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// How often it strikes in one run of a kernel; without end when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// How long a `delay` lasts, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// The only tenant whose calls it strikes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<TenantId>,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was injected.
    pub created_at: Timestamp,
}

/// What happens to the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FaultKind {
    /// The engine stops it: `CELL_TRAPPED`.
    Trap,
    /// Its fuel is gone: `FUEL_EXHAUSTED`.
    Fuel,
    /// It is stopped as one that wanted too much memory: `MEMORY_EXCEEDED`.
    Memory,
    /// It waits for `delay_ms` of its own time: `CELL_TIMEOUT` when that was too long.
    Delay,
    /// It ends with status 500 of its own: `CELL_FAILED`.
    Error,
    /// Its reply is too large: `OUTPUT_EXCEEDED`.
    Output,
}

/// Where a fault strikes: `start`, `host-call:N` with N from 1, or `return`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub enum FaultPlace {
    /// At the guest's first instruction.
    #[default]
    Start,
    /// In its N-th host call, after what the calls before it staged.
    HostCall(u32),
    /// After it has returned, before anything is committed.
    Return,
}

/// How often a fault met a call, and how often it struck.
#[derive(Debug, Default)]
pub struct Meter {
    met: AtomicU64,
    struck: AtomicU64,
}

/// The meters of all faults; they outlive the snapshots.
#[derive(Debug, Default)]
pub struct Meters(Mutex<HashMap<FaultId, Arc<Meter>>>);

impl Meters {
    /// The faults with their meters; those of removed faults are forgotten.
    #[must_use]
    pub fn attach(&self, faults: Vec<Fault>) -> Vec<Arc<LiveFault>> {
        let mut meters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        meters.retain(|id, _| faults.iter().any(|fault| fault.id == *id));
        let attach = |fault: Fault| {
            let meter = Arc::clone(meters.entry(fault.id).or_default());
            Arc::new(LiveFault { fault, meter })
        };
        faults.into_iter().map(attach).collect()
    }

    /// How often a fault has struck since this kernel started.
    #[must_use]
    pub fn struck(&self, id: FaultId) -> u64 {
        let meters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        meters.get(&id).map_or(0, |meter| meter.struck.load(Ordering::Relaxed))
    }
}

impl Fault {
    /// Whether its time is over.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// A fault with its meter.
#[derive(Debug)]
pub struct LiveFault {
    /// What was injected.
    pub fault: Fault,
    meter: Arc<Meter>,
}

impl LiveFault {
    /// Decides about one call that has come to its place.
    fn strikes(&self) -> bool {
        let met = self.meter.met.fetch_add(1, Ordering::Relaxed);
        if self.fault.probability.is_some_and(|probability| draw(self.fault.id, met) >= probability) {
            return false;
        }
        let most = self.fault.count.map_or(u64::MAX, u64::from);
        let more = |struck: u64| (struck < most).then_some(struck + 1);
        self.meter.struck.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

/// A number in [0, 1) for the n-th call that a fault meets: `SplitMix64` (Steele, Lea, Flood 2014), seeded by its id.
fn draw(id: FaultId, met: u64) -> f64 {
    let (high, low) = id.0.as_u64_pair();
    let mut mixed = (high ^ low).wrapping_add(met.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let top = u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or(u32::MAX);
    f64::from(top) / (f64::from(u32::MAX) + 1.0)
}

/// The faults that may strike one invocation. Empty for nearly every call, and then free.
#[derive(Clone, Debug, Default)]
pub struct Armed(Vec<Arc<LiveFault>>);

/// What strikes a call at one place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Strike {
    /// It waits so long first.
    pub delay: Duration,
    /// Then it ends so.
    pub end: Option<(FaultKind, FaultId)>,
}

impl Armed {
    /// Those of a cell's faults that are meant for calls of this request.
    #[must_use]
    pub fn new(faults: &[Arc<LiveFault>], context: &Context) -> Self {
        let tenant = context.actor.tenant();
        let meant = |live: &&Arc<LiveFault>| {
            let Fault { tenant_id, .. } = &live.fault;
            !live.fault.expired(context.now) && tenant_id.is_none_or(|id| tenant == Some(id))
        };
        Self(faults.iter().filter(meant).cloned().collect())
    }

    /// What strikes here. Every delay lasts; the first fault of another kind ends the call, and those after it wait for the
    /// next one.
    #[must_use]
    pub fn at(&self, place: FaultPlace) -> Strike {
        let mut strike = Strike::default();
        for live in self.0.iter().filter(|live| live.fault.at == place) {
            if !live.strikes() {
                continue;
            }
            match live.fault.kind {
                FaultKind::Delay => strike.delay += Duration::from_millis(live.fault.delay_ms.unwrap_or(0)),
                kind => {
                    strike.end = Some((kind, live.fault.id));
                    return strike;
                }
            }
        }
        strike
    }
}

impl Serialize for FaultPlace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Start => serializer.serialize_str("start"),
            Self::HostCall(number) => serializer.collect_str(&format_args!("host-call:{number}")),
            Self::Return => serializer.serialize_str("return"),
        }
    }
}

impl<'de> Deserialize<'de> for FaultPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "start" => return Ok(Self::Start),
            "return" => return Ok(Self::Return),
            _ => {}
        }
        text.strip_prefix("host-call:")
            .and_then(|number| number.parse().ok())
            .filter(|number| *number > 0)
            .map(Self::HostCall)
            .ok_or_else(|| D::Error::custom("must be \"start\", \"host-call:N\" with N from 1, or \"return\""))
    }
}
