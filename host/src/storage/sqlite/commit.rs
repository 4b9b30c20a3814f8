//! The commit: take the log's head, ask, decide, write, COMMIT. Everything is decided by `plan`; here is only SQL.

use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::SqliteStorage;
use super::answer::{answer, key_array};
use crate::id::{BatchId, NodeId};
use crate::state::unit::{Unit, Verdict};
use crate::storage::plan::{self, Head, Plan};
use crate::storage::work::Work;
use crate::storage::{StorageError, measured, record};

/// Takes the file's one write lock at once, before anything is read.
pub(super) const BEGIN: &str = "begin immediate";

const HEAD: &str = "select sequence, audit_index from head";

const DELETE: &str = "delete from state where (tenant, space, key) in
    (select unhex(value ->> 0), value ->> 1, value ->> 2 from json_each($1))";

const SET_HEAD: &str = "update head set sequence = $1, audit_index = $2";

const SET_NODE: &str = "insert into node (id, batch) values ($1, $2)
    on conflict (id) do update set batch = excluded.batch";

/// Rows of the longest statement that writes; more would save little.
const SHAPE_ROWS_MAX: usize = 128;

impl SqliteStorage {
    /// See [`crate::storage::Storage::commit`].
    pub async fn commit(&self, node: NodeId, batch: BatchId, units: &[Unit]) -> Result<Vec<Verdict>, StorageError> {
        let mut work = measured("commit_lock", Work::begin(&self.writer, BEGIN)).await?;
        match self.decide_and_write(work.connection(), node, batch, units).await {
            Ok((before, plan)) => work.end(&self.known, before, plan).await,
            Err(error) => {
                work.rollback().await;
                Err(error.into())
            }
        }
    }

    /// See [`crate::storage::Storage::last_batch`].
    pub async fn last_batch(&self, node: NodeId) -> Result<Option<BatchId>, StorageError> {
        // Behind the write lock: a commit that is still under way has ended when this one begins.
        let mut work = measured("last_batch", Work::begin(&self.writer, BEGIN)).await?;
        let found = sqlx::query_scalar(record::LAST_BATCH).bind(node.0).fetch_optional(work.connection()).await;
        work.rollback().await;
        Ok(found?.map(BatchId))
    }

    /// Decides a batch and writes what changes. Answers the head before it.
    async fn decide_and_write<'a>(
        &self,
        connection: &mut SqliteConnection,
        node: NodeId,
        batch: BatchId,
        units: &'a [Unit],
    ) -> Result<(Head, Plan<'a>), sqlx::Error> {
        let (sequence, audit_index) = sqlx::query_as(HEAD).fetch_one(&mut *connection).await?;
        let head = Head { sequence, audit_index };
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

async fn write(
    connection: &mut SqliteConnection,
    node: NodeId,
    batch: BatchId,
    plan: &Plan<'_>,
) -> Result<(), sqlx::Error> {
    write_state(connection, plan).await?;
    write_events(connection, plan).await?;
    write_audit(connection, plan).await?;
    write_replies(connection, plan).await?;
    sqlx::query(SET_HEAD).bind(plan.head.sequence).bind(plan.head.audit_index).execute(&mut *connection).await?;
    sqlx::query(SET_NODE).bind(node.0).bind(batch.0).execute(connection).await?;
    Ok(())
}

/// Cuts rows into statements of 1, 2, 4 … rows: few enough for a connection to keep them all, so that each is prepared once.
fn shapes<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let length = 1 << rows.len().min(SHAPE_ROWS_MAX).checked_ilog2()?;
        let (first, rest) = rows.split_at_checked(length)?;
        rows = rest;
        Some(first)
    })
}

async fn write_state(connection: &mut SqliteConnection, plan: &Plan<'_>) -> Result<(), sqlx::Error> {
    for rows in shapes(&plan.puts) {
        let mut insert = QueryBuilder::<Sqlite>::new("insert or fail into state (tenant, space, key, value, version) ");
        insert.push_values(rows, |mut row, (key, value, version)| {
            row.push_bind(key.space.tenant.0).push_bind(&*key.space.name).push_bind(&key.key);
            row.push_bind(&**value).push_bind(version);
        });
        insert
            .push(" on conflict (tenant, space, key) do update set value = excluded.value, version = excluded.version");
        insert.build().execute(&mut *connection).await?;
    }
    if !plan.deletes.is_empty() {
        sqlx::query(DELETE).bind(key_array(&plan.deletes)).execute(connection).await?;
    }
    Ok(())
}

async fn write_events(connection: &mut SqliteConnection, plan: &Plan<'_>) -> Result<(), sqlx::Error> {
    for rows in shapes(&plan.events) {
        let mut insert = QueryBuilder::<Sqlite>::new(
            "insert or fail into event (tenant, sequence, id, source, kind, subject, time, data, actor, correlation, traceparent,
            commit_sequence) ",
        );
        insert.push_values(rows, |mut row, (event, sequence, commit)| {
            row.push_bind(event.tenant.0).push_bind(sequence).push_bind(&event.id).push_bind(&event.source);
            row.push_bind(&event.kind).push_bind(&event.subject).push_bind(event.time.as_millisecond());
            row.push_bind(&event.data).push_bind(&event.actor).push_bind(event.correlation.0);
            row.push_bind(&event.traceparent).push_bind(commit);
        });
        insert.build().execute(&mut *connection).await?;
    }
    let tenants: Vec<_> = plan.tenants.iter().collect();
    for rows in shapes(&tenants) {
        let mut insert = QueryBuilder::<Sqlite>::new("insert or fail into tenant_sequence (tenant, sequence) ");
        insert.push_values(rows, |mut row, (tenant, sequence)| {
            row.push_bind(tenant.0).push_bind(*sequence);
        });
        insert.push(" on conflict (tenant) do update set sequence = excluded.sequence");
        insert.build().execute(&mut *connection).await?;
    }
    Ok(())
}

async fn write_audit(connection: &mut SqliteConnection, plan: &Plan<'_>) -> Result<(), sqlx::Error> {
    for rows in shapes(&plan.audit) {
        let mut insert = QueryBuilder::<Sqlite>::new(
            "insert or fail into audit (idx, body, leaf, id, tenant, at, actor, action, outcome, correlation, commit_sequence) ",
        );
        insert.push_values(rows, |mut row, numbered| {
            let entry = numbered.entry;
            row.push_bind(numbered.index).push_bind(&numbered.text).push_bind(&numbered.leaf[..]);
            row.push_bind(entry.id.0).push_bind(entry.tenant_id.0).push_bind(entry.at.as_millisecond());
            row.push_bind(&entry.actor.id).push_bind(&entry.action).push_bind(entry.outcome.as_str());
            row.push_bind(entry.correlation_id.0).push_bind(numbered.sequence);
        });
        insert.build().execute(&mut *connection).await?;
    }
    Ok(())
}

async fn write_replies(connection: &mut SqliteConnection, plan: &Plan<'_>) -> Result<(), sqlx::Error> {
    for rows in shapes(&plan.replies) {
        let mut insert = QueryBuilder::<Sqlite>::new(
            "insert or fail into idempotency (tenant, principal, route, idempotency_key, fingerprint, status, headers, body,
            created_at, expires_at) ",
        );
        insert.push_values(rows, |mut row, reply| {
            let key = &reply.key;
            row.push_bind(key.tenant.0).push_bind(&key.principal).push_bind(&key.route).push_bind(&key.key);
            row.push_bind(&reply.fingerprint[..]).push_bind(i32::from(reply.status)).push_bind(record::headers(reply));
            row.push_bind(&*reply.body).push_bind(reply.created_at.as_millisecond());
            row.push_bind(reply.expires_at.as_millisecond());
        });
        insert.build().execute(&mut *connection).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::shapes;

    #[test]
    fn every_row_is_in_one_of_few_shapes() {
        let rows: Vec<usize> = (0..300).collect();
        for count in 0..rows.len() {
            assert!(shapes(&rows[..count]).all(|shape| shape.len().is_power_of_two()));
            assert_eq!(shapes(&rows[..count]).flatten().copied().collect::<Vec<_>>(), rows[..count]);
        }
        assert_eq!(shapes(&rows).map(<[usize]>::len).collect::<Vec<_>>(), [128, 128, 32, 8, 4]);
    }
}
