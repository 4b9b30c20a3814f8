//! Reads of the two logs: a tenant's events and the audit log.

use super::SqliteStorage;
use crate::audit::{AuditQuery, StoredEntry};
use crate::event::{EventQuery, StoredEvent};
use crate::id::{AuditId, TenantId};
use crate::storage::record::{self, AuditRow, EventRow};
use crate::storage::{StorageError, measured};

impl SqliteStorage {
    /// See [`crate::storage::Storage::event`].
    pub async fn event(&self, tenant: TenantId, source: &str, id: &str) -> Result<Option<StoredEvent>, StorageError> {
        let query = sqlx::query_as(record::EVENT).bind(tenant.0).bind(source).bind(id).fetch_optional(&self.readers);
        let row: Option<EventRow> = measured("event", query).await?;
        row.map(record::event).transpose()
    }

    /// See [`crate::storage::Storage::events`].
    pub async fn events(&self, query: &EventQuery) -> Result<Vec<StoredEvent>, StorageError> {
        let (kind, kind_prefix) = record::kind_filters(query);
        let query = sqlx::query_as(record::EVENTS)
            .bind(query.tenant.0)
            .bind(query.after)
            .bind(kind)
            .bind(kind_prefix)
            .bind(query.subject.as_deref())
            .bind(i64::from(query.limit))
            .fetch_all(&self.readers);
        let rows: Vec<EventRow> = measured("events", query).await?;
        rows.into_iter().map(record::event).collect()
    }

    /// See [`crate::storage::Storage::audit_entry`].
    pub async fn audit_entry(&self, tenant: TenantId, id: AuditId) -> Result<Option<StoredEntry>, StorageError> {
        let query = sqlx::query_as(record::AUDIT_ENTRY).bind(id.0).bind(tenant.0).fetch_optional(&self.readers);
        let row: Option<AuditRow> = measured("audit_entry", query).await?;
        row.map(record::audit).transpose()
    }

    /// See [`crate::storage::Storage::audit`].
    pub async fn audit(&self, query: &AuditQuery) -> Result<Vec<StoredEntry>, StorageError> {
        let mut sql = record::audit_page(query);
        let rows: Vec<AuditRow> = measured("audit", sql.build_query_as().fetch_all(&self.readers)).await?;
        rows.into_iter().map(record::audit).collect()
    }
}
