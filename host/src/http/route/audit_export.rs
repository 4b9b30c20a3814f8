//! `GET /api/v1/audit/export`: the tenant's entries as NDJSON that proves itself. The lines are made while they are sent, so
//! a long log needs no memory; a failure in the middle breaks the connection off, and the missing end tells it.

use axum::body::Body;
use axum::response::Response;
use futures_util::stream;
use http::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::audit_proof::newest;
use crate::audit::export::writer::Export;
use crate::audit::merkle::Range;
use crate::http::input::Query;
use crate::http::operation::Operation;
use crate::http::output::{Output, with_type};
use crate::http::problem::Problem;
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
}

/// The lines.
#[derive(Debug)]
pub struct Lines(Export);

impl Output for Lines {
    const STATUS: StatusCode = StatusCode::OK;

    fn respond(self, _receipt: &Receipt) -> Response {
        let lines = stream::try_unfold(self.0, async |mut export| {
            let lines = export.next().await.inspect_err(|error| {
                tracing::error!(error = error as &dyn std::error::Error, "an export of the audit log broke off");
            })?;
            Ok::<_, crate::storage::StorageError>(lines.map(|lines| (lines, export)))
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
    operation.detail("from", from);
    operation.detail("to", to);
    let kernel = &operation.kernel;
    let (range, sealer) = (Range(from, to), std::sync::Arc::clone(&kernel.sealer));
    Ok(Lines(Export::new(&kernel.storage, sealer, permit.access().tenant, range, (&checkpoint, note))))
}
