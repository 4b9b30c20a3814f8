//! `POST /api/v1/audit/verify`: reads the whole log, one verification at a time. A kernel that lies about its own log can lie
//! here, too; who does not want to trust it verifies proofs, an export, or the database itself.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::audit::check::{self, Report, Sight};
use crate::audit::checkpoint::Checkpoint;
use crate::http::input::OptionalJson;
use crate::http::operation::Operation;
use crate::http::output::Ok200;
use crate::http::problem::{Code, Problem};
use crate::limit;
use crate::rbac::permission::AuditRead;
use crate::rbac::permit::Permit;

/// What to compare the log with.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyBody {
    /// Checkpoints that were kept elsewhere, as they were given.
    #[serde(default)]
    pub checkpoints: Vec<String>,
}

/// `POST /api/v1/audit/verify`
pub async fn verify(
    operation: Operation,
    permit: Permit<AuditRead>,
    OptionalJson(body): OptionalJson<VerifyBody>,
) -> Result<Ok200<Report>, Problem> {
    let kernel = &operation.kernel;
    if body.checkpoints.len() > limit::CHECKPOINTS_KEPT_MAX {
        let message = format!("at most {} at once", limit::CHECKPOINTS_KEPT_MAX);
        return Err(Problem::invalid("/checkpoints", message));
    }
    let key = kernel.sealer.key();
    let mut kept = Vec::new();
    for (number, note) in body.checkpoints.iter().enumerate() {
        let opened = Checkpoint::open(note, key);
        kept.push(opened.map_err(|cause| Problem::invalid(&format!("/checkpoints/{number}"), cause.to_string()))?);
    }
    let _alone = kernel.verifying.try_lock().map_err(|_| {
        Problem::new(Code::RateLimited, "The log is being verified already; wait for that to end.").retry_after(5)
    })?;
    let access = permit.access();
    let sight = if access.system { Sight::All } else { Sight::Tenant(access.tenant) };
    let report = check::verify_as(sight, &kernel.storage, key, &kept).await?;
    operation.detail("ok", report.ok);
    operation.detail("checked", report.checked);
    if let Some(problem) = &report.problem {
        tracing::error!(problem, "the audit log does not hold");
        operation.detail("problem", problem.as_str());
    }
    Ok(Ok200(report))
}
