//! The audit log: who did what, with which outcome. Append-only: the database refuses UPDATE and DELETE. An entry of a
//! mutation commits with the mutation; an entry of a failure or a denial commits before the reply, unless a storm of its
//! kind is being counted (`storm`).

pub mod check;
pub mod checkpoint;
pub mod export;
pub mod merkle;
pub mod note;
pub mod proof;
pub mod receipt;
pub mod seal;
pub mod storm;
pub mod tree;

use std::fmt;

use aws_lc_rs::digest;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use receipt::Receipt;

use crate::id::{AuditId, CorrelationId, TenantId};

/// The action of every reading of the log. A storm of one reader is counted, as failures are.
pub const READ: &str = "audit.read";
/// The target of a reading of the whole log. Each is written: it hands out more than any other.
pub const EXPORT: &str = "audit.export";

/// One entry. Its index is given by the commit.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AuditEntry {
    /// UUIDv7.
    pub id: AuditId,
    /// When the request began.
    pub at: Timestamp,
    /// Whose log.
    pub tenant_id: TenantId,
    /// Who acted.
    pub actor: Party,
    /// For example `user.create`, `authz.deny`, `cell.call`.
    pub action: String,
    /// On what.
    pub target: Party,
    /// How it ended.
    pub outcome: Outcome,
    /// The request.
    pub correlation_id: CorrelationId,
    /// What else an auditor needs; never a secret or a full body.
    pub details: Map<String, Value>,
    /// The cell that ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cell: Option<CellReference>,
    /// What its invocations cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
}

impl AuditEntry {
    /// The JSON text that is stored and that the leaf hash covers.
    #[must_use]
    pub fn text(&self) -> String {
        // Serializing strings, UUIDs and JSON values into memory has no way to fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// An actor or a target.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Party {
    /// `user`, `cell`, `anonymous`, `role`, `tenant`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Its id, or its name where it has none.
    pub id: String,
}

impl Party {
    /// A party of a kind.
    #[must_use]
    pub fn new(kind: &str, id: impl fmt::Display) -> Self {
        Self { kind: kind.to_owned(), id: format!("{id}") }
    }
}

/// How an audited action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Success,
    /// It was refused.
    Denied,
    /// It went wrong and left nothing behind.
    Failure,
}

impl Outcome {
    /// The word in the API and in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Denied => "denied",
            Self::Failure => "failure",
        }
    }
}

/// Exactly which code ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CellReference {
    /// The cell's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the component, `sha256:` and hex.
    pub digest: String,
}

/// An entry as the log holds it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StoredEntry {
    /// Position in the log, from 0, without gaps, in commit order.
    pub index: i64,
    /// The rest.
    #[serde(flatten)]
    pub entry: AuditEntry,
}

/// Which entries an auditor wants, newest first.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// Whose log.
    pub tenant: Option<TenantId>,
    /// An actor's id.
    pub actor: Option<String>,
    /// An exact action.
    pub action: Option<String>,
    /// An outcome.
    pub outcome: Option<String>,
    /// A request.
    pub correlation_id: Option<CorrelationId>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before.
    pub to: Option<Timestamp>,
    /// Exclusive upper bound of the index.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

/// The leaf hash of an entry's stored text, as in RFC 6962 section 2.1: SHA-256 of a zero byte and the text.
#[must_use]
pub fn leaf_hash(text: &str) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[0]);
    context.update(text.as_bytes());
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}
