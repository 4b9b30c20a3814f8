//! How an invocation ends when it does not return: exactly one of these. Each is a metric label and, at the edge, a status.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fault::FaultKind;
use crate::id::{CorrelationId, FaultId};
use crate::state::work::WorkError;

/// The end of an invocation that did not return.
#[derive(Debug)]
pub enum Outcome {
    /// The guest trapped.
    Trapped(Trap),
    /// Its fuel is used up.
    FuelExhausted,
    /// It wanted more memory than it may have.
    MemoryExceeded,
    /// It went over another limit.
    LimitExceeded(&'static str),
    /// Its answer is too large.
    OutputExceeded,
    /// Its answer is no HTTP.
    BadResponse(String),
    /// Its time is used up.
    TimedOut,
    /// All instances of the process are taken.
    Rejected,
    /// The database failed below it; nobody's fault in the cell.
    StorageFailed(WorkError),
}

/// What a trap looked like.
#[derive(Clone, Debug)]
pub struct Trap {
    /// What the engine says, for example `wasm trap: integer divide by zero`.
    pub message: String,
    /// Function names, innermost first.
    pub backtrace: Vec<String>,
}

/// A stored report of a failed invocation.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TrapReport {
    /// When the request began.
    pub at: Timestamp,
    /// The outcome, for example `trapped` or `fuel_exhausted`.
    pub kind: String,
    /// What the engine said.
    pub message: String,
    /// Function names of the guest, innermost first.
    pub backtrace: Vec<String>,
    /// The request.
    pub correlation_id: CorrelationId,
    /// The version that ran.
    pub version: String,
}

/// Whether a status is the cell's own failure. 503 is its regular word for something below it that is away.
#[must_use]
pub fn own_failure(status: u16) -> bool {
    status >= 500 && status != 503
}

/// Why the host stopped a guest. Returned as an error out of a host call or the epoch callback, which the engine turns into
/// a trap inside the guest; found again by its type.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The deadline has passed.
    #[error("the deadline has passed")]
    Deadline,
    /// Linear memory would grow past the limit.
    #[error("memory limit of {0} bytes exceeded")]
    Memory(usize),
    /// Another limit.
    #[error("limit exceeded: {0}")]
    Limit(&'static str),
    /// More output than the cell may have.
    #[error("the reply is larger than output_kb")]
    Output,
    /// An answer that is no HTTP.
    #[error("{0}")]
    BadResponse(String),
    /// An injected fault: a trap like any other.
    #[error("injected fault {0}")]
    Injected(String),
    /// An injected end of all fuel.
    #[error("all fuel consumed")]
    Fuel,
    /// An injected failure of the cell's own: its answer is a 500.
    #[error("injected failure")]
    Failure,
    /// A read below a host call failed.
    #[error("storage failed")]
    Storage(#[source] WorkError),
}

impl Stop {
    /// How an injected fault ends a call. A delay has no end of its own.
    #[must_use]
    pub fn injected(kind: FaultKind, id: FaultId, memory_bytes_max: usize) -> Self {
        match kind {
            FaultKind::Trap => Self::Injected(id.to_string()),
            FaultKind::Fuel => Self::Fuel,
            FaultKind::Memory => Self::Memory(memory_bytes_max),
            FaultKind::Delay => Self::Deadline,
            FaultKind::Error => Self::Failure,
            FaultKind::Output => Self::Output,
        }
    }
}

impl Outcome {
    /// The label in metrics, reports and audit entries.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Trapped(_) => "trapped",
            Self::FuelExhausted => "fuel_exhausted",
            Self::MemoryExceeded => "memory_exceeded",
            Self::LimitExceeded(_) => "limit_exceeded",
            Self::OutputExceeded => "output_exceeded",
            Self::BadResponse(_) => "bad_response",
            Self::TimedOut => "timed_out",
            Self::Rejected => "rejected",
            Self::StorageFailed(_) => "commit_failed",
        }
    }

    /// Whether it is the cell's doing: not when the process was full or the database away.
    #[must_use]
    pub fn is_strike(&self) -> bool {
        !matches!(self, Self::Rejected | Self::StorageFailed(_))
    }

    /// What a report says of it.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Trapped(trap) => trap.message.clone(),
            Self::LimitExceeded(limit) => format!("limit exceeded: {limit}"),
            Self::BadResponse(reason) => reason.clone(),
            Self::FuelExhausted => "all fuel consumed".into(),
            Self::MemoryExceeded => "memory limit exceeded".into(),
            Self::OutputExceeded => "the reply is larger than output_kb".into(),
            Self::TimedOut => "the deadline has passed".into(),
            Self::Rejected => "all instances are taken".into(),
            Self::StorageFailed(error) => error.to_string(),
        }
    }

    /// What the engine's error means.
    #[must_use]
    pub fn of_error(mut error: wasmtime::Error) -> Self {
        let backtrace = error.downcast_ref::<wasmtime::WasmBacktrace>().map(frames).unwrap_or_default();
        if let Some(trap) = error.downcast_ref::<wasmtime::Trap>() {
            return match trap {
                wasmtime::Trap::OutOfFuel => Self::FuelExhausted,
                wasmtime::Trap::Interrupt => Self::TimedOut,
                wasmtime::Trap::StackOverflow => Self::LimitExceeded("stack"),
                other => Self::Trapped(Trap { message: other.to_string(), backtrace }),
            };
        }
        if error.is::<wasmtime::PoolConcurrencyLimitError>() {
            return Self::Rejected;
        }
        if matches!(error.downcast_ref(), Some(wasmtime::component::ResourceTableError::Full)) {
            return Self::LimitExceeded("resources");
        }
        match error.downcast_mut::<Stop>() {
            Some(Stop::Deadline) => Self::TimedOut,
            Some(Stop::Memory(_)) => Self::MemoryExceeded,
            Some(Stop::Limit(limit)) => Self::LimitExceeded(limit),
            Some(Stop::Fuel) => Self::FuelExhausted,
            Some(Stop::Output) => Self::OutputExceeded,
            Some(Stop::BadResponse(reason)) => Self::BadResponse(std::mem::take(reason)),
            Some(stop @ (Stop::Injected(_) | Stop::Failure)) => {
                Self::Trapped(Trap { message: stop.to_string(), backtrace })
            }
            Some(Stop::Storage(cause)) => {
                Self::StorageFailed(std::mem::replace(cause, WorkError::LimitExceeded("reads")))
            }
            None => Self::Trapped(Trap {
                message: format!("{error:#}").lines().next().unwrap_or_default().into(),
                backtrace,
            }),
        }
    }
}

fn frames(backtrace: &wasmtime::WasmBacktrace) -> Vec<String> {
    backtrace
        .frames()
        .iter()
        .take(32)
        .map(|frame| frame.func_name().map_or_else(|| format!("function {}", frame.func_index()), demangle))
        .collect()
}

/// A Rust symbol without its hash; other names stay.
fn demangle(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}
