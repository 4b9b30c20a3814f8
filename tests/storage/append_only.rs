//! Nobody changes the logs, whoever holds a connection to the database.

use aibos::state::unit::Unit;
use suite::database::Backend;

use super::Subject;

on_both_backends! {
    logs_refuse_update_and_delete,
}

async fn with_entries(subject: &Subject) {
    let unit = Unit {
        events: vec![subject.event("payment.created")],
        audit: vec![subject.entry("payment.create")],
        ..Unit::default()
    };
    subject.accept(unit).await;
}

async fn assert_refused(subject: &Subject, table: &str, operation: &str, sql: &str) {
    let error = subject.database.execute(sql).await.expect_err(sql).to_string();
    let sentence = format!("table {table} is append-only: {operation} is refused");
    assert!(error.contains(&sentence), "{sql}: {error}");
}

async fn logs_refuse_update_and_delete(subject: Subject) {
    with_entries(&subject).await;
    assert_refused(&subject, "audit", "UPDATE", "update audit set outcome = 'success'").await;
    assert_refused(&subject, "audit", "DELETE", "delete from audit").await;
    assert_refused(&subject, "event", "UPDATE", "update event set data = '{}' where sequence = 1").await;
    assert_refused(&subject, "event", "DELETE", "delete from event where sequence = 1").await;
    subject.database.execute("update head set sequence = sequence").await.expect("other tables may change");
}

#[tokio::test]
async fn logs_refuse_truncate_and_a_replicas_rights() {
    let subject = Subject::new(Backend::Postgres).await;
    with_entries(&subject).await;
    assert_refused(&subject, "audit", "TRUNCATE", "truncate audit").await;
    assert_refused(&subject, "event", "TRUNCATE", "truncate event").await;
    let as_replica = "set session_replication_role = replica; delete from audit";
    assert_refused(&subject, "audit", "DELETE", as_replica).await;
}
