//! Many committers at once: their commits are serial, so nothing is lost and no number is skipped or given twice.

use std::collections::BTreeSet;

use aibos::audit::AuditQuery;
use aibos::event::EventQuery;
use aibos::id::{BatchId, NodeId};
use aibos::state::unit::{Read, Unit, Verdict};
use aibos::storage::Storage;
use tokio::task::JoinSet;

use super::{Subject, writing};

on_both_backends! {
    eight_committers_lose_nothing,
}

const COMMITTERS: usize = 8;
const UNITS_EACH: usize = 25;

/// Reads the shared counter and raises it by one, again and again until nobody came between.
async fn raise(storage: &Storage, subject: &Subject, node: NodeId) -> usize {
    let mut conflicts = 0;
    loop {
        let as_of = storage.as_of();
        let found = storage.read(&[subject.key("shared")]).await.unwrap().remove(0);
        let value: u64 = found.as_ref().map_or(0, |found| str::from_utf8(&found.value).unwrap().parse().unwrap());
        let unit = Unit {
            reads: vec![Read::Key(subject.key("shared"), found.map(|found| found.version))],
            writes: vec![subject.put("shared", &(value + 1).to_string()), subject.add("merged", 1, None)],
            events: vec![subject.event("payment.created")],
            audit: vec![subject.entry("payment.create")],
            reply: None,
            as_of,
        };
        let unrelated = writing([subject.add("merged", 1, None)]);
        let verdicts = storage.commit(node, BatchId::new(&subject.clock), &[unit, unrelated]).await.unwrap();
        assert!(matches!(verdicts[1], Verdict::Committed(_)));
        match verdicts[0] {
            Verdict::Committed(_) => return conflicts,
            Verdict::Conflicted(_) => conflicts += 1,
        }
    }
}

async fn eight_committers_lose_nothing(subject: Subject) {
    let subject = std::sync::Arc::new(subject);
    let mut committers = JoinSet::new();
    for _ in 0..COMMITTERS {
        // Several processes may share a server, but only several tasks may share a file.
        let storage = match &subject.storage {
            Storage::Sqlite(_) => subject.storage.clone(),
            Storage::Postgres(_) => subject.database.open().await,
        };
        let subject = std::sync::Arc::clone(&subject);
        committers.spawn(async move {
            let node = NodeId::new(&subject.clock);
            let mut conflicts = 0;
            for _ in 0..UNITS_EACH {
                conflicts += raise(&storage, &subject, node).await;
            }
            conflicts
        });
    }
    let conflicts: usize = committers.join_all().await.into_iter().sum();
    let raised = COMMITTERS * UNITS_EACH;
    let count = i64::try_from(raised).unwrap();
    assert_eq!(subject.value("shared").await, Some(count.to_string()));
    assert_eq!(subject.value("merged").await, Some((2 * raised + conflicts).to_string()));

    let query = EventQuery { tenant: subject.tenant, kind: None, subject: None, after: 0, limit: 100_000 };
    let events: Vec<i64> = subject.storage.events(&query).await.unwrap().iter().map(|event| event.sequence).collect();
    assert_eq!(events, (1..=count).collect::<Vec<_>>());
    let query = AuditQuery { limit: 100_000, ..AuditQuery::default() };
    let audit: BTreeSet<i64> = subject.storage.audit(&query).await.unwrap().iter().map(|entry| entry.index).collect();
    assert_eq!(audit, (0..count).collect::<BTreeSet<_>>());
    let last = subject.accept(writing([subject.put("end", "1")])).await;
    assert_eq!(last.sequence, i64::try_from(2 * raised + conflicts).unwrap() + 1);
}
