//! `GET /api/v1/audit/export`: the tenant's entries as NDJSON that proves itself. The lines are made while they are sent, so
//! a long log needs no memory; a failure in the middle breaks the connection off, and the missing end tells it.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use futures_util::stream;
use http::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::audit_proof::newest;
use crate::audit::export::writer::Export;
use crate::audit::merkle::Range;
use crate::http::input::Query;
use crate::http::operation::Operation;
use crate::http::output::{Output, with_type};
use crate::http::problem::{Code, Problem};
use crate::limit;
use crate::rbac::permission::AuditRead;
use crate::rbac::permit::Permit;
use crate::state::unit::Receipt;

/// Which part of the log has its text.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportQuery {
    /// The first index; 0 when absent.
    #[serde(default)]
    pub from: Option<u64>,
    /// The index before which it ends; all that the newest checkpoint covers when absent.
    #[serde(default)]
    pub to: Option<u64>,
    /// Sizes of kept checkpoints that the export is to be compared with, separated by commas.
    #[serde(default)]
    pub at: Option<String>,
}

/// The lines.
#[derive(Debug)]
pub struct Lines {
    export: Export,
    turns: Arc<Semaphore>,
}

impl Output for Lines {
    const STATUS: StatusCode = StatusCode::OK;

    fn respond(self, _receipt: &Receipt) -> Response {
        let lines = stream::try_unfold(self, async |Self { mut export, turns }| {
            // A turn lasts for a page: a client that takes nothing holds up nobody. The semaphore is never closed.
            let turn = turns.acquire().await.ok();
            let lines = export.next().await.inspect_err(|error| {
                tracing::error!(error = error as &dyn std::error::Error, "an export of the audit log broke off");
            })?;
            drop(turn);
            Ok::<_, crate::storage::StorageError>(lines.map(|lines| (lines, Self { export, turns })))
        });
        with_type(Self::STATUS, "application/x-ndjson", Body::from_stream(lines))
    }

    fn describe(_generator: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        let about =
            "A manifest, then entries and hashes in the order of the log, then the signed end; see docs/audit.md.";
        Some(("application/x-ndjson", json_schema!({ "type": "string", "description": about })))
    }
}

/// `GET /api/v1/audit/export`
pub async fn export(
    operation: Operation,
    permit: Permit<AuditRead>,
    Query(query): Query<ExportQuery>,
) -> Result<Lines, Problem> {
    let (checkpoint, note) = newest(&operation).await?;
    let to = query.to.unwrap_or(checkpoint.size);
    let from = query.from.unwrap_or(0);
    if to > checkpoint.size {
        let message = format!("must be at most {}, the newest checkpoint's size", checkpoint.size);
        return Err(Problem::invalid("/query/to", message));
    }
    if from > to {
        return Err(Problem::invalid("/query/from", format!("must be at most {to}, where the range ends")));
    }
    let at = query.at.as_deref().map(|at| sizes(at, checkpoint.size)).transpose()?.unwrap_or_default();
    let turns = Arc::clone(&operation.kernel.exporting);
    drop(turns.try_acquire().map_err(|_| {
        Problem::new(Code::RateLimited, "Others export the log right now; wait for that to end.").retry_after(5)
    })?);
    operation.detail("from", from);
    operation.detail("to", to);
    let kernel = &operation.kernel;
    let (range, sealer) = (Range(from, to), Arc::clone(&kernel.sealer));
    let export = Export::new(&kernel.storage, sealer, permit.access().tenant, (range, &at), (&checkpoint, note));
    Ok(Lines { export, turns })
}

/// The sizes that a client names.
fn sizes(named: &str, newest: u64) -> Result<Vec<u64>, Problem> {
    let count = named.split(',').count();
    let sizes = named.split(',').map(|size| size.parse().ok().filter(|size| *size <= newest));
    let sizes: Option<Vec<u64>> = sizes.take(limit::CHECKPOINTS_KEPT_MAX).collect();
    sizes.filter(|_| count <= limit::CHECKPOINTS_KEPT_MAX).ok_or_else(|| {
        let message = format!(
            "must be at most {} sizes, separated by commas, each at most {newest}, the newest checkpoint's",
            limit::CHECKPOINTS_KEPT_MAX
        );
        Problem::invalid("/query/at", message)
    })
}
