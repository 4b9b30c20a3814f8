//! Random commits of this process and of others, reads and late answers, beside a map that holds the truth.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::event::Event;
use crate::id::CorrelationId;
use crate::state::Space;
use crate::state::unit::StoredReply;
use crate::storage::plan::plan;

const KEYS: u8 = 6;

#[derive(Clone, Debug)]
enum Step {
    /// This process writes a key or removes it, with an event and a reply.
    Commit(u8, bool),
    /// The same, but before it is remembered another process commits and a further batch of this one meets that.
    CommitLate(u8),
    /// Another process writes a key or removes it, with an event and a reply.
    Elsewhere(u8, bool),
    /// A read and a look for a reply begin: what they say is remembered at the next `Learn`, and checked at the next `Check`.
    Read(u8),
    Learn,
    Check,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..KEYS, any::<bool>()).prop_map(|(key, put)| Step::Commit(key, put)),
        1 => (0..KEYS).prop_map(Step::CommitLate),
        1 => (0..KEYS, any::<bool>()).prop_map(|(key, put)| Step::Elsewhere(key, put)),
        4 => (0..KEYS).prop_map(Step::Read),
        2 => Just(Step::Learn),
        4 => Just(Step::Check),
    ]
}

fn key(number: u8) -> StateKey {
    Space::kernel(TenantId::PLATFORM).key(format!("key/{number}"))
}

fn reply_key(number: u8) -> ReplyKey {
    let (principal, route, key) = ("user:ada".into(), "/pay".into(), number.to_string());
    ReplyKey { tenant: TenantId::PLATFORM, principal, route, key }
}

fn write(number: u8, put: bool) -> Write {
    if put { Write::Put(key(number), Bytes::from_static(b"value")) } else { Write::Delete(key(number)) }
}

fn event() -> Event {
    Event {
        id: "e".into(),
        id_chosen: false,
        source: "/cells/ledger".into(),
        kind: "k".into(),
        subject: None,
        time: Timestamp::UNIX_EPOCH,
        data: "{}".into(),
        tenant: TenantId::PLATFORM,
        actor: "user:ada".into(),
        correlation: CorrelationId(uuid::Uuid::nil()),
        traceparent: None,
    }
}

fn reply(number: u8) -> StoredReply {
    StoredReply {
        key: reply_key(number),
        fingerprint: [0; 32],
        status: 200,
        headers: Vec::new(),
        body: Bytes::new(),
        created_at: Timestamp::UNIX_EPOCH,
        expires_at: Timestamp::UNIX_EPOCH,
    }
}

/// A read as it was: as of which commit, of what, what was found, and whether there was a reply.
type Seen = (Option<Version>, u8, Option<Version>, bool);

#[derive(Default)]
struct Subject {
    known: Known,
    state: BTreeMap<StateKey, Version>,
    replies: BTreeSet<u8>,
    events: i64,
    head: Version,
    reads: Vec<Seen>,
}

impl Subject {
    fn head(&self) -> Head {
        Head { sequence: self.head, audit_index: -1 }
    }

    /// What a commit leaves in the database.
    fn apply(&mut self, number: u8, put: bool) {
        self.head += 1;
        self.events += 1;
        self.replies.insert(number);
        if put {
            self.state.insert(key(number), self.head);
        } else {
            self.state.remove(&key(number));
        }
    }

    /// Commits a key, an event and a reply; `meanwhile` happens after COMMIT, before the batch is remembered.
    fn commit(&mut self, number: u8, put: bool, meanwhile: impl FnOnce(&mut Self)) {
        let writes = vec![write(number, put)];
        let units = [Unit { writes, events: vec![event()], reply: Some(reply(number)), ..Unit::default() }];
        let before = self.head();
        self.known.meet(before);
        let answers = Answers { tenants: [(TenantId::PLATFORM, self.events)].into(), ..Answers::default() };
        let plan = plan(before, &answers, &units);
        self.apply(number, put);
        meanwhile(self);
        self.known.keep(before, plan);
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Commit(number, put) => self.commit(number, put, |_| {}),
            Step::CommitLate(number) => self.commit(number, true, |subject| {
                subject.apply(number, true);
                subject.known.meet(subject.head());
            }),
            Step::Elsewhere(number, put) => self.apply(number, put),
            Step::Read(number) => {
                let found = self.state.get(&key(number)).copied();
                self.reads.push((self.known.as_of(), number, found, self.replies.contains(&number)));
            }
            Step::Learn => {
                for (as_of, number, found, _) in &self.reads {
                    let found = found.map(|version| Versioned { value: Bytes::from_static(b"value"), version });
                    self.known.learn(*as_of, &[key(*number)], &[found]);
                }
            }
            Step::Check => self.check(),
        }
    }

    /// What is answered is the truth, and whatever may be wrong is asked about.
    fn check(&mut self) {
        // Who found a reply would have answered it.
        let unit = |(as_of, number, found, is_there): &Seen| Unit {
            reads: vec![Read::Key(key(*number), *found)],
            as_of: *as_of,
            events: vec![event()],
            reply: (!is_there).then(|| reply(*number)),
            ..Unit::default()
        };
        let units: Vec<Unit> = self.reads.iter().map(unit).collect();
        self.known.meet(self.head());
        let (answers, questions) = self.known.answer(&units);
        for (_, number, _, is_there) in &self.reads {
            let (key, reply) = (key(*number), reply_key(*number));
            if !questions.versions.contains(&key) {
                assert_eq!(answers.versions.get(&key), self.state.get(&key), "{key:?} of {:?}", self.reads);
            }
            if !is_there && !questions.replies.contains(&&reply) {
                assert_eq!(answers.replies.contains(&reply), self.replies.contains(number), "{:?}", self.reads);
            }
        }
        if !units.is_empty() && questions.tenants.is_empty() {
            assert_eq!(answers.tenants.get(&TenantId::PLATFORM), Some(&self.events));
        }
        for number in 0..KEYS {
            if let Some(Recalled(found)) = self.known.recall(&[key(number)]).remove(0) {
                assert_eq!(found.map(|found| found.version), self.state.get(&key(number)).copied());
            }
        }
        self.reads.clear();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_is_known_is_true(steps in prop::collection::vec(step(), 1..60), bytes_max in 1..6000_usize) {
        let mut subject = Subject { known: Known::bounded(bytes_max), ..Subject::default() };
        for step in &steps {
            subject.take(step);
        }
        subject.check();
    }
}

#[test]
fn what_is_known_is_bounded_and_the_newest_is_kept() {
    let mut subject = Subject { known: Known::bounded(4000), ..Subject::default() };
    subject.commit(0, true, |_| {});
    let as_of = subject.known.as_of();
    for number in 1..200 {
        subject.commit(number, true, |_| {});
    }
    let recalled = |number| subject.known.recall(&[key(number)]).remove(0);
    assert!(matches!(recalled(199), Some(Recalled(Some(_)))));
    assert!(recalled(1).is_none());
    let held = {
        let inner = subject.known.lock();
        inner.young.keys.len() + inner.old.keys.len()
    };
    assert!((1..40).contains(&held), "{held}");
    let units = [Unit { reads: vec![Read::Key(key(1), None)], as_of, ..Unit::default() }];
    let (_, questions) = subject.known.answer(&units);
    assert!(questions.versions.contains(&key(1)), "it changed since, and was forgotten");
}

#[test]
fn a_large_value_is_asked_for() {
    let subject = Subject::default();
    let large = vec![b'1'; limit::KNOWN_VALUE_BYTES_MAX + 1];
    let units = [Unit { writes: vec![Write::Put(key(0), large.into())], ..Unit::default() }];
    subject.known.meet(subject.head());
    subject.known.keep(subject.head(), plan(subject.head(), &Answers::default(), &units));
    assert_eq!(subject.known.recall(&[key(0)]), [None]);
    let adding = Write::Add { key: key(0), delta: 1, min: None };
    let units = [Unit { writes: vec![adding], reads: vec![Read::Key(key(0), Some(1))], ..Unit::default() }];
    let (answers, questions) = subject.known.answer(&units);
    assert!(questions.counters.contains(&key(0)) && questions.versions.is_empty());
    assert_eq!(answers.versions.get(&key(0)), Some(&1));
}

#[test]
fn a_batch_that_is_remembered_late_hides_nothing_newer() {
    let mut subject = Subject::default();
    subject.commit(0, true, |_| {});
    subject.take(&Step::CommitLate(0));
    assert_eq!(subject.known.recall(&[key(0)]), [None]);
    assert_eq!(subject.known.as_of(), Some(subject.head));
}
