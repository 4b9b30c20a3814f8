//! How searches are said to this database.

use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use crate::storage::search::Dialect;

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
