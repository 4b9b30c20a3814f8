//! How searches are said to this database.

use sqlx::{QueryBuilder, Sqlite};
use uuid::Uuid;

use crate::storage::search::Dialect;

impl Dialect for Sqlite {
    fn push_own(sql: &mut QueryBuilder<Self>, tenant: Uuid, before: i64) {
        sql.push("tenant = ").push_bind(tenant).push(" and idx < ").push_bind(before);
    }

    /// Without statistics, a tenant is thought to have ten events, which no index would find faster than the table itself.
    fn push_events(sql: &mut QueryBuilder<Self>, index: Option<&'static str>) {
        sql.push("event");
        if let Some(index) = index {
            sql.push(" indexed by ").push(index);
        }
    }
}
