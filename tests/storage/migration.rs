//! The schema's history: applied once, taken back one by one, and refused when it is not the one that was built in.

use aibos::clock::Clock;
use aibos::event::EventQuery;
use aibos::state::unit::Unit;
use aibos::storage::Storage;
use aibos::storage::migrate::Migration;
use suite::database::{Backend, Database};

use super::{Subject, refusal};

on_both_backends! {
    the_way_up_and_back_and_up_again,
    an_audit_log_with_entries_is_never_dropped,
    an_edited_migration_is_refused,
    an_unknown_migration_is_refused,
    a_migration_that_fails_leaves_nothing,
    two_kernels_migrate_at_once,
    what_is_stored_survives_the_way_back_and_up,
}

const NAMES: [&str; 7] =
    ["0001_head", "0002_state", "0003_event", "0004_audit", "0005_audit_tree", "0006_audit_outcome", "0007_row"];

fn names(migrations: &[Migration]) -> Vec<String> {
    migrations.iter().map(ToString::to_string).collect()
}

async fn down(subject: &Subject) -> Option<String> {
    let gone = subject.storage.migrate_down().await.unwrap();
    gone.map(|migration| migration.to_string())
}

async fn the_way_up_and_back_and_up_again(subject: Subject) {
    let storage = &subject.storage;
    storage.check_schema().await.unwrap();
    assert!(storage.migrate_up(subject.clock.now()).await.unwrap().is_empty(), "nothing is pending");
    for name in NAMES.iter().rev() {
        assert_eq!(down(&subject).await.as_deref(), Some(*name));
        let sentence = refusal(storage.check_schema().await);
        assert_eq!(sentence, format!("migration {name} has not been applied to the database: run `aibos migrate up`"));
    }
    assert_eq!(down(&subject).await, None);
    let status = storage.migration_status().await.unwrap();
    assert!(names(&status) == NAMES && status.iter().all(|migration| migration.applied_at.is_none()));

    assert_eq!(names(&storage.migrate_up(subject.clock.now()).await.unwrap()), NAMES);
    let status = storage.migration_status().await.unwrap();
    assert!(status.iter().all(|migration| migration.applied_at == Some(subject.clock.now())));
    storage.check_schema().await.unwrap();
}

async fn an_audit_log_with_entries_is_never_dropped(subject: Subject) {
    let entry = subject.entry("payment.create");
    subject.accept(Unit { audit: vec![entry.clone()], ..Unit::default() }).await;
    for name in ["0007_row", "0006_audit_outcome"] {
        assert_eq!(down(&subject).await.as_deref(), Some(name), "nothing is lost");
    }
    let sentence = refusal(subject.storage.migrate_down().await);
    assert!(sentence.starts_with("the audit log has entries"), "{sentence}");
    subject.storage.migrate_up(subject.clock.now()).await.unwrap();
    subject.storage.check_schema().await.unwrap();
    assert!(subject.storage.audit_entry(subject.tenant, entry.id).await.unwrap().is_some());
}

async fn assert_all_refuse(subject: &Subject, beginning: &str) {
    let (storage, now) = (&subject.storage, subject.clock.now());
    for sentence in [
        refusal(storage.check_schema().await),
        refusal(storage.migration_status().await),
        refusal(storage.migrate_up(now).await),
        refusal(storage.migrate_down().await),
    ] {
        assert!(sentence.starts_with(beginning), "{sentence}");
    }
}

async fn an_edited_migration_is_refused(subject: Subject) {
    let edit = "update migration set checksum = (select checksum from migration where number = 1) where number = 2";
    subject.database.execute(edit).await.unwrap();
    assert_all_refuse(&subject, "migration 0002_state was edited after it had been applied: restore its file").await;
}

async fn an_unknown_migration_is_refused(subject: Subject) {
    let add = "insert into migration select 99, 'future', checksum, applied_at from migration where number = 1";
    subject.database.execute(add).await.unwrap();
    assert_all_refuse(&subject, "migration 0099_future is applied to the database but unknown to this kernel").await;
}

async fn a_migration_that_fails_leaves_nothing(subject: Subject) {
    for name in ["0007_row", "0006_audit_outcome", "0005_audit_tree", "0004_audit", "0003_event"] {
        assert_eq!(down(&subject).await.as_deref(), Some(name));
    }
    // The last statement of the migration finds its index's name taken.
    subject.database.execute("create table audit_by_action (x integer)").await.unwrap();
    let sentence = refusal(subject.storage.migrate_up(subject.clock.now()).await);
    assert!(sentence.starts_with("the database refused migration 0004_audit: "), "{sentence}");
    let status = subject.storage.migration_status().await.unwrap();
    let applied: Vec<bool> = status.iter().map(|migration| migration.applied_at.is_some()).collect();
    assert_eq!(applied, [true, true, true, false, false, false, false], "the one before it stays");
    subject.database.execute("drop table audit_by_action").await.unwrap();
    assert_eq!(names(&subject.storage.migrate_up(subject.clock.now()).await.unwrap()), NAMES[3..]);
}

async fn two_kernels_migrate_at_once(subject: Subject) {
    let backend = match subject.storage {
        Storage::Sqlite(_) => Backend::Sqlite,
        Storage::Postgres(_) => Backend::Postgres,
    };
    let database = Database::fresh(backend).await;
    let first = database.open().await;
    let second = match backend {
        Backend::Sqlite => first.clone(),
        Backend::Postgres => database.open().await,
    };
    assert!(first.migration_status().await.unwrap().iter().all(|migration| migration.applied_at.is_none()));
    let now = Clock::System.now();
    let (one, two) = tokio::join!(first.migrate_up(now), second.migrate_up(now));
    let mut applied = [names(&one.unwrap()), names(&two.unwrap())].concat();
    applied.sort();
    assert_eq!(applied, NAMES, "each was applied by one of them");
    first.check_schema().await.unwrap();
}

async fn what_is_stored_survives_the_way_back_and_up(subject: Subject) {
    let (storage, reply) = (&subject.storage, subject.reply("once"));
    for number in 0..3 {
        let mut unit = Unit { writes: vec![subject.put(&format!("key-{number}"), "value")], ..Unit::default() };
        unit.events = vec![subject.event("payment.created"), subject.chosen_event(&format!("chosen-{number}"))];
        unit.reply = (number == 0).then(|| reply.clone());
        subject.accept(unit).await;
    }
    let stored = async || {
        let query = EventQuery { tenant: subject.tenant, after: 0, kind: None, subject: None, limit: 100 };
        let replied = storage.reply(&reply.key).await.unwrap();
        let values = (subject.read("key-0").await, subject.read("key-1").await, subject.read("key-2").await);
        format!("{values:?} {replied:?} {:?}", storage.events(&query).await.unwrap())
    };
    let before = stored().await;
    assert_eq!(down(&subject).await.as_deref(), Some("0007_row"));
    assert_eq!(stored().await, before, "the older form is read by the same statements");
    storage.migrate_up(subject.clock.now()).await.unwrap();
    assert_eq!(stored().await, before);
}

/// `SQLite` copies a row without rowid that is longer than a quarter of a page whenever a search meets it, wherever that
/// leads: a component of megabytes near the root made each look-up cost milliseconds.
#[tokio::test]
async fn no_long_row_is_in_a_tree_that_keys_are_searched_in() {
    let database = Database::fresh(Backend::Sqlite).await;
    let storage = database.open_migrated().await;
    let pool = sqlx::SqlitePool::connect(database.url()).await.unwrap();
    let columns =
        "select t.name || '.' || c.name from pragma_table_list as t, pragma_table_info(t.name) as c where t.wr = 1";
    let columns: Vec<String> = sqlx::query_scalar(columns).fetch_all(&pool).await.unwrap();
    assert_eq!(columns, ["tenant_sequence.tenant", "tenant_sequence.sequence", "node.id", "node.batch"]);
    drop(storage);
}
