//! The statements that are put together at run time, from the filters that are asked for: with only those in it, either
//! database finds the index that serves them. Each is of one tenant and goes through nobody else's rows.

use sqlx::{Database, Encode, QueryBuilder, Type};
use uuid::Uuid;

use crate::audit::{AuditQuery, Outcome};
use crate::event::EventQuery;
use crate::limit;

/// What the databases say differently.
pub(super) trait Dialect: Database {
    /// Adds: the tenant's entries of the audit log before an index.
    fn push_own(sql: &mut QueryBuilder<Self>, tenant: Uuid, before: i64);

    /// Adds the events, where needed with the index by which they are found.
    fn push_events(sql: &mut QueryBuilder<Self>, index: Option<&'static str>);
}

/// How a page of the audit log is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// In the order of the log, newest first, until the page is full.
    InOrder,
    /// All entries of a short time, which are then put in order.
    ByTime,
}

/// A page of a tenant's events. An exact type and a subject have indexes; the beginning of a type is compared with the
/// tenant's events in their order.
pub(super) fn event_page<DB>(query: &EventQuery) -> QueryBuilder<DB>
where
    DB: Dialect,
    for<'a> Uuid: Encode<'a, DB> + Type<DB>,
    for<'a> String: Encode<'a, DB> + Type<DB>,
    for<'a> i64: Encode<'a, DB> + Type<DB>,
{
    let mut sql = QueryBuilder::new(
        "select sequence, id, source, kind, subject, time, data, tenant, actor, correlation, traceparent from ",
    );
    let of_one_type = query.kind.as_deref().is_some_and(|kind| !kind.ends_with('*'));
    let by_subject = query.subject.is_some().then_some("event_by_subject");
    DB::push_events(&mut sql, by_subject.or(of_one_type.then_some("event_by_kind")));
    sql.push(" where tenant = ").push_bind(query.tenant.0).push(" and sequence > ").push_bind(query.after);
    if let Some(kind) = &query.kind {
        if let Some(beginning) = kind.strip_suffix('*') {
            sql.push(" and substr(kind, 1, length(").push_bind(beginning.to_owned());
            sql.push(")) = ").push_bind(beginning.to_owned());
        } else {
            sql.push(" and kind = ").push_bind(kind.clone());
        }
    }
    if let Some(subject) = &query.subject {
        sql.push(" and subject = ").push_bind(subject.clone());
    }
    sql.push(" order by sequence limit ").push_bind(i64::from(query.limit));
    sql
}

/// Counts the entries of the time that is asked for, as far as [`Way::ByTime`] goes. None when that is no way: without a
/// beginning, or where a request's few entries are found by its id.
pub(super) fn audit_time<DB>(query: &AuditQuery) -> Option<QueryBuilder<DB>>
where
    DB: Database,
    for<'a> Uuid: Encode<'a, DB> + Type<DB>,
    for<'a> i64: Encode<'a, DB> + Type<DB>,
{
    let (Some(tenant), Some(_), None) = (query.tenant, query.from, query.correlation_id) else {
        return None;
    };
    let mut sql = QueryBuilder::new("select count(*) from (select 1 from audit where tenant = ");
    sql.push_bind(tenant.0);
    push_time(&mut sql, query, "at");
    sql.push(" limit ").push_bind(limit::AUDIT_SORTED_MAX + 1).push(") as few");
    Some(sql)
}

/// A page of the audit log, newest first.
pub(super) fn audit_page<DB>(query: &AuditQuery, way: Way) -> QueryBuilder<DB>
where
    DB: Dialect,
    for<'a> Uuid: Encode<'a, DB> + Type<DB>,
    for<'a> String: Encode<'a, DB> + Type<DB>,
    for<'a> i64: Encode<'a, DB> + Type<DB>,
{
    let before = query.before.unwrap_or(i64::MAX);
    let mut sql = QueryBuilder::new("select idx, body from ");
    match (query.tenant, way) {
        (Some(tenant), Way::ByTime) => {
            // The inner limit leaves nothing out. It keeps the planner from merging the two and choosing another index.
            sql.push("(select * from audit where tenant = ").push_bind(tenant.0);
            push_time(&mut sql, query, "at");
            sql.push(" limit ").push_bind(i64::MAX).push(") as few where idx < ").push_bind(before);
        }
        (Some(tenant), Way::InOrder) => {
            sql.push("audit where ");
            DB::push_own(&mut sql, tenant.0, before);
            // The sum hides that there is an index of times, which would lose the order.
            push_time(&mut sql, query, "at + 0");
        }
        (None, _) => {
            sql.push("audit where idx < ").push_bind(before);
            push_time(&mut sql, query, "at + 0");
        }
    }
    // A request has few entries: no other index is as good, and the empty text hides that there are others.
    let other = if query.correlation_id.is_some() { " || ''" } else { "" };
    if let Some(actor) = &query.actor {
        sql.push(format_args!(" and actor{other} = ")).push_bind(actor.clone());
    }
    if let Some(action) = &query.action {
        sql.push(format_args!(" and action{other} = ")).push_bind(action.clone());
    }
    if let Some(outcome) = &query.outcome {
        if outcome != Outcome::Success.as_str() {
            // The condition of the index, which holds only these.
            sql.push(" and outcome <> 'success'");
        }
        sql.push(format_args!(" and outcome{other} = ")).push_bind(outcome.clone());
    }
    if let Some(correlation) = query.correlation_id {
        sql.push(" and correlation = ").push_bind(correlation.0);
    }
    sql.push(if query.tenant.is_some() { " order by tenant desc, idx desc" } else { " order by idx desc" });
    sql.push(" limit ").push_bind(i64::from(query.limit));
    sql
}

/// All statements that may answer a search.
pub(super) fn audit_statements<DB>(query: &AuditQuery) -> Vec<String>
where
    DB: Dialect,
    for<'a> Uuid: Encode<'a, DB> + Type<DB>,
    for<'a> String: Encode<'a, DB> + Type<DB>,
    for<'a> i64: Encode<'a, DB> + Type<DB>,
{
    let in_order = audit_page::<DB>(query, Way::InOrder).into_string();
    let counting = audit_time::<DB>(query).map(QueryBuilder::into_string);
    let by_time = counting.is_some().then(|| audit_page::<DB>(query, Way::ByTime).into_string());
    [in_order].into_iter().chain(counting).chain(by_time).collect()
}

fn push_time<DB>(sql: &mut QueryBuilder<DB>, query: &AuditQuery, time: &str)
where
    DB: Database,
    for<'a> i64: Encode<'a, DB> + Type<DB>,
{
    for (relation, bound) in [(">=", query.from), ("<", query.to)] {
        if let Some(bound) = bound {
            sql.push(format_args!(" and {time} {relation} ")).push_bind(bound.as_millisecond());
        }
    }
}
