//! What a batch will do, decided purely: given the units and what the database says now, each unit is checked against the
//! database *and* against the units before it in the batch, then numbered. A backend takes what is known, looks up the other
//! answers inside the committing database transaction, calls [`plan`] and writes what it says.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;

use crate::audit::{self, AuditEntry};
use crate::event::Event;
use crate::id::TenantId;
use crate::state::unit::{Conflict, Read, Receipt, ReplyKey, StoredReply, Unit, Verdict, Write};
use crate::state::{Scan, StateKey, Version};

/// The last numbers given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Commit sequence of the newest unit; 0 before the first.
    pub sequence: Version,
    /// Index of the newest audit entry; -1 before the first.
    pub audit_index: i64,
}

/// What must be known before a batch can be decided.
#[derive(Debug, Default)]
pub struct Questions<'a> {
    /// Keys whose version matters.
    pub versions: BTreeSet<&'a StateKey>,
    /// Keys whose value and version matter.
    pub counters: BTreeSet<&'a StateKey>,
    /// Ranges whose keys and versions matter, in the order in which the units name them.
    pub ranges: Vec<&'a Scan>,
    /// Idempotency keys that may have a stored reply.
    pub replies: Vec<&'a ReplyKey>,
    /// Events, by tenant, source and id, that may exist.
    pub events: Vec<(TenantId, &'a str, &'a str)>,
    /// Tenants whose last event sequence matters.
    pub tenants: BTreeSet<TenantId>,
}

/// What is known, and what the database says, under the head's lock. What is not named is absent.
#[derive(Debug, Default)]
pub struct Answers<'a> {
    /// Present keys of `Questions::versions`.
    pub versions: HashMap<&'a StateKey, Version>,
    /// Present keys of `Questions::counters`.
    pub counters: HashMap<&'a StateKey, (Bytes, Version)>,
    /// One for each of `Questions::ranges`, in order.
    pub ranges: Vec<Vec<(String, Version)>>,
    /// Stored replies that exist.
    pub replies: HashSet<&'a ReplyKey>,
    /// Events that exist.
    pub events: HashSet<(TenantId, &'a str, &'a str)>,
    /// Last event sequence of each tenant; absent means 0.
    pub tenants: HashMap<TenantId, i64>,
}

/// What to write, and what to tell.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The head after the batch.
    pub head: Head,
    /// Last event sequence of each tenant that got an event.
    pub tenants: BTreeMap<TenantId, i64>,
    /// Final value of each changed key.
    pub puts: Vec<(StateKey, Bytes, Version)>,
    /// Keys that end absent.
    pub deletes: Vec<StateKey>,
    /// Events with their sequence and commit.
    pub events: Vec<(&'a Event, i64, Version)>,
    /// Audit entries with their index, stored text and leaf hash.
    pub audit: Vec<NumberedEntry<'a>>,
    /// Replies to keep.
    pub replies: Vec<&'a StoredReply>,
    /// One for each unit.
    pub verdicts: Vec<Verdict>,
}

/// An audit entry ready to be written.
#[derive(Debug)]
pub struct NumberedEntry<'a> {
    /// Position in the log.
    pub index: i64,
    /// The entry.
    pub entry: &'a AuditEntry,
    /// Its JSON: the text that the leaf hash covers.
    pub text: String,
    /// RFC 6962 leaf hash.
    pub leaf: [u8; 32],
    /// The commit that it belongs to.
    pub sequence: Version,
}

impl<'a> Questions<'a> {
    /// What must be known to judge whether these reads still hold.
    #[must_use]
    pub fn of_reads(reads: &'a [Read]) -> Self {
        let mut questions = Self::default();
        for read in reads {
            match read {
                Read::Key(key, _) => _ = questions.versions.insert(key),
                Read::Range(scan, _) => questions.ranges.push(scan),
                Read::AtLeast(key, _) => _ = questions.counters.insert(key),
            }
        }
        questions
    }
}

impl Answers<'_> {
    /// Adds what the database said to what was known.
    pub(super) fn join(&mut self, said: Self) {
        self.versions.extend(said.versions);
        self.counters.extend(said.counters);
        self.ranges.extend(said.ranges);
        self.replies.extend(said.replies);
        self.events.extend(said.events);
        self.tenants.extend(said.tenants);
    }

    /// Whether everything that was read is still so.
    #[must_use]
    pub fn confirm(&self, reads: &[Read]) -> bool {
        let mut ranges = self.ranges.iter();
        reads.iter().all(|read| match read {
            Read::Key(key, version) => self.versions.get(key) == version.as_ref(),
            Read::Range(_, seen) => ranges.next() == Some(seen),
            Read::AtLeast(key, floor) => {
                let value = self.counters.get(key).map_or(Some(0), |(value, _)| parse_counter(value));
                value.is_some_and(|value| value >= *floor)
            }
        })
    }
}

/// Decides every unit of the batch, in order.
#[must_use]
pub fn plan<'a>(head: Head, answers: &Answers<'a>, units: &'a [Unit]) -> Plan<'a> {
    let mut planner = Planner {
        answers,
        ranges: answers.ranges.iter(),
        changed: BTreeMap::new(),
        replies: HashSet::new(),
        events: HashSet::new(),
        plan: Plan {
            head,
            tenants: BTreeMap::new(),
            puts: Vec::new(),
            deletes: Vec::new(),
            events: Vec::new(),
            audit: Vec::new(),
            replies: Vec::new(),
            verdicts: Vec::with_capacity(units.len()),
        },
    };
    for unit in units {
        let verdict = planner.decide(unit);
        planner.plan.verdicts.push(verdict);
    }
    planner.finish()
}

/// The value of a key after the units so far: absent, or bytes and version.
type Changed = Option<(Bytes, Version)>;

struct Planner<'a, 'b> {
    answers: &'b Answers<'a>,
    ranges: std::slice::Iter<'b, Vec<(String, Version)>>,
    changed: BTreeMap<&'a StateKey, Changed>,
    replies: HashSet<&'a ReplyKey>,
    events: HashSet<(TenantId, &'a str, &'a str)>,
    plan: Plan<'a>,
}

impl<'a> Planner<'a, '_> {
    fn decide(&mut self, unit: &'a Unit) -> Verdict {
        // The ranges of a unit are consumed even when it conflicts earlier, or the next unit would see its answers.
        let ranges: Vec<_> = unit
            .reads
            .iter()
            .filter(|read| matches!(read, Read::Range(..)))
            .filter_map(|_| self.ranges.next())
            .collect();
        let sequence = self.plan.head.sequence + 1;
        let checked = self
            .check_reads(unit, &ranges)
            .and_then(|()| self.check_uniqueness(unit))
            .and_then(|()| self.apply_writes(unit, sequence));
        match checked {
            Ok(changes) => Verdict::Committed(self.accept(unit, changes, sequence)),
            Err(conflict) => Verdict::Conflicted(conflict),
        }
    }

    fn version(&self, key: &StateKey) -> Option<Version> {
        match self.changed.get(key) {
            Some(changed) => changed.as_ref().map(|(_, version)| *version),
            None => self.answers.versions.get(key).copied(),
        }
    }

    fn check_reads(&self, unit: &Unit, ranges: &[&Vec<(String, Version)>]) -> Result<(), Conflict> {
        let mut ranges = ranges.iter();
        for read in &unit.reads {
            let holds = match read {
                Read::Key(key, version) => self.version(key) == *version,
                Read::Range(scan, seen) => ranges.next().is_some_and(|now| *now == seen) && !self.touched(scan, seen),
                Read::AtLeast(key, floor) if self.counter(key).is_some_and(|value| value >= *floor) => true,
                Read::AtLeast(key, _) => return Err(Conflict::Bound(key.clone())),
            };
            if !holds {
                return Err(Conflict::Read);
            }
        }
        Ok(())
    }

    /// Whether an earlier unit of the batch changed this list: set a key that belongs into it, or deleted one that it shows.
    fn touched(&self, scan: &Scan, seen: &[(String, Version)]) -> bool {
        let full = u32::try_from(seen.len()).is_ok_and(|length| length >= scan.limit);
        let last = seen.last().filter(|_| full).map(|(key, _)| key);
        self.changed.iter().any(|(key, changed)| {
            scan.covers(key)
                && last.is_none_or(|last| key.key <= *last)
                && (changed.is_some() || seen.iter().any(|(seen, _)| *seen == key.key))
        })
    }

    fn check_uniqueness(&self, unit: &Unit) -> Result<(), Conflict> {
        if let Some(reply) = &unit.reply
            && (self.answers.replies.contains(&reply.key) || self.replies.contains(&reply.key))
        {
            return Err(Conflict::Reply);
        }
        let mut own = HashSet::new();
        for event in unit.events.iter().filter(|event| event.id_chosen) {
            let named = (event.tenant, event.source.as_str(), event.id.as_str());
            if self.answers.events.contains(&named) || self.events.contains(&named) || !own.insert(named) {
                return Err(Conflict::Event);
            }
        }
        Ok(())
    }

    /// The new values of the unit's keys, or the conflict that forbids them. Changes nothing yet.
    fn apply_writes(&self, unit: &'a Unit, sequence: Version) -> Result<Vec<(&'a StateKey, Changed)>, Conflict> {
        unit.writes
            .iter()
            .map(|write| match write {
                Write::Put(key, value) => Ok((key, Some((value.clone(), sequence)))),
                Write::Delete(key) => Ok((key, None)),
                Write::Add { key, delta, min } => {
                    let sum = self
                        .counter(key)
                        .and_then(|value| value.checked_add(*delta))
                        .filter(|sum| min.is_none_or(|min| *sum >= min))
                        .ok_or_else(|| Conflict::Bound(key.clone()))?;
                    Ok((key, Some((Bytes::from(sum.to_string()), sequence))))
                }
            })
            .collect()
    }

    /// The present value of a counter; none when the key holds something else.
    fn counter(&self, key: &StateKey) -> Option<i64> {
        let stored = match self.changed.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.answers.counters.get(key),
        };
        match stored {
            Some((value, _)) => parse_counter(value),
            None => Some(0),
        }
    }

    fn accept(&mut self, unit: &'a Unit, changes: Vec<(&'a StateKey, Changed)>, sequence: Version) -> Receipt {
        self.plan.head.sequence = sequence;
        self.changed.extend(changes);
        if let Some(reply) = &unit.reply {
            self.replies.insert(&reply.key);
            self.plan.replies.push(reply);
        }
        let events = unit.events.iter().map(|event| self.number_event(event, sequence)).collect();
        let audit = unit.audit.iter().map(|entry| self.number_entry(entry, sequence)).collect();
        Receipt { sequence, events, audit }
    }

    fn number_event(&mut self, event: &'a Event, commit: Version) -> i64 {
        if event.id_chosen {
            self.events.insert((event.tenant, &event.source, &event.id));
        }
        let stored = self.answers.tenants.get(&event.tenant).copied().unwrap_or(0);
        let last = self.plan.tenants.entry(event.tenant).or_insert(stored);
        *last += 1;
        self.plan.events.push((event, *last, commit));
        *last
    }

    fn number_entry(&mut self, entry: &'a AuditEntry, sequence: Version) -> i64 {
        self.plan.head.audit_index += 1;
        let index = self.plan.head.audit_index;
        let text = entry.text();
        let leaf = audit::leaf_hash(&text);
        self.plan.audit.push(NumberedEntry { index, entry, text, leaf, sequence });
        index
    }

    fn finish(self) -> Plan<'a> {
        let mut plan = self.plan;
        for (key, changed) in self.changed {
            match changed {
                Some((value, version)) => plan.puts.push((key.clone(), value, version)),
                None => plan.deletes.push(key.clone()),
            }
        }
        plan
    }
}

/// The integer that a counter's decimal text stands for.
#[must_use]
pub fn parse_counter(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}
