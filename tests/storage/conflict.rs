//! What makes a unit conflict, against the database and against the units before it in the batch; and that a conflicting
//! unit leaves nothing behind.

use aibos::state::unit::{Conflict, Read, Unit, Verdict, Write};

use super::{Subject, receipt, writing};

on_both_backends! {
    a_changed_version_conflicts,
    a_key_made_again_is_not_the_old_one,
    a_key_seen_absent_conflicts_once_it_exists,
    the_second_of_two_units_that_read_the_same_conflicts,
    a_list_conflicts_when_a_key_of_it_changes_or_comes_or_goes,
    a_list_conflicts_within_its_batch,
    additions_of_a_batch_are_merged,
    an_addition_below_its_bound_conflicts_alone,
    an_addition_to_a_text_conflicts,
    an_idempotency_key_is_taken_once,
    an_event_id_is_taken_once,
    a_conflicting_unit_leaves_nothing_behind,
    a_batch_of_conflicts_changes_nothing,
    a_refused_statement_fails_the_whole_batch,
}

fn conflict(verdict: &Verdict) -> &Conflict {
    match verdict {
        Verdict::Conflicted(conflict) => conflict,
        Verdict::Committed(receipt) => panic!("committed: {receipt:?}"),
    }
}

/// A unit that read some keys and then wrote `mine`.
fn reading(subject: &Subject, reads: impl IntoIterator<Item = Read>, mine: &str) -> Unit {
    Unit { reads: reads.into_iter().collect(), ..writing([subject.put(mine, "done")]) }
}

async fn a_changed_version_conflicts(subject: Subject) {
    subject.accept(writing([subject.put("a", "1")])).await;
    let stale = reading(&subject, [Read::Key(subject.key("a"), Some(1))], "mine");
    subject.accept(writing([subject.put("a", "2")])).await;
    assert_eq!(*conflict(&subject.commit(&[stale]).await[0]), Conflict::Read);
    assert_eq!(subject.value("mine").await, None);
    subject.accept(reading(&subject, [Read::Key(subject.key("a"), Some(2))], "mine")).await;
    assert_eq!(subject.value("mine").await.as_deref(), Some("done"));
}

async fn a_key_made_again_is_not_the_old_one(subject: Subject) {
    subject.accept(writing([subject.put("a", "1")])).await;
    let stale = reading(&subject, [Read::Key(subject.key("a"), Some(1))], "mine");
    subject.accept(writing([Write::Delete(subject.key("a"))])).await;
    subject.accept(writing([subject.put("a", "1")])).await;
    assert_eq!(*conflict(&subject.commit(&[stale]).await[0]), Conflict::Read);
}

async fn a_key_seen_absent_conflicts_once_it_exists(subject: Subject) {
    let first = reading(&subject, [Read::Key(subject.key("a"), None)], "a");
    subject.accept(first.clone()).await;
    assert_eq!(*conflict(&subject.commit(&[first]).await[0]), Conflict::Read);
}

async fn the_second_of_two_units_that_read_the_same_conflicts(subject: Subject) {
    subject.accept(writing([subject.put("a", "1")])).await;
    let unit = |mine: &str| {
        let mut unit = reading(&subject, [Read::Key(subject.key("a"), Some(1))], mine);
        unit.writes.push(subject.put("a", mine));
        unit
    };
    let verdicts = subject.commit(&[unit("first"), unit("second"), reading(&subject, [], "third")]).await;
    assert_eq!(receipt(&verdicts[0]).sequence, 2);
    assert_eq!(*conflict(&verdicts[1]), Conflict::Read);
    assert_eq!(receipt(&verdicts[2]).sequence, 3);
    assert_eq!(subject.read("a").await, Some(("first".into(), 2)));
    assert_eq!(subject.value("second").await, None);
}

async fn a_list_conflicts_when_a_key_of_it_changes_or_comes_or_goes(subject: Subject) {
    subject.accept(writing(["p/a", "p/c", "q"].map(|key| subject.put(key, "1")))).await;
    let listed = |limit, keys: &[(&str, i64)]| {
        let seen = keys.iter().map(|(key, version)| ((*key).to_owned(), *version)).collect();
        reading(&subject, [Read::Range(subject.scan("p/", None, limit), seen)], "mine")
    };
    let whole = listed(10, &[("p/a", 1), ("p/c", 1)]);
    subject.accept(whole.clone()).await;
    subject.accept(writing([subject.put("q", "2")])).await;
    subject.accept(whole.clone()).await;
    subject.accept(writing([subject.put("p/b", "1")])).await;
    assert_eq!(*conflict(&subject.commit(&[whole]).await[0]), Conflict::Read, "a key came");
    // Sequence 5 wrote p/b.
    let whole = listed(10, &[("p/a", 1), ("p/b", 5), ("p/c", 1)]);
    let page = listed(2, &[("p/a", 1), ("p/b", 5)]);
    subject.accept(writing([subject.put("p/c", "2")])).await;
    assert_eq!(*conflict(&subject.commit(&[whole]).await[0]), Conflict::Read, "a key changed");
    subject.accept(page.clone()).await;
    subject.accept(writing([Write::Delete(subject.key("p/a"))])).await;
    assert_eq!(*conflict(&subject.commit(&[page]).await[0]), Conflict::Read, "a key went");
}

async fn a_list_conflicts_within_its_batch(subject: Subject) {
    subject.accept(writing(["p/a", "p/c"].map(|key| subject.put(key, "1")))).await;
    let page = |limit, keys: &[&str], mine| {
        let seen = keys.iter().map(|key| ((*key).to_owned(), 1)).collect();
        reading(&subject, [Read::Range(subject.scan("p/", None, limit), seen)], mine)
    };
    let verdicts = subject
        .commit(&[
            page(10, &["p/a", "p/c"], "before"),
            writing([subject.put("p/b", "1")]),
            page(10, &["p/a", "p/c"], "after"),
            page(1, &["p/a"], "short"),
            writing([Write::Delete(subject.key("p/a"))]),
            page(1, &["p/a"], "late"),
        ])
        .await;
    let committed: Vec<bool> = verdicts.iter().map(|verdict| matches!(verdict, Verdict::Committed(_))).collect();
    assert_eq!(committed, [true, true, false, true, true, false]);
    assert_eq!(subject.value("after").await, None);
    assert_eq!(subject.value("short").await.as_deref(), Some("done"));
}

async fn additions_of_a_batch_are_merged(subject: Subject) {
    let units: Vec<Unit> = (1..=100).map(|delta| writing([subject.add("fees", delta, None)])).collect();
    let verdicts = subject.commit(&units).await;
    assert_eq!(receipt(&verdicts[99]).sequence, 100);
    assert_eq!(subject.read("fees").await, Some(("5050".into(), 100)));
    subject.accept(writing([subject.add("fees", -5051, None)])).await;
    assert_eq!(subject.value("fees").await.as_deref(), Some("-1"));
    let verdicts =
        subject.commit(&[writing([subject.put("fees", "7")]), writing([subject.add("fees", 1, None)])]).await;
    assert!(matches!(verdicts[1], Verdict::Committed(_)));
    assert_eq!(subject.value("fees").await.as_deref(), Some("8"));
}

async fn an_addition_below_its_bound_conflicts_alone(subject: Subject) {
    subject.accept(writing([subject.add("balance", 100, None)])).await;
    let spend =
        |amount: i64, mine: &str| writing([subject.add("balance", -amount, Some(0)), subject.put(mine, "done")]);
    let verdicts = subject.commit(&[spend(60, "first"), spend(60, "second"), spend(40, "third")]).await;
    assert!(matches!(verdicts[0], Verdict::Committed(_)));
    assert_eq!(*conflict(&verdicts[1]), Conflict::Bound(subject.key("balance")));
    assert!(matches!(verdicts[2], Verdict::Committed(_)));
    assert_eq!(subject.value("balance").await.as_deref(), Some("0"));
    assert_eq!(subject.value("second").await, None);
    let verdicts = subject.commit(&[writing([subject.add("empty", -1, Some(0))])]).await;
    assert_eq!(*conflict(&verdicts[0]), Conflict::Bound(subject.key("empty")));
    assert_eq!(subject.value("empty").await, None);
}

async fn an_addition_to_a_text_conflicts(subject: Subject) {
    subject.accept(writing([subject.put("name", "ada"), subject.put("full", &i64::MAX.to_string())])).await;
    for key in ["name", "full"] {
        let verdicts = subject.commit(&[writing([subject.add(key, 1, None)])]).await;
        assert_eq!(*conflict(&verdicts[0]), Conflict::Bound(subject.key(key)));
    }
    assert_eq!(subject.value("name").await.as_deref(), Some("ada"));
}

async fn an_idempotency_key_is_taken_once(subject: Subject) {
    let unit = |key: &str, mine: &str| Unit { reply: Some(subject.reply(key)), ..writing([subject.put(mine, "done")]) };
    let verdicts = subject.commit(&[unit("k1", "first"), unit("k1", "second"), unit("k2", "third")]).await;
    assert_eq!(*conflict(&verdicts[1]), Conflict::Reply, "within the batch");
    assert!(matches!(verdicts[2], Verdict::Committed(_)), "another key");
    let verdicts = subject.commit(&[unit("k1", "fourth")]).await;
    assert_eq!(*conflict(&verdicts[0]), Conflict::Reply, "in a later batch");
    let mut elsewhere = unit("k1", "fifth");
    elsewhere.reply.as_mut().unwrap().key.principal = "user:bob".into();
    subject.accept(elsewhere).await;
    assert_eq!(subject.value("second").await, None);
    assert_eq!(subject.value("fourth").await, None);
    let expected = subject.reply("k1");
    assert_eq!(subject.storage.reply(&expected.key).await.unwrap(), Some(expected));
    assert_eq!(subject.storage.reply(&subject.reply("k3").key).await.unwrap(), None);
}

async fn an_event_id_is_taken_once(subject: Subject) {
    let unit = |id: &str| Unit { events: vec![subject.chosen_event(id)], ..Unit::default() };
    let twice = Unit { events: vec![subject.chosen_event("e9"), subject.chosen_event("e9")], ..Unit::default() };
    let verdicts = subject.commit(&[unit("e1"), unit("e1"), twice, unit("e2")]).await;
    assert_eq!(*conflict(&verdicts[1]), Conflict::Event, "within the batch");
    assert_eq!(*conflict(&verdicts[2]), Conflict::Event, "within the unit");
    assert_eq!(receipt(&verdicts[3]).events, [2]);
    let verdicts = subject.commit(&[unit("e1")]).await;
    assert_eq!(*conflict(&verdicts[0]), Conflict::Event, "in a later batch");
    let mut elsewhere = unit("e1");
    elsewhere.events[0].source = "/users/ada".into();
    assert_eq!(subject.accept(elsewhere).await.events, [3]);
}

async fn a_conflicting_unit_leaves_nothing_behind(subject: Subject) {
    let stale = Unit {
        reads: vec![Read::Key(subject.key("a"), Some(99))],
        writes: vec![subject.put("a", "1"), subject.add("fees", 1, None)],
        events: vec![subject.event("payment.created")],
        audit: vec![subject.entry("payment.create")],
        reply: Some(subject.reply("k1")),
        as_of: None,
    };
    let fine = Unit {
        events: vec![subject.event("payment.created")],
        audit: vec![subject.entry("payment.create")],
        ..Unit::default()
    };
    let verdicts = subject.commit(&[stale.clone(), fine, stale.clone()]).await;
    assert_eq!(*conflict(&verdicts[0]), Conflict::Read);
    assert_eq!((&receipt(&verdicts[1]).events[..], &receipt(&verdicts[1]).audit[..]), (&[1][..], &[0][..]));
    assert_eq!(subject.value("fees").await, None);
    assert_eq!(subject.storage.reply(&stale.reply.unwrap().key).await.unwrap(), None);
}

async fn a_batch_of_conflicts_changes_nothing(subject: Subject) {
    subject.accept(writing([subject.put("a", "1")])).await;
    let before = subject.storage.last_batch(subject.node).await.unwrap();
    let stale = reading(&subject, [Read::Key(subject.key("a"), None)], "mine");
    let verdicts = subject.commit(&[stale.clone(), stale]).await;
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Conflicted(Conflict::Read)));
    assert_eq!(subject.storage.last_batch(subject.node).await.unwrap(), before);
    assert_eq!(subject.accept(writing([subject.put("b", "1")])).await.sequence, 2);
}

async fn a_refused_statement_fails_the_whole_batch(subject: Subject) {
    let entry = subject.entry("payment.create");
    let unit = |entry| Unit { audit: vec![entry], ..writing([subject.put("a", "1")]) };
    subject.accept(unit(entry.clone())).await;
    let outcome = subject.try_commit(&[writing([subject.put("b", "1")]), unit(entry)]).await;
    let Err(aibos::storage::StorageError::Unavailable(sqlx::Error::Database(_))) = outcome else {
        panic!("an audit id is unique: {outcome:?}");
    };
    assert_eq!(subject.value("b").await, None);
    assert_eq!(subject.accept(writing([subject.put("b", "2")])).await.sequence, 2, "the connection is usable");
}
