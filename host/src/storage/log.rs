//! Reads of the two logs: a tenant's events and the audit log.

use sqlx::{Postgres, Sqlite};

use super::record::{self, AuditRow, EventRow};
use super::search::{self, Way};
use super::{Storage, StorageError, in_time, measured};
use crate::audit::{AuditQuery, StoredEntry};
use crate::event::{EventQuery, StoredEvent};
use crate::id::{AuditId, TenantId};
use crate::limit;

impl Storage {
    /// The event of a source with this id.
    pub async fn event(&self, tenant: TenantId, source: &str, id: &str) -> Result<Option<StoredEvent>, StorageError> {
        let found = async {
            Ok(on_backend!(self, backend => {
                let query = sqlx::query_as(record::EVENT).bind(tenant.0).bind(source).bind(id);
                measured("event", query.fetch_optional(&backend.readers)).await?
            }))
        };
        let row: Option<EventRow> = in_time(limit::ANSWER_TIMEOUT, found).await?;
        row.map(record::event).transpose()
    }

    /// A page of a tenant's log, oldest first.
    pub async fn events(&self, query: &EventQuery) -> Result<Vec<StoredEvent>, StorageError> {
        let found = async {
            Ok(on_backend!(self, backend => {
                let mut sql = search::event_page(query);
                measured("events", sql.build_query_as().fetch_all(&backend.readers)).await?
            }))
        };
        let rows: Vec<EventRow> = in_time(limit::ANSWER_TIMEOUT, found).await?;
        rows.into_iter().map(record::event).collect()
    }

    /// One audit entry of a tenant.
    pub async fn audit_entry(&self, tenant: TenantId, id: AuditId) -> Result<Option<StoredEntry>, StorageError> {
        let found = async {
            Ok(on_backend!(self, backend => {
                let query = sqlx::query_as(record::AUDIT_ENTRY).bind(id.0).bind(tenant.0);
                measured("audit_entry", query.fetch_optional(&backend.readers)).await?
            }))
        };
        let row: Option<AuditRow> = in_time(limit::ANSWER_TIMEOUT, found).await?;
        row.map(record::audit).transpose()
    }

    /// A page of the audit log, newest first.
    pub async fn audit(&self, query: &AuditQuery) -> Result<Vec<StoredEntry>, StorageError> {
        // There are more combinations of filters than a connection keeps statements.
        let found = async {
            Ok(on_backend!(self, backend => {
                let mut way = Way::InOrder;
                if let Some(mut sql) = search::audit_time(query) {
                    let counting = sql.build_query_scalar().persistent(false).fetch_one(&backend.readers);
                    let entries: i64 = measured("audit_time", counting).await?;
                    if entries <= limit::AUDIT_SORTED_MAX {
                        way = Way::ByTime;
                    }
                }
                let mut sql = search::audit_page(query, way);
                measured("audit", sql.build_query_as().persistent(false).fetch_all(&backend.readers)).await?
            }))
        };
        let rows: Vec<AuditRow> = in_time(limit::ANSWER_TIMEOUT, found).await?;
        rows.into_iter().map(record::audit).collect()
    }

    /// The statement of [`Storage::events`], for who asks the database how it would run it.
    #[doc(hidden)]
    #[must_use]
    pub fn event_statement(&self, query: &EventQuery) -> String {
        match self {
            Self::Sqlite(_) => search::event_page::<Sqlite>(query).into_string(),
            Self::Postgres(_) => search::event_page::<Postgres>(query).into_string(),
        }
    }

    /// The same for [`Storage::audit`], which has up to three.
    #[doc(hidden)]
    #[must_use]
    pub fn audit_statements(&self, query: &AuditQuery) -> Vec<String> {
        match self {
            Self::Sqlite(_) => search::audit_statements::<Sqlite>(query),
            Self::Postgres(_) => search::audit_statements::<Postgres>(query),
        }
    }
}
