//! The signature of an upload: read, checked before anything is compiled, and renewed for a version that is there already.
//! The rule itself is in `cell::signature`.

use super::cell::rejected;
use crate::cell::catalog::CellRecord;
use crate::cell::registry::{cell_key, version_key};
use crate::cell::rejection::{Reason, ReasonCode};
use crate::cell::signature::Signature;
use crate::cell::version::VersionRecord;
use crate::http::operation::Operation;
use crate::http::problem::Problem;

/// The signature that came with an upload.
pub fn read(operation: &Operation, text: Option<&str>) -> Result<Option<Signature>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let signature: Signature = text.parse().map_err(|cause: crate::cell::signature::InvalidSignature| {
        rejected(vec![Reason::new(ReasonCode::BadSignature, cause.to_string())])
    })?;
    operation.detail("signed_by", signature.key().to_string());
    Ok(Some(signature))
}

/// Refuses what nobody trusted vouches for.
pub fn check(
    operation: &Operation,
    digest: &str,
    manifest: &str,
    signature: Option<&Signature>,
) -> Result<(), Problem> {
    let trusted = &operation.kernel.registry.trusted;
    trusted.check(digest, manifest, signature).map_err(|reason| rejected(vec![reason]))
}

/// Lets a version that was uploaded before be vouched for by another key: its content stays what it is.
pub async fn renew(
    operation: &Operation,
    mut record: VersionRecord,
    signature: Option<Signature>,
) -> Result<VersionRecord, Problem> {
    let signature = match signature {
        Some(signature) if record.signature.as_ref() != Some(&signature) => signature,
        Some(_) | None => {
            operation.changes_nothing();
            return Ok(record);
        }
    };
    check(operation, &record.digest, &record.manifest, Some(&signature))?;
    record.signature = Some(signature);
    let work = &operation.work;
    work.save(version_key(&record.name, &record.version), &record)?;
    // Written again unchanged: the commit of a cell's record is what builds a new snapshot, in which an active version that
    // was left out for want of a signature serves again.
    let key = cell_key(&record.name);
    if let Some(cell) = work.load::<CellRecord>(&key).await? {
        work.save(key, &cell)?;
    }
    Ok(record)
}
