//! In memory each connection has a database of its own, so a table tells which one it is.

use std::time::Duration;

use super::*;
use crate::storage::sqlite::commit::BEGIN;
use crate::storage::work::Work;

fn writer() -> Writer {
    Writer::new(SqliteConnectOptions::new().in_memory(true))
}

async fn run(writer: &Writer, sql: &'static str) -> Result<(), sqlx::Error> {
    Work::alone(writer, async |connection| sqlx::raw_sql(sql).execute(connection).await.map(drop)).await
}

#[tokio::test]
async fn one_connection_serves_one_after_the_other() {
    let writer = writer();
    run(&writer, "create table mark (id integer)").await.unwrap();
    run(&writer, "replace into mark values (1)").await.unwrap();
    let first = Work::begin(&writer, BEGIN).await.unwrap();
    assert_eq!(writer.connections(), (1, 0));
    let second = timeout(Duration::from_millis(20), writer.lend()).await;
    assert!(second.is_err(), "it waits for its turn");
    first.rollback().await;
    assert_eq!(writer.connections(), (0, 1));
    run(&writer, "replace into mark values (2)").await.unwrap();
}

#[tokio::test]
async fn who_is_interrupted_leaves_nothing_behind() {
    let writer = writer();
    run(&writer, "create table mark (id integer)").await.unwrap();
    // Dropped in the middle of a transaction.
    drop(Work::begin(&writer, BEGIN).await.unwrap());
    assert!(run(&writer, "replace into mark values (1)").await.is_err(), "another connection");
    run(&writer, "create table mark (id integer)").await.unwrap();
    run(&writer, "replace into mark values (1)").await.unwrap();
    // A statement that is refused may have left anything: the next one has another connection.
    assert!(run(&writer, "replace into nothing values (1)").await.is_err());
    assert!(run(&writer, "replace into mark values (1)").await.is_err());
}

#[tokio::test]
async fn a_closed_one_lends_nothing() {
    let writer = writer();
    run(&writer, "create table mark (id integer)").await.unwrap();
    writer.close().await;
    assert_eq!(writer.connections(), (0, 0));
    assert!(matches!(writer.lend().await, Err(sqlx::Error::PoolClosed)));
}
