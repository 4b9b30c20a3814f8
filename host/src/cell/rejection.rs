//! Why a component would not run, said so that its author knows what to change.

use schemars::JsonSchema;
use serde::Serialize;

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Reason {
    /// Stable code, `UPPER_SNAKE`.
    pub code: ReasonCode,
    /// What is wrong and what to change.
    pub message: String,
}

/// The stable codes of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ReasonCode {
    /// The manifest is wrong.
    InvalidManifest,
    /// Not a WebAssembly component.
    NotAComponent,
    /// Over the size limit.
    TooLarge,
    /// An import that no host of this version has.
    UnknownImport,
    /// An import that the manifest does not grant.
    DeniedCapability,
    /// No handler.
    MissingExport,
    /// An interface has another shape than this host's.
    WrongWorld,
    /// Not signed, or not by a trusted key, or not for this component and manifest.
    BadSignature,
    /// A limit of the engine.
    LimitExceeded,
    /// It cannot be started, or traps while it judges its own health.
    CannotStart,
    /// It cannot read the state that the active version wrote.
    StateFormat,
}

impl Reason {
    /// A reason.
    #[must_use]
    pub fn new(code: ReasonCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}
