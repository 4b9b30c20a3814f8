//! What a check of everything reads: whole tables in the order of their keys, page by page, and what belongs to many records
//! at once. Used on a storage that is [pinned](super::pinned), where all pages are of one state.

use uuid::Uuid;

use super::{Storage, StorageError, measured};
use crate::id::TenantId;
use crate::state::{StateKey, Version};

const HEAD: &str = "select sequence, audit_index from head";
const SEQUENCES: &str = "select tenant, sequence from tenant_sequence order by tenant";
const VERSIONS: &str = "select tenant, space, key, version from state where (tenant, space, key) > ($1, $2, $3)
    order by tenant, space, key limit $4";
const EVENT_TENANT: &str = "select tenant from event where tenant > $1 order by tenant limit 1";
const EVENTS: &str = "select sequence, id, source, kind, subject, data, correlation, commit_sequence from event
    where tenant = $1 and sequence > $2 order by sequence limit $3";
const ABOUT_SQLITE: &str = "select event.sequence, event.id, event.source, event.kind, event.subject, event.data,
    event.correlation, event.commit_sequence from json_each($2) as wanted cross join event
    on event.tenant = $1 and event.subject = wanted.value";
const ABOUT_POSTGRES: &str = "select event.sequence, event.id, event.source, event.kind, event.subject, event.data,
    event.correlation, event.commit_sequence from unnest($2::text[]) as wanted (subject)
    join event on event.tenant = $1 and event.subject = wanted.subject";
const MARKS_SQLITE: &str = "select idx, correlation, outcome, commit_sequence from audit where tenant = $1 and idx > $2
    order by idx limit $3";
// In these words, for the reason that is given where the audit log is searched.
const MARKS_POSTGRES: &str = "select idx, correlation, outcome, commit_sequence from audit
    where (tenant, idx) > ($1, $2) and idx > $2 and tenant >= $1 and tenant <= $1 order by tenant, idx limit $3";
const CALLS_SQLITE: &str = "select audit.body from json_each($2) as wanted cross join audit
    on audit.tenant = $1 and audit.at = wanted.value where audit.action = 'cell.call' and audit.outcome = 'success'";
const CALLS_POSTGRES: &str = "select audit.body from unnest($2::bigint[]) as wanted (at)
    join audit on audit.tenant = $1 and audit.at = wanted.at where audit.action = 'cell.call' and audit.outcome = 'success'";
const REPLIES: &str = "select tenant, principal, route, idempotency_key, status, body, created_at, expires_at
    from idempotency where (tenant, principal, route, idempotency_key) > ($1, $2, $3, $4)
    order by tenant, principal, route, idempotency_key limit $5";

/// Sequence, id, source, type, subject, data, correlation id and commit of an event.
pub type RawEvent = (i64, String, String, String, Option<String>, String, Uuid, Version);
/// Index, correlation id, outcome and commit of an audit entry.
pub type AuditMark = (i64, Uuid, String, Version);
/// Tenant, principal, route, key, status, body, and the milliseconds of its beginning and its end, of a stored reply.
pub type RawReply = (Uuid, String, String, String, i32, Vec<u8>, i64, i64);

macro_rules! read {
    ($self:ident, $name:literal, $query:expr, $fetch:ident) => {
        on_backend!($self, backend => measured($name, $query.$fetch(&backend.readers)).await?)
    };
}

impl Storage {
    /// The last commit and the last index of the audit log.
    pub async fn head(&self) -> Result<(Version, i64), StorageError> {
        Ok(read!(self, "whole_head", sqlx::query_as(HEAD), fetch_one))
    }

    /// The last event sequence that each tenant was given.
    pub async fn event_sequences(&self) -> Result<Vec<(Uuid, i64)>, StorageError> {
        Ok(read!(self, "whole_sequences", sqlx::query_as(SEQUENCES), fetch_all))
    }

    /// Tenant, space, key and version of the keys after one.
    pub async fn state_versions(
        &self,
        after: &StateKey,
        limit: u32,
    ) -> Result<Vec<(Uuid, String, String, Version)>, StorageError> {
        let limit = i64::from(limit);
        let (tenant, name, key) = (after.space.tenant.0, &*after.space.name, &after.key);
        let query = read!(
            self,
            "whole_versions",
            sqlx::query_as(VERSIONS).bind(tenant).bind(name).bind(key).bind(limit),
            fetch_all
        );
        Ok(query)
    }

    /// The first tenant after one that has events.
    pub async fn next_event_tenant(&self, after: TenantId) -> Result<Option<TenantId>, StorageError> {
        let found: Option<Uuid> =
            read!(self, "whole_tenant", sqlx::query_scalar(EVENT_TENANT).bind(after.0), fetch_optional);
        Ok(found.map(TenantId))
    }

    /// A tenant's events after a sequence, in order.
    pub async fn raw_events(&self, tenant: TenantId, after: i64, limit: u32) -> Result<Vec<RawEvent>, StorageError> {
        let limit = i64::from(limit);
        Ok(read!(self, "whole_events", sqlx::query_as(EVENTS).bind(tenant.0).bind(after).bind(limit), fetch_all))
    }

    /// The events of a tenant that are about one of these subjects, in no order.
    pub async fn events_about(&self, tenant: TenantId, subjects: &[String]) -> Result<Vec<RawEvent>, StorageError> {
        Ok(match self {
            Self::Sqlite(backend) => {
                let subjects = serde_json::to_string(subjects).unwrap_or_default();
                let query = sqlx::query_as(ABOUT_SQLITE).bind(tenant.0).bind(subjects);
                measured("whole_about", query.fetch_all(&backend.readers)).await?
            }
            Self::Postgres(backend) => {
                let query = sqlx::query_as(ABOUT_POSTGRES).bind(tenant.0).bind(subjects);
                measured("whole_about", query.fetch_all(&backend.readers)).await?
            }
        })
    }

    /// A tenant's audit entries after an index, in order.
    pub async fn audit_marks(&self, tenant: TenantId, after: i64, limit: u32) -> Result<Vec<AuditMark>, StorageError> {
        let limit = i64::from(limit);
        let sql = match self {
            Self::Sqlite(_) => MARKS_SQLITE,
            Self::Postgres(_) => MARKS_POSTGRES,
        };
        Ok(read!(self, "whole_marks", sqlx::query_as(sql).bind(tenant.0).bind(after).bind(limit), fetch_all))
    }

    /// The texts of the audit entries of calls of cells that succeeded and began at one of these milliseconds.
    pub async fn audited_calls(&self, tenant: TenantId, at: &[i64]) -> Result<Vec<String>, StorageError> {
        Ok(match self {
            Self::Sqlite(backend) => {
                let at = serde_json::to_string(at).unwrap_or_default();
                let query = sqlx::query_scalar(CALLS_SQLITE).bind(tenant.0).bind(at);
                measured("whole_calls", query.fetch_all(&backend.readers)).await?
            }
            Self::Postgres(backend) => {
                let query = sqlx::query_scalar(CALLS_POSTGRES).bind(tenant.0).bind(at);
                measured("whole_calls", query.fetch_all(&backend.readers)).await?
            }
        })
    }

    /// The stored replies after one, in the order of their keys.
    pub async fn raw_replies(
        &self,
        after: (Uuid, &str, &str, &str),
        limit: u32,
    ) -> Result<Vec<RawReply>, StorageError> {
        let (limit, (tenant, principal, route, key)) = (i64::from(limit), after);
        Ok(read!(
            self,
            "whole_replies",
            sqlx::query_as(REPLIES).bind(tenant).bind(principal).bind(route).bind(key).bind(limit),
            fetch_all
        ))
    }
}
