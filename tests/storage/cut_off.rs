//! Work that is cut off in the middle: a dropped future, a broken network.

use std::time::Duration;

use aibos::clock::Clock;
use aibos::id::BatchId;
use aibos::limit;
use aibos::state::committer::{CommitError, Committer};
use aibos::state::unit::{Read, Unit, Verdict};
use aibos::storage::{Storage, StorageError};
use suite::database::Backend;
use suite::proxy::{Commit, Proxy};
use tokio::time::timeout;

use super::{Subject, receipt, writing};

on_both_backends! {
    dropped_reads_poison_no_connection,
    dropped_commits_leave_no_gap,
    a_committer_that_is_gone_is_not_ready,
}

async fn dropped_reads_poison_no_connection(subject: Subject) {
    subject.accept(writing((0..200).map(|number| subject.put(&format!("k{number:03}"), "1")))).await;
    let reads: Vec<_> =
        (0..50).map(|number| Read::Range(subject.scan(&format!("k{number:03}"), None, 9), vec![])).collect();
    let key = subject.key("k000");
    for patience in 0..200 {
        let patience = Duration::from_micros(patience * 10);
        let _cut_off = timeout(patience, subject.storage.validate(&reads)).await;
        let _cut_off = timeout(patience, subject.storage.read(std::slice::from_ref(&key))).await;
        let _cut_off = timeout(patience, subject.storage.scan(&subject.scan("", None, 200))).await;
        let _cut_off = timeout(patience, subject.storage.last_batch(subject.node)).await;
    }
    subject.accept(writing([subject.put("k000", "2")])).await;
    // Every pooled connection is asked: one that still sat in an old snapshot would show the old version.
    let (read, absent) = (Read::Key(key.clone(), Some(2)), Read::Key(subject.key("x"), None));
    let both = [read, absent];
    for _ in 0..10 {
        let (one, two, three, four) = tokio::join!(
            subject.storage.validate(&both),
            subject.storage.validate(&both),
            subject.storage.validate(&both),
            subject.storage.validate(&both),
        );
        assert!(one.unwrap() && two.unwrap() && three.unwrap() && four.unwrap());
        assert_eq!(subject.value("k000").await.as_deref(), Some("2"));
    }
}

async fn dropped_commits_leave_no_gap(subject: Subject) {
    let unit = || Unit {
        events: vec![subject.event("payment.created")],
        audit: vec![subject.entry("payment.create")],
        ..writing([subject.add("count", 1, None)])
    };
    for patience in 0..100 {
        let units = [unit(), unit()];
        let _cut_off = timeout(Duration::from_micros(patience * 50), subject.try_commit(&units)).await;
    }
    let last = subject.accept(unit()).await;
    let count: i64 = subject.value("count").await.unwrap().parse().unwrap();
    assert_eq!(last.sequence, count);
    assert_eq!((&last.events[..], &last.audit[..]), (&[count][..], &[count - 1][..]));
}

async fn a_committer_that_is_gone_is_not_ready(subject: Subject) {
    let (committer, task) = Committer::start(subject.storage.clone(), subject.clock.clone());
    committer.commit(writing([subject.put("a", "1")])).await.unwrap();
    assert_eq!(committer.backlog().0, 0);
    task.abort();
    task.await.unwrap_err();
    assert_eq!(committer.commit(writing([subject.put("a", "2")])).await.unwrap_err(), CommitError::Unavailable);
    let (waiting, most) = committer.backlog();
    assert_eq!(waiting, most, "readyz takes that for what it is");
    assert_eq!(subject.value("a").await.as_deref(), Some("1"));
}

/// A kernel behind a network that can break, and one beside it.
async fn behind_proxy() -> (Subject, Proxy, Storage) {
    let subject = Subject::new(Backend::Postgres).await;
    let proxy = Proxy::before(subject.database.url()).await;
    let storage = Storage::open(proxy.url()).await.unwrap();
    (subject, proxy, storage)
}

fn unknown(outcome: Result<Vec<Verdict>, StorageError>) -> Vec<Verdict> {
    match outcome {
        Err(StorageError::CommitUnknown { verdicts, .. }) => verdicts,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_commit_that_never_arrived_did_not_happen() {
    let (subject, proxy, storage) = behind_proxy().await;
    let batch = BatchId::new(&subject.clock);
    proxy.next_commit(Commit::NeverArrives);
    unknown(storage.commit(subject.node, batch, &[writing([subject.put("a", "1")])]).await);
    assert_eq!(storage.last_batch(subject.node).await.unwrap(), None);
    assert_eq!(subject.value("a").await, None);
    let verdicts = storage.commit(subject.node, batch, &[writing([subject.put("a", "2")])]).await.unwrap();
    assert_eq!(receipt(&verdicts[0]).sequence, 1);
}

#[tokio::test]
async fn a_commit_that_was_not_answered_is_found_to_have_happened() {
    let (subject, proxy, storage) = behind_proxy().await;
    // The server is still at work on the COMMIT when the kernel asks what became of it.
    let slow = "create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.5); return null; end $$;
        create constraint trigger slow after update on head deferrable initially deferred for each row execute function slow()";
    subject.database.execute(slow).await.unwrap();
    let batch = BatchId::new(&Clock::System);
    proxy.next_commit(Commit::IsNotAnswered);
    let unit = Unit { audit: vec![subject.entry("payment.create")], ..writing([subject.put("a", "1")]) };
    let verdicts = unknown(storage.commit(subject.node, batch, &[unit]).await);
    assert_eq!(subject.value("a").await, None, "the server has not finished");
    assert_eq!(storage.last_batch(subject.node).await.unwrap(), Some(batch));
    let receipt = receipt(&verdicts[0]);
    assert_eq!(subject.read("a").await, Some(("1".into(), receipt.sequence)), "the verdicts are those of the commit");
    assert_eq!(receipt.audit, [0]);
}

#[tokio::test]
async fn a_server_that_ends_the_session_during_commit_did_not_commit() {
    let subject = Subject::new(Backend::Postgres).await;
    let ending = "create function ending() returns trigger language plpgsql as
            $$ begin perform pg_terminate_backend(pg_backend_pid()); return null; end $$;
        create constraint trigger ending after update on head deferrable initially deferred
            for each row execute function ending()";
    subject.database.execute(ending).await.unwrap();
    unknown(subject.try_commit(&[writing([subject.put("a", "1")])]).await);
    subject.database.execute("drop trigger ending on head").await.unwrap();
    assert_eq!(subject.storage.last_batch(subject.node).await.unwrap(), None);
    assert_eq!(subject.accept(writing([subject.put("a", "2")])).await.sequence, 1);
}

#[tokio::test]
async fn a_server_that_ends_the_session_before_commit_is_unavailable() {
    let subject = Subject::new(Backend::Postgres).await;
    let ending = "create function ending() returns trigger language plpgsql as
            $$ begin perform pg_terminate_backend(pg_backend_pid()); return null; end $$;
        create trigger ending after insert on state for each row execute function ending()";
    subject.database.execute(ending).await.unwrap();
    let outcome = subject.try_commit(&[writing([subject.put("a", "1")])]).await;
    assert!(matches!(outcome, Err(StorageError::Unavailable(_))), "{outcome:?}");
    subject.database.execute("drop trigger ending on state").await.unwrap();
    assert_eq!(subject.accept(writing([subject.put("a", "2")])).await.sequence, 1);
}

/// As long as it takes: the limits are those of production.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_falls_silent_is_given_up() {
    let (subject, proxy, storage) = behind_proxy().await;
    let key = subject.key("a");
    storage.read(std::slice::from_ref(&key)).await.unwrap();
    let snapshot = storage.snapshot().await.unwrap();
    proxy.fall_silent();
    let most = limit::ANSWER_TIMEOUT + Duration::from_secs(2);
    let (reads, keys, unit) = ([Read::Key(key.clone(), None)], [key.clone()], [writing([subject.put("a", "1")])]);
    let (ping, read, pinned, valid, asked, audit, commit) = tokio::join!(
        timeout(limit::PING_TIMEOUT + Duration::from_secs(2), storage.ping()),
        timeout(most, storage.read(&keys)),
        timeout(most, snapshot.read(&keys)),
        timeout(most, storage.validate(&reads)),
        timeout(most, storage.last_batch(subject.node)),
        timeout(most, storage.audit_end()),
        timeout(most, storage.commit(subject.node, BatchId::new(&subject.clock), &unit)),
    );
    ping.unwrap().unwrap_err();
    read.unwrap().unwrap_err();
    pinned.unwrap().unwrap_err();
    valid.unwrap().unwrap_err();
    asked.unwrap().unwrap_err();
    audit.unwrap().unwrap_err();
    let commit = commit.unwrap();
    assert!(matches!(commit, Err(StorageError::Unavailable(_))), "nothing was sent: {commit:?}");
    assert_eq!(subject.value("a").await, None);
}
