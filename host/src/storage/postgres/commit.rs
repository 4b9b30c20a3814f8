//! The commit: take the log's head, ask, decide, write, COMMIT. Everything is decided by `plan`; here is only SQL.

use sqlx::PgConnection;
use tokio::time::timeout;

use super::PostgresStorage;
use super::answer::{KeyColumns, answer, column};
use crate::id::{BatchId, NodeId};
use crate::limit;
use crate::state::unit::{Unit, Verdict};
use crate::storage::plan::{self, Head, Plan};
use crate::storage::work::{self, Work};
use crate::storage::{StorageError, measured, record};

/// Each statement sees what was committed before it. The first one waits for the head, so all the later ones see the state
/// that the head's last owner left, and nobody can change it meanwhile.
pub(super) const BEGIN: &str = "begin isolation level read committed read write";

const HEAD: &str = "select sequence, audit_index from head for update";

const PUT: &str = "insert into state (tenant, space, key, value, version)
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::bigint[])
    on conflict (tenant, space, key) do update set value = excluded.value, version = excluded.version";

const DELETE: &str = "delete from state using unnest($1::uuid[], $2::text[], $3::text[]) as gone (tenant, space, key)
    where state.tenant = gone.tenant and state.space = gone.space and state.key = gone.key";

const APPEND_EVENTS: &str = "insert into event (tenant, sequence, id, source, kind, subject, time, data, actor,
        correlation, traceparent, commit_sequence)
    select * from unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[],
        $8::text[], $9::text[], $10::uuid[], $11::text[], $12::bigint[])";

const SET_TENANTS: &str = "insert into tenant_sequence (tenant, sequence)
    select * from unnest($1::uuid[], $2::bigint[])
    on conflict (tenant) do update set sequence = excluded.sequence";

const APPEND_AUDIT: &str = "insert into audit (idx, body, leaf, id, tenant, at, actor, action, outcome, correlation,
        commit_sequence)
    select * from unnest($1::bigint[], $2::text[], $3::bytea[], $4::uuid[], $5::uuid[], $6::bigint[], $7::text[],
        $8::text[], $9::text[], $10::uuid[], $11::bigint[])";

const KEEP_REPLIES: &str = "insert into idempotency (tenant, principal, route, idempotency_key, fingerprint, status,
        headers, body, created_at, expires_at)
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::integer[], $7::text[],
        $8::bytea[], $9::bigint[], $10::bigint[])";

impl PostgresStorage {
    /// See [`crate::storage::Storage::commit`].
    pub async fn commit(&self, node: NodeId, batch: BatchId, units: &[Unit]) -> Result<Vec<Verdict>, StorageError> {
        let mut work = Work::begin(&self.writer, BEGIN).await?;
        let deciding = decide_and_write(work.connection(), node, batch, units);
        // After a timeout the work is dropped, which closes its connection in the middle of the statement.
        match timeout(limit::COMMIT_TIMEOUT, deciding).await.map_err(|_| work::timed_out())? {
            Ok((true, verdicts)) => match measured("commit_end", work.commit()).await {
                Ok(()) => Ok(verdicts),
                Err(source) => Err(StorageError::CommitUnknown { verdicts, source }),
            },
            Ok((false, verdicts)) => {
                work.rollback().await;
                Ok(verdicts)
            }
            Err(error) => {
                work.rollback().await;
                Err(error.into())
            }
        }
    }

    /// See [`crate::storage::Storage::last_batch`].
    pub async fn last_batch(&self, node: NodeId) -> Result<Option<BatchId>, StorageError> {
        let mut work = Work::begin(&self.writer, BEGIN).await?;
        let asking = measured("last_batch", last_batch(work.connection(), node));
        // As above: dropped in the middle, the work closes its connection.
        let found = timeout(limit::COMMIT_TIMEOUT, asking).await.map_err(|_| work::timed_out())?;
        work.rollback().await;
        Ok(found?)
    }
}

async fn lock_head(connection: &mut PgConnection) -> Result<Head, sqlx::Error> {
    let (sequence, audit_index) = sqlx::query_as(HEAD).fetch_one(connection).await?;
    Ok(Head { sequence, audit_index })
}

/// Behind the head's lock: a commit that is still under way on the server has ended when the node's row is read.
async fn last_batch(connection: &mut PgConnection, node: NodeId) -> Result<Option<BatchId>, sqlx::Error> {
    lock_head(&mut *connection).await?;
    let found = sqlx::query_scalar(record::LAST_BATCH).bind(node.0).fetch_optional(connection).await?;
    Ok(found.map(BatchId))
}

/// Answers whether there is anything to commit, and the verdicts.
async fn decide_and_write(
    connection: &mut PgConnection,
    node: NodeId,
    batch: BatchId,
    units: &[Unit],
) -> Result<(bool, Vec<Verdict>), sqlx::Error> {
    let head = measured("commit_lock", lock_head(&mut *connection)).await?;
    let answers = measured("commit_check", answer(&mut *connection, &plan::questions(units))).await?;
    let plan = plan::plan(head, &answers, units);
    if plan.head == head {
        return Ok((false, plan.verdicts));
    }
    measured("commit_write", write(connection, node, batch, &plan)).await?;
    Ok((true, plan.verdicts))
}

async fn write(
    connection: &mut PgConnection,
    node: NodeId,
    batch: BatchId,
    plan: &Plan<'_>,
) -> Result<(), sqlx::Error> {
    write_state(connection, plan).await?;
    write_events(connection, plan).await?;
    write_audit(connection, plan).await?;
    write_replies(connection, plan).await?;
    sqlx::query(record::SET_HEAD)
        .bind(plan.head.sequence)
        .bind(plan.head.audit_index)
        .execute(&mut *connection)
        .await?;
    sqlx::query(record::SET_NODE).bind(node.0).bind(batch.0).execute(connection).await?;
    Ok(())
}

async fn write_state(connection: &mut PgConnection, plan: &Plan<'_>) -> Result<(), sqlx::Error> {
    if !plan.puts.is_empty() {
        let columns = KeyColumns::new(plan.puts.iter().map(|(key, ..)| key));
        sqlx::query(PUT)
            .bind(columns.tenants)
            .bind(columns.spaces)
            .bind(columns.keys)
            .bind(column(&plan.puts, |(_, value, _)| &**value))
            .bind(column(&plan.puts, |(_, _, version)| *version))
            .execute(&mut *connection)
            .await?;
    }
    if !plan.deletes.is_empty() {
        let columns = KeyColumns::new(&plan.deletes);
        sqlx::query(DELETE).bind(columns.tenants).bind(columns.spaces).bind(columns.keys).execute(connection).await?;
    }
    Ok(())
}

async fn write_events(connection: &mut PgConnection, plan: &Plan<'_>) -> Result<(), sqlx::Error> {
    if plan.events.is_empty() {
        return Ok(());
    }
    let rows = plan.events.as_slice();
    sqlx::query(APPEND_EVENTS)
        .bind(column(rows, |(event, ..)| event.tenant.0))
        .bind(column(rows, |(_, sequence, _)| *sequence))
        .bind(column(rows, |(event, ..)| event.id.as_str()))
        .bind(column(rows, |(event, ..)| event.source.as_str()))
        .bind(column(rows, |(event, ..)| event.kind.as_str()))
        .bind(column(rows, |(event, ..)| event.subject.as_deref()))
        .bind(column(rows, |(event, ..)| event.time.as_millisecond()))
        .bind(column(rows, |(event, ..)| event.data.as_str()))
        .bind(column(rows, |(event, ..)| event.actor.as_str()))
        .bind(column(rows, |(event, ..)| event.correlation.0))
        .bind(column(rows, |(event, ..)| event.traceparent.as_deref()))
        .bind(column(rows, |(_, _, commit)| *commit))
        .execute(&mut *connection)
        .await?;
    let (tenants, sequences): (Vec<_>, Vec<i64>) = plan.tenants.iter().map(|(tenant, last)| (tenant.0, *last)).unzip();
    sqlx::query(SET_TENANTS).bind(tenants).bind(sequences).execute(connection).await?;
    Ok(())
}

async fn write_audit(connection: &mut PgConnection, plan: &Plan<'_>) -> Result<(), sqlx::Error> {
    if plan.audit.is_empty() {
        return Ok(());
    }
    let rows = plan.audit.as_slice();
    sqlx::query(APPEND_AUDIT)
        .bind(column(rows, |row| row.index))
        .bind(column(rows, |row| row.text.as_str()))
        .bind(column(rows, |row| &row.leaf[..]))
        .bind(column(rows, |row| row.entry.id.0))
        .bind(column(rows, |row| row.entry.tenant_id.0))
        .bind(column(rows, |row| row.entry.at.as_millisecond()))
        .bind(column(rows, |row| row.entry.actor.id.as_str()))
        .bind(column(rows, |row| row.entry.action.as_str()))
        .bind(column(rows, |row| row.entry.outcome.as_str()))
        .bind(column(rows, |row| row.entry.correlation_id.0))
        .bind(column(rows, |row| row.sequence))
        .execute(connection)
        .await?;
    Ok(())
}

async fn write_replies(connection: &mut PgConnection, plan: &Plan<'_>) -> Result<(), sqlx::Error> {
    if plan.replies.is_empty() {
        return Ok(());
    }
    let rows = plan.replies.as_slice();
    sqlx::query(KEEP_REPLIES)
        .bind(column(rows, |reply| reply.key.tenant.0))
        .bind(column(rows, |reply| reply.key.principal.as_str()))
        .bind(column(rows, |reply| reply.key.route.as_str()))
        .bind(column(rows, |reply| reply.key.key.as_str()))
        .bind(column(rows, |reply| &reply.fingerprint[..]))
        .bind(column(rows, |reply| i32::from(reply.status)))
        .bind(column(rows, |reply| record::headers(reply)))
        .bind(column(rows, |reply| &*reply.body))
        .bind(column(rows, |reply| reply.created_at.as_millisecond()))
        .bind(column(rows, |reply| reply.expires_at.as_millisecond()))
        .execute(connection)
        .await?;
    Ok(())
}
