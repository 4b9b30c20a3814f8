//! Reads of the two logs: a tenant's events and the audit log.

use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use super::PostgresStorage;
use crate::audit::{AuditQuery, StoredEntry};
use crate::event::{EventQuery, StoredEvent};
use crate::id::{AuditId, TenantId};
use crate::limit;
use crate::storage::record::{self, AuditRow, EventRow};
use crate::storage::search::{self, Dialect, Way};
use crate::storage::{StorageError, measured};

impl Dialect for Postgres {
    /// Says in other words that the tenant is this one. Told plainly, the planner knows that the primary key gives the order
    /// too, and goes through the entries of all tenants. The pair is where the index is entered.
    fn push_own(sql: &mut QueryBuilder<Self>, tenant: Uuid, before: i64) {
        sql.push("(tenant, idx) < (")
            .push_bind(tenant)
            .push(", ")
            .push_bind(before)
            .push(") and idx < ")
            .push_bind(before);
        sql.push(" and tenant >= ").push_bind(tenant).push(" and tenant <= ").push_bind(tenant);
    }

    fn push_events(sql: &mut QueryBuilder<Self>, _index: Option<&'static str>) {
        sql.push("event");
    }
}

impl PostgresStorage {
    /// See [`crate::storage::Storage::event`].
    pub async fn event(&self, tenant: TenantId, source: &str, id: &str) -> Result<Option<StoredEvent>, StorageError> {
        let query = sqlx::query_as(record::EVENT).bind(tenant.0).bind(source).bind(id).fetch_optional(&self.readers);
        let row: Option<EventRow> = measured("event", query).await?;
        row.map(record::event).transpose()
    }

    /// See [`crate::storage::Storage::events`].
    pub async fn events(&self, query: &EventQuery) -> Result<Vec<StoredEvent>, StorageError> {
        let mut sql = search::event_page(query);
        let query = sql.build_query_as().fetch_all(&self.readers);
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
        let few = match search::audit_time(query) {
            Some(mut sql) => {
                let counting = sql.build_query_scalar().persistent(false).fetch_one(&self.readers);
                let found: i64 = measured("audit_time", counting).await?;
                found <= limit::AUDIT_SORTED_MAX
            }
            None => false,
        };
        let mut sql = search::audit_page(query, if few { Way::ByTime } else { Way::InOrder });
        // There are more combinations of filters than a connection keeps statements.
        let query = sql.build_query_as().persistent(false).fetch_all(&self.readers);
        let rows: Vec<AuditRow> = measured("audit", query).await?;
        rows.into_iter().map(record::audit).collect()
    }
}
