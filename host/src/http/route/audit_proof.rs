//! Checkpoints of the audit log, and proofs against them. A reply can be checked without trusting the kernel that gave it,
//! by anybody who has the verifier key; `docs/audit.md` says how.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::audit::AuditPath;
use crate::audit::checkpoint::Checkpoint;
use crate::audit::merkle::Hash;
use crate::audit::proof::{ConsistencyProof, InclusionProof, Nodes, signed, unsigned};
use crate::http::input::{Path, Query};
use crate::http::operation::Operation;
use crate::http::output::Ok200;
use crate::http::problem::{Code, Problem};
use crate::rbac::permission::AuditRead;
use crate::rbac::permit::{Permit, Public};

/// Which tree.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProofQuery {
    /// Entries of the log that the proof is about, at most those of the newest checkpoint; those when absent.
    #[serde(default)]
    pub size: Option<u64>,
}

/// Which two trees.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsistencyQuery {
    /// Entries of the older log.
    pub from: u64,
    /// Entries of the newer log; those of the newest checkpoint when absent.
    #[serde(default)]
    pub to: Option<u64>,
}

/// A signed state of the log.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CheckpointView {
    /// Name of the log.
    pub origin: String,
    /// Entries, of all tenants.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// The signed note (C2SP tlog-checkpoint). Keep it elsewhere, as it is.
    pub checkpoint: String,
    /// The verifier key (C2SP signed-note).
    pub key: String,
}

/// Who signs.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AuditKey {
    /// Name of the log.
    pub origin: String,
    /// The verifier key (C2SP signed-note).
    pub key: String,
}

/// `GET /.well-known/audit-key`
pub async fn key(operation: Operation, _permit: Public, (): ()) -> Result<Ok200<AuditKey>, Problem> {
    let key = operation.kernel.sealer.key();
    Ok(Ok200(AuditKey { origin: key.name().to_owned(), key: key.to_string() }))
}

/// `GET /api/v1/audit/checkpoints/latest`
pub async fn latest(
    operation: Operation,
    _permit: Permit<AuditRead>,
    (): (),
) -> Result<Ok200<CheckpointView>, Problem> {
    let (Checkpoint { size, root }, checkpoint) = newest(&operation).await?;
    let key = operation.kernel.sealer.key();
    Ok(Ok200(CheckpointView { origin: key.name().to_owned(), size, root, checkpoint, key: key.to_string() }))
}

/// `GET /api/v1/audit/{id}/proof`
pub async fn inclusion(
    operation: Operation,
    permit: Permit<AuditRead>,
    (Path(path), Query(query)): (Path<AuditPath>, Query<ProofQuery>),
) -> Result<Ok200<InclusionProof>, Problem> {
    operation.detail("entry_id", path.id.to_string());
    let storage = &operation.kernel.storage;
    let tenant = permit.access().tenant;
    let found = storage.audit_entry(tenant, path.id).await?;
    let index = found.ok_or_else(|| Problem::not_found("audit entry", path.id))?.index;
    let (size, checkpoint) = tree(&operation, "/query/size", query.size).await?;
    let index = unsigned(index);
    if index >= size {
        return match query.size {
            Some(_) => Err(Problem::invalid("/query/size", format!("the entry stands later, at index {index}"))),
            None => Err(not_sealed()),
        };
    }
    let range = (signed(index), signed(index + 1));
    let text = storage.audit_texts(tenant, range, 1).await?.into_iter().next().map(|(.., text)| text);
    let text = text.ok_or_else(|| Problem::not_found("audit entry", path.id))?;
    let mut nodes = Nodes::new(storage);
    let hashes = nodes.inclusion(index, size).await?;
    let root = nodes.root(size).await?;
    let leaf = Hash::of_leaf(text.as_bytes());
    Ok(Ok200(InclusionProof { id: path.id, index, text, leaf, size, root, hashes, checkpoint }))
}

/// `GET /api/v1/audit/consistency`
pub async fn consistency(
    operation: Operation,
    _permit: Permit<AuditRead>,
    Query(query): Query<ConsistencyQuery>,
) -> Result<Ok200<ConsistencyProof>, Problem> {
    let (to, checkpoint) = tree(&operation, "/query/to", query.to).await?;
    let from = query.from;
    if from > to {
        return Err(Problem::invalid("/query/from", format!("must be at most {to}, the size of the newer log")));
    }
    operation.detail("from", from);
    operation.detail("to", to);
    let hashes = Nodes::new(&operation.kernel.storage).consistency(from, to).await?;
    Ok(Ok200(ConsistencyProof { from, to, hashes, checkpoint }))
}

/// The size of the tree that was asked for, and its checkpoint, if one was signed at that size.
async fn tree(operation: &Operation, pointer: &str, size: Option<u64>) -> Result<(u64, Option<String>), Problem> {
    let (newest, note) = newest(operation).await?;
    let Some(size) = size.filter(|size| *size != newest.size) else { return Ok((newest.size, Some(note))) };
    if size > newest.size {
        return Err(Problem::invalid(
            pointer,
            format!("must be at most {}, the newest checkpoint's size", newest.size),
        ));
    }
    let size_signed = signed(size);
    let rows = operation.kernel.storage.audit_checkpoints(size_signed - 1, size_signed, 1).await?;
    Ok((size, rows.into_iter().next().and_then(|(_, note)| String::from_utf8(note).ok())))
}

/// The newest checkpoint and its note.
pub(super) async fn newest(operation: &Operation) -> Result<(Checkpoint, String), Problem> {
    let kernel = &operation.kernel;
    let (_, newest) = kernel.storage.audit_end().await?;
    let size = newest.ok_or_else(not_sealed)?;
    let rows = kernel.storage.audit_checkpoints(size - 1, size, 1).await?;
    let note = rows.into_iter().next().map(|(_, note)| note).unwrap_or_default();
    let note = String::from_utf8_lossy(&note).into_owned();
    let checkpoint = Checkpoint::open(&note, kernel.sealer.key()).map_err(Problem::internal)?;
    Ok((checkpoint, note))
}

/// The entry is too new.
fn not_sealed() -> Problem {
    Problem::new(Code::NotSealed, "No checkpoint covers this yet; one follows within a second.").retry_after(1)
}
