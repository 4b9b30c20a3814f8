//! Reading the audit log of the caller's own tenant. Nothing here can change it.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::audit::{AuditQuery, Outcome, StoredEntry};
use crate::http::input::{Path, Query, page_size};
use crate::http::operation::Operation;
use crate::http::output::{Ok200, Page};
use crate::http::problem::Problem;
use crate::id::{AuditId, CorrelationId};
use crate::limit;
use crate::rbac::permission::AuditRead;
use crate::rbac::permit::Permit;

/// Which entries; those that match everything given.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditFilter {
    /// An actor's id.
    #[serde(default)]
    pub actor: Option<String>,
    /// An exact action, for example `user.create` or `authz.deny`.
    #[serde(default)]
    pub action: Option<String>,
    /// An outcome.
    #[serde(default)]
    pub outcome: Option<Outcome>,
    /// Entries of one request.
    #[serde(default)]
    pub correlation_id: Option<CorrelationId>,
    /// Not before this time.
    #[serde(default)]
    pub from: Option<Timestamp>,
    /// Before this time.
    #[serde(default)]
    pub to: Option<Timestamp>,
    /// Page size, 1 to 200; 50 when absent.
    #[serde(default)]
    pub limit: Option<u32>,
    /// Where the page before ended: its `next_cursor`.
    #[serde(default)]
    pub cursor: Option<String>,
}

/// Which entry.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct AuditPath {
    /// The entry's id.
    pub id: AuditId,
}

/// `GET /api/v1/audit`: newest first.
pub async fn list(
    operation: Operation,
    permit: Permit<AuditRead>,
    Query(filter): Query<AuditFilter>,
) -> Result<Ok200<Page<StoredEntry>>, Problem> {
    let size = page_size(filter.limit)?;
    let words = [
        ("actor", filter.actor.clone()),
        ("action", filter.action.clone()),
        ("outcome", filter.outcome.map(|outcome| outcome.as_str().to_owned())),
        ("correlation_id", filter.correlation_id.map(|id| id.to_string())),
        ("from", filter.from.map(|at| at.to_string())),
        ("to", filter.to.map(|at| at.to_string())),
        ("cursor", filter.cursor.clone()),
    ];
    let cut = |word: String| Value::from(word.chars().take(limit::EVENT_NAME_MAX).collect::<String>());
    let named = words.into_iter().filter_map(|(name, word)| Some((name.to_owned(), cut(word?))));
    operation.detail("filter", named.collect::<Map<_, _>>());
    let before = filter.cursor.as_deref().map(str::parse).transpose();
    let query = AuditQuery {
        tenant: Some(permit.access().tenant),
        actor: filter.actor,
        action: filter.action,
        outcome: filter.outcome.map(|outcome| outcome.as_str().to_owned()),
        correlation_id: filter.correlation_id,
        from: filter.from,
        to: filter.to,
        before: before.map_err(|_| Problem::invalid("/query/cursor", "must be the next_cursor of a page"))?,
        limit: size + 1,
    };
    let entries = operation.kernel.storage.audit(&query).await?;
    Ok(Ok200(Page::cut(entries, size, |entry| entry.index.to_string())))
}

/// `GET /api/v1/audit/{id}`
pub async fn read(
    operation: Operation,
    permit: Permit<AuditRead>,
    Path(path): Path<AuditPath>,
) -> Result<Ok200<StoredEntry>, Problem> {
    operation.detail("entry_id", path.id.to_string());
    let found = operation.kernel.storage.audit_entry(permit.access().tenant, path.id).await?;
    found.map(Ok200).ok_or_else(|| Problem::not_found("audit entry", path.id))
}
