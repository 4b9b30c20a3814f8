//! The commit: take the log's head, ask, decide, write, COMMIT. Everything is decided by `plan`; here is only SQL.

use sqlx::postgres::PgArguments;
use sqlx::{Arguments, PgConnection, Postgres};
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

/// Everything that a batch changes, in one statement: each further one is a journey that all who wait for the next batch wait
/// for, too. No row is named by two of its parts.
const WRITE: &str = "with
    put as (
        insert into state (tenant, space, key, value, version)
        select * from unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::bigint[])
        on conflict (tenant, space, key) do update set value = excluded.value, version = excluded.version
    ),
    gone as (
        delete from state using unnest($6::uuid[], $7::text[], $8::text[]) as gone (tenant, space, key)
        where state.tenant = gone.tenant and state.space = gone.space and state.key = gone.key
    ),
    happened as (
        insert into event (tenant, sequence, id, source, kind, subject, time, data, actor, correlation, traceparent,
            commit_sequence)
        select * from unnest($9::uuid[], $10::bigint[], $11::text[], $12::text[], $13::text[], $14::text[], $15::bigint[],
            $16::text[], $17::text[], $18::uuid[], $19::text[], $20::bigint[])
    ),
    counted as (
        insert into tenant_sequence (tenant, sequence) select * from unnest($21::uuid[], $22::bigint[])
        on conflict (tenant) do update set sequence = excluded.sequence
    ),
    noted as (
        insert into audit (idx, body, leaf, id, tenant, at, actor, action, outcome, correlation, commit_sequence)
        select * from unnest($23::bigint[], $24::text[], $25::bytea[], $26::uuid[], $27::uuid[], $28::bigint[], $29::text[],
            $30::text[], $31::text[], $32::uuid[], $33::bigint[])
    ),
    kept as (
        insert into idempotency (tenant, principal, route, idempotency_key, fingerprint, status, headers, body, created_at,
            expires_at)
        select * from unnest($34::uuid[], $35::text[], $36::text[], $37::text[], $38::bytea[], $39::integer[], $40::text[],
            $41::bytea[], $42::bigint[], $43::bigint[])
    ),
    done as (
        insert into node (id, batch) values ($44, $45) on conflict (id) do update set batch = excluded.batch
    )
update head set sequence = $46, audit_index = $47";

impl PostgresStorage {
    /// See [`crate::storage::Storage::commit`].
    pub async fn commit(&self, node: NodeId, batch: BatchId, units: &[Unit]) -> Result<Vec<Verdict>, StorageError> {
        let mut work = Work::begin(&self.writer, BEGIN).await?;
        let deciding = self.decide_and_write(work.connection(), node, batch, units);
        // After a timeout the work is dropped, which closes its connection in the middle of the statement.
        match timeout(limit::COMMIT_TIMEOUT, deciding).await.map_err(|_| work::timed_out())? {
            Ok((before, plan)) => work.end(&self.known, before, plan).await,
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

    /// Decides a batch and writes what changes. Answers the head before it.
    async fn decide_and_write<'a>(
        &self,
        connection: &mut PgConnection,
        node: NodeId,
        batch: BatchId,
        units: &'a [Unit],
    ) -> Result<(Head, Plan<'a>), sqlx::Error> {
        let head = measured("commit_lock", lock_head(&mut *connection)).await?;
        self.known.meet(head);
        let (mut answers, questions) = self.known.answer(units);
        answers.join(measured("commit_check", answer(&mut *connection, &questions)).await?);
        let plan = plan::plan(head, &answers, units);
        if plan.head != head {
            measured("commit_write", write(connection, node, batch, &plan)).await?;
        }
        Ok((head, plan))
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

async fn write(
    connection: &mut PgConnection,
    node: NodeId,
    batch: BatchId,
    plan: &Plan<'_>,
) -> Result<(), sqlx::Error> {
    let mut values = PgArguments::default();
    add_state(&mut values, plan)?;
    add_events(&mut values, plan)?;
    add_audit(&mut values, plan)?;
    add_replies(&mut values, plan)?;
    add(&mut values, node.0)?;
    add(&mut values, batch.0)?;
    add(&mut values, plan.head.sequence)?;
    add(&mut values, plan.head.audit_index)?;
    sqlx::query_with(WRITE, values).execute(connection).await?;
    Ok(())
}

fn add<'v, T>(values: &mut PgArguments, value: T) -> Result<(), sqlx::Error>
where
    T: sqlx::Encode<'v, Postgres> + sqlx::Type<Postgres>,
{
    values.add(value).map_err(sqlx::Error::Encode)
}

fn add_state(values: &mut PgArguments, plan: &Plan<'_>) -> Result<(), sqlx::Error> {
    let put = KeyColumns::new(plan.puts.iter().map(|(key, ..)| key));
    add(values, put.tenants)?;
    add(values, put.spaces)?;
    add(values, put.keys)?;
    add(values, column(&plan.puts, |(_, value, _)| &**value))?;
    add(values, column(&plan.puts, |(_, _, version)| *version))?;
    let gone = KeyColumns::new(&plan.deletes);
    add(values, gone.tenants)?;
    add(values, gone.spaces)?;
    add(values, gone.keys)
}

fn add_events(values: &mut PgArguments, plan: &Plan<'_>) -> Result<(), sqlx::Error> {
    let rows = plan.events.as_slice();
    add(values, column(rows, |(event, ..)| event.tenant.0))?;
    add(values, column(rows, |(_, sequence, _)| *sequence))?;
    add(values, column(rows, |(event, ..)| event.id.as_str()))?;
    add(values, column(rows, |(event, ..)| event.source.as_str()))?;
    add(values, column(rows, |(event, ..)| event.kind.as_str()))?;
    add(values, column(rows, |(event, ..)| event.subject.as_deref()))?;
    add(values, column(rows, |(event, ..)| event.time.as_millisecond()))?;
    add(values, column(rows, |(event, ..)| event.data.as_str()))?;
    add(values, column(rows, |(event, ..)| event.actor.as_str()))?;
    add(values, column(rows, |(event, ..)| event.correlation.0))?;
    add(values, column(rows, |(event, ..)| event.traceparent.as_deref()))?;
    add(values, column(rows, |(_, _, commit)| *commit))?;
    let (tenants, sequences): (Vec<_>, Vec<i64>) = plan.tenants.iter().map(|(tenant, last)| (tenant.0, *last)).unzip();
    add(values, tenants)?;
    add(values, sequences)
}

fn add_audit(values: &mut PgArguments, plan: &Plan<'_>) -> Result<(), sqlx::Error> {
    let rows = plan.audit.as_slice();
    add(values, column(rows, |row| row.index))?;
    add(values, column(rows, |row| row.text.as_str()))?;
    add(values, column(rows, |row| &row.leaf[..]))?;
    add(values, column(rows, |row| row.entry.id.0))?;
    add(values, column(rows, |row| row.entry.tenant_id.0))?;
    add(values, column(rows, |row| row.entry.at.as_millisecond()))?;
    add(values, column(rows, |row| row.entry.actor.id.as_str()))?;
    add(values, column(rows, |row| row.entry.action.as_str()))?;
    add(values, column(rows, |row| row.entry.outcome.as_str()))?;
    add(values, column(rows, |row| row.entry.correlation_id.0))?;
    add(values, column(rows, |row| row.sequence))
}

fn add_replies(values: &mut PgArguments, plan: &Plan<'_>) -> Result<(), sqlx::Error> {
    let rows = plan.replies.as_slice();
    add(values, column(rows, |reply| reply.key.tenant.0))?;
    add(values, column(rows, |reply| reply.key.principal.as_str()))?;
    add(values, column(rows, |reply| reply.key.route.as_str()))?;
    add(values, column(rows, |reply| reply.key.key.as_str()))?;
    add(values, column(rows, |reply| &reply.fingerprint[..]))?;
    add(values, column(rows, |reply| i32::from(reply.status)))?;
    add(values, column(rows, |reply| record::headers(reply)))?;
    add(values, column(rows, |reply| &*reply.body))?;
    add(values, column(rows, |reply| reply.created_at.as_millisecond()))?;
    add(values, column(rows, |reply| reply.expires_at.as_millisecond()))
}
