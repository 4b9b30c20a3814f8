//! Opening: what is refused, and with which sentence.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use aibos::storage::Storage;
use suite::database::{Backend, Database};

use super::{Subject, refusal, writing};

on_both_backends! {
    what_was_committed_is_there_after_a_restart,
    a_database_answers_a_ping_until_it_is_closed,
}

async fn what_was_committed_is_there_after_a_restart(mut subject: Subject) {
    subject.accept(writing([subject.put("a", "1")])).await;
    subject.storage.close().await;
    subject.storage = subject.database.open().await;
    subject.storage.check_schema().await.unwrap();
    assert_eq!(subject.read("a").await, Some(("1".into(), 1)));
    assert_eq!(subject.accept(writing([subject.put("a", "2")])).await.sequence, 2);
}

async fn a_database_answers_a_ping_until_it_is_closed(subject: Subject) {
    subject.storage.ping().await.unwrap();
    let (in_use, idle) = subject.storage.connections();
    assert!(in_use + idle >= 1, "{in_use} in use, {idle} idle");
    subject.storage.close().await;
    subject.storage.ping().await.expect_err("closed");
    assert_eq!(subject.storage.connections(), (0, 0));
}

#[tokio::test]
async fn a_file_belongs_to_one_process() {
    let database = Database::fresh(Backend::Sqlite).await;
    let first = database.open().await;
    let sentence = refusal(Storage::open(database.url()).await);
    assert!(sentence.contains("kernel.db is in use by another kernel, which holds "), "{sentence}");
    assert!(sentence.contains("kernel.db.lock: stop that one first"), "{sentence}");
    first.close().await;
    database.open().await;
}

#[tokio::test]
async fn a_file_is_readable_by_its_owner_only() {
    let database = Database::fresh(Backend::Sqlite).await;
    let storage = database.open_migrated().await;
    let path = Path::new(database.url().strip_prefix("sqlite://").unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    for file in ["kernel.db", "kernel.db-wal", "kernel.db-shm", "kernel.db.lock"] {
        assert_eq!(mode(&path.with_file_name(file)), 0o600, "{file}");
    }
    storage.close().await;
}

#[tokio::test]
async fn urls_that_cannot_work_are_refused() {
    for (url, sentence) in [
        ("mysql://localhost/books", "DATABASE_URL must start with sqlite:// or postgres://"),
        ("kernel.db", "DATABASE_URL must start with"),
        ("sqlite::memory:", "DATABASE_URL must name a file and no options"),
        ("sqlite://", "DATABASE_URL must name a file and no options"),
        ("sqlite://kernel.db?mode=ro", "DATABASE_URL must name a file and no options"),
        ("sqlite:///proc/nowhere/kernel.db", "/proc/nowhere/kernel.db cannot be used: "),
        ("postgres://localhost:port/books", "DATABASE_URL is not understood"),
    ] {
        let said = refusal(Storage::open(url).await);
        assert!(said.starts_with(sentence), "{url}: {said}");
    }
}

#[tokio::test]
async fn a_server_that_may_lose_commits_is_refused() {
    let database = Database::fresh(Backend::Postgres).await;
    let lazy = "do $$ begin
        execute format('alter database %I set synchronous_commit = off', current_database());
    end $$";
    database.execute(lazy).await.unwrap();
    let sentence = refusal(Storage::open(database.url()).await);
    assert!(sentence.starts_with("PostgreSQL runs with synchronous_commit = off"), "{sentence}");
    assert!(sentence.contains("set `synchronous_commit = on`"), "{sentence}");
}
