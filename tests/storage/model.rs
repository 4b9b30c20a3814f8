//! Random batches against a model that runs one unit after the other in the plainest way: first the planner alone, then
//! both backends.

use std::collections::{BTreeMap, BTreeSet};

use aibos::audit::AuditQuery;
use aibos::state::unit::{Conflict, Read, Receipt, Unit, Verdict, Write};
use aibos::state::{Scan, StateKey, Version};
use aibos::storage::known::Known;
use aibos::storage::plan::{self, Answers, Head};
use bytes::Bytes;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use suite::database::Backend;

use super::Subject;

on_both_backends! {
    random_batches_end_as_in_the_model,
    units_that_waited_end_as_in_the_model,
}

const KEYS: [&str; 5] = ["a", "a/1", "a/\u{ffff}", "a/\u{10000}", "b"];

/// A unit as it is drawn: indexes instead of names, and reads as intentions.
#[derive(Clone, Debug)]
struct Sketch {
    reads: Vec<SketchedRead>,
    writes: Vec<SketchedWrite>,
    events: Vec<Option<u8>>,
    entries: usize,
    reply: Option<u8>,
}

#[derive(Clone, Debug)]
enum SketchedRead {
    /// Of a key, as it is or as it never was.
    Key(usize, Truth),
    /// Of those that begin as this key, so many.
    Range(usize, u32),
    /// A promise that a counter is at least this.
    AtLeast(usize, i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Truth {
    True,
    Stale,
}

#[derive(Clone, Debug)]
enum SketchedWrite {
    Put(u8),
    Delete,
    Add(i64, Option<i64>),
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let key = || 0..KEYS.len();
    let read = prop_oneof![
        8 => key().prop_map(|key| SketchedRead::Key(key, Truth::True)),
        1 => key().prop_map(|key| SketchedRead::Key(key, Truth::Stale)),
        2 => (key(), 1..5_u32).prop_map(|(key, limit)| SketchedRead::Range(key, limit)),
        2 => (key(), -9..9_i64).prop_map(|(key, floor)| SketchedRead::AtLeast(key, floor)),
    ];
    let write = prop_oneof![
        (0..20_u8).prop_map(SketchedWrite::Put),
        Just(SketchedWrite::Delete),
        (-9..9_i64, prop::option::of(-5..5_i64)).prop_map(|(delta, min)| SketchedWrite::Add(delta, min)),
    ];
    (
        prop::collection::vec(read, 0..3),
        prop::collection::vec(write, 0..3),
        prop::collection::vec(prop::option::of(0..6_u8), 0..3),
        0..3_usize,
        prop::option::weighted(0.3, 0..6_u8),
    )
        .prop_map(|(reads, writes, events, entries, reply)| Sketch { reads, writes, events, entries, reply })
}

fn batches() -> impl Strategy<Value = Vec<Vec<Sketch>>> {
    prop::collection::vec(prop::collection::vec(sketch(), 1..8), 1..6)
}

/// The books as one unit after the other leaves them.
#[derive(Clone, Debug, Default)]
struct Model {
    state: BTreeMap<StateKey, (Bytes, Version)>,
    replies: BTreeSet<String>,
    event_ids: BTreeSet<String>,
    sequence: Version,
    events: i64,
    entries: i64,
}

impl Model {
    fn list(&self, scan: &Scan) -> Vec<(String, Version)> {
        let covered = self.state.iter().filter(|(key, _)| scan.covers(key));
        covered.take(scan.limit as usize).map(|(key, (_, version))| (key.key.clone(), *version)).collect()
    }

    fn check(&self, unit: &Unit) -> Result<(), Conflict> {
        for read in &unit.reads {
            let holds = match read {
                Read::Key(key, version) => self.state.get(key).map(|(_, version)| *version) == *version,
                Read::Range(scan, seen) => self.list(scan) == *seen,
                Read::AtLeast(key, floor) if self.sum(key, 0).is_some_and(|value| value >= *floor) => true,
                Read::AtLeast(key, _) => return Err(Conflict::Bound(key.clone())),
            };
            if !holds {
                return Err(Conflict::Read);
            }
        }
        if unit.reply.as_ref().is_some_and(|reply| self.replies.contains(&reply.key.key)) {
            return Err(Conflict::Reply);
        }
        let mut ids = self.event_ids.clone();
        if !unit.events.iter().filter(|event| event.id_chosen).all(|event| ids.insert(event.id.clone())) {
            return Err(Conflict::Event);
        }
        for write in &unit.writes {
            if let Write::Add { key, delta, min } = write
                && !self.sum(key, *delta).is_some_and(|sum| min.is_none_or(|min| sum >= min))
            {
                return Err(Conflict::Bound(key.clone()));
            }
        }
        Ok(())
    }

    fn sum(&self, key: &StateKey, delta: i64) -> Option<i64> {
        let present = self.state.get(key).map_or(Some(0), |(value, _)| str::from_utf8(value).ok()?.parse().ok())?;
        delta.checked_add(present)
    }

    fn apply(&mut self, unit: &Unit) -> Receipt {
        self.sequence += 1;
        for write in &unit.writes {
            let value = match write {
                Write::Put(_, value) => Some(value.clone()),
                Write::Delete(_) => None,
                Write::Add { key, delta, .. } => self.sum(key, *delta).map(|sum| Bytes::from(sum.to_string())),
            };
            match value {
                Some(value) => _ = self.state.insert(write.key().clone(), (value, self.sequence)),
                None => _ = self.state.remove(write.key()),
            }
        }
        self.replies.extend(unit.reply.iter().map(|reply| reply.key.key.clone()));
        self.event_ids.extend(unit.events.iter().filter(|event| event.id_chosen).map(|event| event.id.clone()));
        let events: Vec<i64> = (self.events + 1..).take(unit.events.len()).collect();
        let audit: Vec<i64> = (self.entries..).take(unit.audit.len()).collect();
        self.events = events.last().copied().unwrap_or(self.events);
        self.entries += i64::try_from(audit.len()).unwrap();
        Receipt { sequence: self.sequence, events, audit }
    }

    /// Whether the verdicts are those of a serial run; leaves the model after that run.
    fn follow(&mut self, units: &[Unit], verdicts: &[Verdict]) {
        assert_eq!(units.len(), verdicts.len());
        for (unit, verdict) in units.iter().zip(verdicts) {
            match (self.check(unit), verdict) {
                (Ok(()), Verdict::Committed(receipt)) => assert_eq!(*receipt, self.apply(unit)),
                (Err(expected), Verdict::Conflicted(conflict)) if expected == *conflict => {}
                // A list that changed and changed back within the batch: the request runs again, which does no harm.
                (_, Verdict::Conflicted(Conflict::Read)) if unit.as_of.is_some() && reads_range(unit) => {}
                (expected, got) => panic!("{unit:?} should be {expected:?}, is {got:?}"),
            }
        }
    }

    /// The sketch as a unit that read what the model holds now.
    fn unit(&self, subject: &Subject, sketch: &Sketch) -> Unit {
        let reads = sketch.reads.iter().map(|read| match read {
            SketchedRead::Key(key, truth) => {
                let key = subject.key(KEYS[*key]);
                let version = self.state.get(&key).map(|(_, version)| *version);
                let stale = version.map_or(Some(1_000_000), |version| Some(version - 1));
                Read::Key(key, if *truth == Truth::True { version } else { stale })
            }
            SketchedRead::Range(key, limit) => {
                let scan = subject.scan(KEYS[*key], None, *limit);
                let seen = self.list(&scan);
                Read::Range(scan, seen)
            }
            SketchedRead::AtLeast(key, floor) => Read::AtLeast(subject.key(KEYS[*key]), *floor),
        });
        // At most one write of a key: each write takes the next key.
        let first = sketch.entries + sketch.reads.len() + sketch.events.len();
        let writes = sketch.writes.iter().enumerate().map(|(index, write)| {
            let key = KEYS[(first + index) % KEYS.len()];
            match write {
                SketchedWrite::Put(value) => {
                    subject.put(key, &if *value < 5 { "text".into() } else { value.to_string() })
                }
                SketchedWrite::Delete => Write::Delete(subject.key(key)),
                SketchedWrite::Add(delta, min) => subject.add(key, *delta, *min),
            }
        });
        let event = |id: &Option<u8>| match id {
            Some(id) => subject.chosen_event(&format!("event-{id}")),
            None => subject.event("payment.created"),
        };
        Unit {
            reads: reads.collect(),
            writes: writes.collect(),
            events: sketch.events.iter().map(event).collect(),
            audit: (0..sketch.entries).map(|_| subject.entry("payment.create")).collect(),
            reply: sketch.reply.map(|key| subject.reply(&format!("key-{key}"))),
            as_of: None,
        }
    }

    /// What a database that holds the model would answer.
    fn answers<'a>(&self, units: &'a [Unit]) -> Answers<'a> {
        let (_, questions) = Known::default().answer(units);
        let state = |key: &&'a StateKey| self.state.get(*key).map(|found| (*key, found.clone()));
        Answers {
            versions: questions.versions.iter().filter_map(state).map(|(key, (_, version))| (key, version)).collect(),
            counters: questions.counters.iter().filter_map(state).collect(),
            ranges: questions.ranges.iter().map(|scan| self.list(scan)).collect(),
            replies: questions.replies.iter().copied().filter(|key| self.replies.contains(&key.key)).collect(),
            events: questions.events.iter().copied().filter(|(_, _, id)| self.event_ids.contains(*id)).collect(),
            tenants: questions
                .tenants
                .iter()
                .map(|tenant| (*tenant, self.events))
                .filter(|(_, last)| *last > 0)
                .collect(),
        }
    }
}

fn reads_range(unit: &Unit) -> bool {
    unit.reads.iter().any(|read| matches!(read, Read::Range(..)))
}

#[test]
fn the_planner_decides_as_if_units_ran_one_by_one() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Only its keys and ids are used; the planner meets no database.
    let subject = runtime.block_on(Subject::new(Backend::Sqlite));
    let config = ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(batches in batches())| {
        let mut model = Model::default();
        for batch in batches {
            let units: Vec<Unit> = batch.iter().map(|sketch| model.unit(&subject, sketch)).collect();
            let head = Head { sequence: model.sequence, audit_index: model.entries - 1 };
            let answers = model.answers(&units);
            let plan = plan::plan(head, &answers, &units);
            let mut state = model.state.clone();
            model.follow(&units, &plan.verdicts);
            for (key, value, version) in &plan.puts {
                state.insert(key.clone(), (value.clone(), *version));
            }
            for key in &plan.deletes {
                state.remove(key);
            }
            prop_assert_eq!(&state, &model.state);
            prop_assert_eq!(plan.head, Head { sequence: model.sequence, audit_index: model.entries - 1 });
        }
    });
    runtime.block_on(subject.storage.close());
}

/// Everything that the database holds of the subject.
async fn stored(subject: &Subject) -> BTreeMap<StateKey, (Bytes, Version)> {
    let found = subject.storage.scan(&subject.scan("", None, 100)).await.unwrap();
    let found = found.into_iter();
    found.map(|entry| (subject.key(&entry.key), (entry.versioned.value, entry.versioned.version))).collect()
}

async fn random_batches_end_as_in_the_model(mut subject: Subject) {
    let mut runner = TestRunner::deterministic();
    let (mut sequence, mut entries) = (0, 0);
    for _ in 0..40 {
        // Each run has a tenant of its own, so it starts with empty books.
        subject.tenant = aibos::id::TenantId::new(&subject.clock);
        let mut model = Model { sequence, entries, ..Model::default() };
        for batch in batches().new_tree(&mut runner).unwrap().current() {
            let units: Vec<Unit> = batch.iter().map(|sketch| model.unit(&subject, sketch)).collect();
            let reads: Vec<Read> = units.iter().flat_map(|unit| unit.reads.clone()).collect();
            let valid =
                units.iter().all(|unit| model.check(&Unit { reads: unit.reads.clone(), ..Unit::default() }).is_ok());
            assert_eq!(subject.storage.validate(&reads).await.unwrap(), valid);
            model.follow(&units, &subject.commit(&units).await);
        }
        assert_eq!(stored(&subject).await, model.state);
        let newest = subject.storage.audit(&AuditQuery { limit: 1, ..AuditQuery::default() }).await.unwrap();
        assert_eq!(newest.first().map_or(-1, |entry| entry.index), model.entries - 1);
        (sequence, entries) = (model.sequence, model.entries);
    }
}

/// Each unit read everything one batch before the one that it is in, and says as of which commit. Between some batches another
/// process commits.
async fn units_that_waited_end_as_in_the_model(mut subject: Subject) {
    let mut runner = TestRunner::deterministic();
    let (mut sequence, mut entries) = (0, 0);
    for round in 0..60 {
        subject.tenant = aibos::id::TenantId::new(&subject.clock);
        let mut model = Model { sequence, entries, ..Model::default() };
        let mut waiting: Vec<Unit> = Vec::new();
        for (turn, batch) in batches().new_tree(&mut runner).unwrap().current().into_iter().enumerate() {
            let as_of = subject.storage.as_of();
            let come = batch.iter().map(|sketch| {
                let is_true = |read: &SketchedRead| !matches!(read, SketchedRead::Key(_, Truth::Stale));
                let mut unit = model.unit(&subject, sketch);
                unit.as_of = as_of.filter(|_| sketch.reads.iter().all(is_true));
                // Who looked and found a reply would have answered it.
                unit.reply = unit.reply.filter(|reply| !model.replies.contains(&reply.key.key));
                unit
            });
            let units = std::mem::replace(&mut waiting, come.collect());
            model.follow(&units, &subject.commit(&units).await);
            if (round + turn) % 3 == 0 {
                model.sequence += 1;
                let (key, version) = (subject.key(KEYS[turn % KEYS.len()]), model.sequence);
                subject.commit_elsewhere(&key, "7", version).await;
                model.state.insert(key, (Bytes::from_static(b"7"), version));
            }
        }
        model.follow(&waiting, &subject.commit(&waiting).await);
        assert_eq!(stored(&subject).await, model.state);
        (sequence, entries) = (model.sequence, model.entries);
    }
}
