//! What a process knows of the database: it saves questions and changes no answer.

use aibos::state::unit::{Conflict, Read, Unit, Verdict, Write};
use aibos::state::work::Work;
use aibos::storage::known::Recalled;
use jiff::SignedDuration;

use super::{Subject, writing};

on_both_backends! {
    what_changed_since_it_was_read_conflicts,
    what_another_process_changed_conflicts,
    a_counter_that_another_process_raised_is_not_written_over,
    what_was_read_may_be_recalled,
    what_was_recalled_is_checked_at_the_end,
    a_late_answer_is_not_remembered,
    a_reply_that_was_swept_is_kept_anew,
}

/// A unit that has just read a key, and then writes another.
async fn reading(subject: &Subject, key: &str, mine: &str) -> Unit {
    let as_of = subject.storage.as_of();
    let version = subject.read(key).await.map(|(_, version)| version);
    Unit { reads: vec![Read::Key(subject.key(key), version)], as_of, ..writing([subject.put(mine, "done")]) }
}

async fn what_changed_since_it_was_read_conflicts(subject: Subject) {
    subject.accept(writing([subject.put("a", "1")])).await;
    let (first, second) = (reading(&subject, "a", "first").await, reading(&subject, "a", "second").await);
    assert_eq!(first.as_of, Some(1));
    subject.accept(first).await;
    subject.accept(writing([subject.put("a", "2")])).await;
    assert_eq!(subject.commit(&[second]).await, [Verdict::Conflicted(Conflict::Read)]);
    assert_eq!(subject.value("second").await, None);
    subject.accept(reading(&subject, "a", "third").await).await;
}

async fn what_another_process_changed_conflicts(subject: Subject) {
    subject.accept(writing([subject.put("a", "1")])).await;
    let (present, absent) = (reading(&subject, "a", "mine").await, reading(&subject, "b", "mine").await);
    subject.commit_elsewhere(&subject.key("a"), "2", 2).await;
    subject.commit_elsewhere(&subject.key("b"), "2", 3).await;
    let verdicts = subject.commit(&[present, absent, reading(&subject, "a", "new").await]).await;
    assert_eq!(verdicts[..2], [Verdict::Conflicted(Conflict::Read), Verdict::Conflicted(Conflict::Read)]);
    assert!(matches!(verdicts[2], Verdict::Committed(_)), "it read what the other wrote: {:?}", verdicts[2]);
    assert_eq!(subject.value("mine").await, None);
}

async fn a_counter_that_another_process_raised_is_not_written_over(subject: Subject) {
    subject.accept(writing([subject.add("sum", 1, None)])).await;
    subject.commit_elsewhere(&subject.key("sum"), "41", 2).await;
    subject.accept(writing([subject.add("sum", 1, None)])).await;
    assert_eq!(subject.value("sum").await.as_deref(), Some("42"));
}

async fn what_was_read_may_be_recalled(subject: Subject) {
    let keys = ["a", "b", "c"].map(|key| subject.key(key));
    assert_eq!(subject.storage.recall(&keys), [None, None, None]);
    subject.accept(writing([subject.put("a", "1"), subject.put("b", "1")])).await;
    let as_of = subject.storage.as_of();
    let found = subject.storage.read(&keys).await.unwrap();
    subject.storage.learn(as_of, &keys, &found);
    assert_eq!(subject.storage.recall(&keys), found.into_iter().map(|found| Some(Recalled(found))).collect::<Vec<_>>());
    subject.accept(writing([Write::Delete(subject.key("a"))])).await;
    assert_eq!(subject.storage.recall(&keys)[0], Some(Recalled(None)));
    subject.commit_elsewhere(&subject.key("x"), "1", 3).await;
    subject.accept(writing([subject.put("y", "1")])).await;
    assert_eq!(subject.storage.recall(&keys), [None, None, None], "somebody else has committed");
}

async fn what_was_recalled_is_checked_at_the_end(subject: Subject) {
    subject.accept(writing([subject.put("a", "1")])).await;
    let key = subject.key("a");
    let work = Work::new(subject.storage.clone()).recalling();
    assert_eq!(work.read(&key).await.unwrap().as_deref(), Some(&b"1"[..]));
    assert!(work.still_valid().await.unwrap());
    subject.commit_elsewhere(&key, "2", 2).await;
    // Nothing tells this process of it.
    let late = Work::new(subject.storage.clone()).recalling();
    assert_eq!(late.read(&key).await.unwrap().as_deref(), Some(&b"1"[..]));
    assert!(!late.still_valid().await.unwrap(), "the database is asked, also when nothing is committed");
    work.put(subject.key("mine"), "done".into()).unwrap();
    assert_eq!(subject.commit(&[work.finish()]).await, [Verdict::Conflicted(Conflict::Read)]);
    let again = Work::new(subject.storage.clone()).recalling();
    assert_eq!(again.read(&key).await.unwrap().as_deref(), Some(&b"2"[..]), "now it is known that somebody committed");
    assert_eq!(subject.value("mine").await, None);
}

/// A question was sent, then the key changed, then the old answer came.
async fn a_late_answer_is_not_remembered(subject: Subject) {
    subject.accept(writing([subject.put("a", "1")])).await;
    let (keys, as_of) = ([subject.key("a")], subject.storage.as_of());
    let found = subject.storage.read(&keys).await.unwrap();
    subject.accept(writing([subject.put("a", "2")])).await;
    subject.storage.learn(as_of, &keys, &found);
    let Some(Recalled(Some(recalled))) = subject.storage.recall(&keys).remove(0) else { panic!("it is known") };
    assert_eq!((&*recalled.value, recalled.version), (&b"2"[..], 2));
}

async fn a_reply_that_was_swept_is_kept_anew(subject: Subject) {
    let keeping = |as_of| {
        let mut reply = subject.reply("k1");
        reply.expires_at = subject.clock.now() + SignedDuration::from_hours(1);
        Unit { reply: Some(reply), as_of, ..Unit::default() }
    };
    subject.accept(writing([subject.put("a", "1")])).await;
    let before = subject.storage.as_of();
    subject.accept(keeping(before)).await;
    assert_eq!(subject.commit(&[keeping(before)]).await, [Verdict::Conflicted(Conflict::Reply)]);
    subject.clock.advance(SignedDuration::from_hours(2));
    assert_eq!(subject.storage.sweep_replies(subject.clock.now()).await.unwrap(), 1);
    let as_of = subject.storage.as_of();
    assert_eq!(subject.storage.reply(&subject.reply("k1").key).await.unwrap(), None);
    subject.accept(keeping(as_of)).await;
}
