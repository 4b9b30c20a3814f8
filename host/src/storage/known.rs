//! What this process knows of the database without asking: the keys that it lately read or wrote, the replies that it lately
//! kept and the last event of each tenant.
//!
//! It never decides alone. A committing batch holds the log's head and so sees whether another process has committed since;
//! then all of this is forgotten, and the database is asked, as it is for whatever is not here. It is forgotten after every
//! commit that failed, too. A value that a request is given from here is checked when the request ends, like every other read.
//!
//! Invariant: every key that changed after `base`, up to `head`, is here, unless another process has committed since. So a
//! key that is not here is still as it was when it was read, if that was at `base` or later. Not here: ranges, and the ids of
//! events, which are always asked for.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::plan::{Answers, Head, Plan, Questions};
use crate::id::TenantId;
use crate::limit;
use crate::state::unit::{Read, ReplyKey, Unit, Write};
use crate::state::{StateKey, Version, Versioned};

/// Shared by those who read and those who commit.
#[derive(Debug)]
pub struct Known {
    bytes_max: usize,
    inner: Mutex<Inner>,
}

impl Default for Known {
    fn default() -> Self {
        Self::bounded(limit::KNOWN_BYTES_MAX)
    }
}

#[derive(Debug, Default)]
struct Inner {
    /// The newest commit that is known with everything before it; none before the first batch.
    head: Option<Head>,
    base: Version,
    /// `base` once `old` is dropped.
    next_base: Version,
    young: Generation,
    /// Dropped as a whole when `young` is full, which is cheaper than to find the oldest entries.
    old: Generation,
}

#[derive(Debug, Default)]
struct Generation {
    keys: HashMap<StateKey, Held>,
    /// The commit that kept each reply.
    replies: HashMap<ReplyKey, Version>,
    tenants: HashMap<TenantId, i64>,
    bytes: usize,
}

/// What a key holds.
#[derive(Clone, Debug)]
enum Held {
    Nothing,
    Value(Versioned),
    /// Something too large to be kept here.
    Version(Version),
}

/// What a key is known to hold: a value, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recalled(pub Option<Versioned>);

impl Held {
    fn new(found: Option<&Versioned>) -> Self {
        match found {
            None => Self::Nothing,
            Some(found) if found.value.len() <= limit::KNOWN_VALUE_BYTES_MAX => Self::Value(found.clone()),
            Some(found) => Self::Version(found.version),
        }
    }

    fn version(&self) -> Option<Version> {
        match self {
            Self::Nothing => None,
            Self::Value(found) => Some(found.version),
            Self::Version(version) => Some(*version),
        }
    }
}

impl Known {
    /// Nothing yet, and so many bytes at most.
    fn bounded(bytes_max: usize) -> Self {
        Self { bytes_max, inner: Mutex::default() }
    }

    /// The newest commit that every read sees which begins from now on; none while nothing is known.
    #[must_use]
    pub fn as_of(&self) -> Option<Version> {
        self.lock().head.map(|head| head.sequence)
    }

    /// What these keys hold, where it is known.
    #[must_use]
    pub fn recall(&self, keys: &[StateKey]) -> Vec<Option<Recalled>> {
        let inner = self.lock();
        let recall = |key| match inner.find(key)? {
            Held::Nothing => Some(Recalled(None)),
            Held::Value(found) => Some(Recalled(Some(found.clone()))),
            Held::Version(_) => None,
        };
        let recalled: Vec<_> = keys.iter().map(recall).collect();
        drop(inner);
        for (result, is_hit) in [("hit", true), ("miss", false)] {
            let count = recalled.iter().filter(|found| found.is_some() == is_hit).count();
            metrics::counter!("cache_requests_total", "cache" => "state", "result" => result).increment(count as u64);
        }
        recalled
    }

    /// Remembers what was read. `as_of` is what [`Known::as_of`] said before the question was sent.
    pub fn learn(&self, as_of: Option<Version>, keys: &[StateKey], found: &[Option<Versioned>]) {
        let mut inner = self.lock();
        if !inner.covers(as_of) {
            return;
        }
        for (key, found) in keys.iter().zip(found) {
            // What is here was current at `head`; what was read may be older.
            if inner.find(key).is_none() {
                inner.set(key.clone(), Held::new(found.as_ref()));
            }
        }
        let dropped = inner.bound(self.bytes_max);
        // Taking it apart takes milliseconds, for which nobody should wait.
        drop(inner);
        drop(dropped);
    }

    /// Under the log's head: whether nobody else has committed. If somebody has, everything is forgotten.
    pub(super) fn meet(&self, head: Head) {
        let mut inner = self.lock();
        if inner.head != Some(head) {
            let (base, next_base) = (head.sequence, head.sequence);
            let new = Inner { head: Some(head), base, next_base, ..Inner::default() };
            let old = std::mem::replace(&mut *inner, new);
            // Taking it apart may take milliseconds, for which no request should wait.
            drop(inner);
            drop(old);
        }
    }

    /// Forgets everything.
    pub(super) fn forget(&self) {
        let old = std::mem::take(&mut *self.lock());
        drop(old);
    }

    /// What a batch needs to know: what is known of it, and what must be asked. Under the log's head, after the head was met.
    #[must_use]
    pub fn answer<'a>(&self, units: &'a [Unit]) -> (Answers<'a>, Questions<'a>) {
        let (mut answers, mut questions) = (Answers::default(), Questions::default());
        for unit in units {
            // For each unit anew: requests wait for it. Until the batch is kept nothing here changes but what is forgotten.
            let inner = self.lock();
            let is_covered = inner.covers(unit.as_of);
            for read in &unit.reads {
                match read {
                    Read::Key(key, seen) => match inner.find(key) {
                        Some(held) => answers.versions.extend(held.version().map(|version| (key, version))),
                        None if is_covered => answers.versions.extend(seen.map(|version| (key, version))),
                        None => _ = questions.versions.insert(key),
                    },
                    Read::Range(scan, _) => questions.ranges.push(scan),
                    Read::AtLeast(key, _) => inner.answer_counter(key, &mut answers, &mut questions),
                }
            }
            for write in &unit.writes {
                if let Write::Add { key, .. } = write {
                    inner.answer_counter(key, &mut answers, &mut questions);
                }
            }
            if let Some(reply) = &unit.reply {
                match inner.kept(&reply.key) {
                    // One that was there when it was looked for and not found has been swept away meanwhile.
                    Some(kept) if is_covered && Some(kept) > unit.as_of => _ = answers.replies.insert(&reply.key),
                    Some(_) | None if is_covered => {}
                    Some(_) | None => questions.replies.push(&reply.key),
                }
            }
            for event in &unit.events {
                match inner.last_event(event.tenant) {
                    Some(last) => _ = answers.tenants.insert(event.tenant, last),
                    None => _ = questions.tenants.insert(event.tenant),
                }
                if event.id_chosen {
                    questions.events.push((event.tenant, &event.source, &event.id));
                }
            }
        }
        (answers, questions)
    }

    /// Remembers a batch whose COMMIT has returned. `before` is the head on which it was planned.
    pub(super) fn keep(&self, before: Head, plan: Plan<'_>) {
        let mut inner = self.lock();
        // Somebody else's batch came after it and was met already.
        if inner.head != Some(before) {
            return;
        }
        for (key, value, version) in plan.puts {
            inner.set(key, Held::new(Some(&Versioned { value, version })));
        }
        for key in plan.deletes {
            inner.set(key, Held::Nothing);
        }
        for reply in plan.replies {
            inner.young.bytes += reply.key.principal.len() + reply.key.route.len() + reply.key.key.len() + ENTRY_BYTES;
            inner.young.replies.insert(reply.key.clone(), plan.head.sequence);
        }
        inner.young.bytes += plan.tenants.len() * ENTRY_BYTES;
        inner.young.tenants.extend(plan.tenants);
        inner.head = Some(plan.head);
        let dropped = inner.bound(self.bytes_max);
        drop(inner);
        drop(dropped);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an entry takes beside its texts, roughly.
const ENTRY_BYTES: usize = 160;

impl Inner {
    /// Whether every change since then is known.
    fn covers(&self, as_of: Option<Version>) -> bool {
        let Some(head) = self.head else { return false };
        as_of.is_some_and(|as_of| (self.base..=head.sequence).contains(&as_of))
    }

    fn find(&self, key: &StateKey) -> Option<&Held> {
        self.young.keys.get(key).or_else(|| self.old.keys.get(key))
    }

    fn kept(&self, key: &ReplyKey) -> Option<Version> {
        self.young.replies.get(key).or_else(|| self.old.replies.get(key)).copied()
    }

    fn last_event(&self, tenant: TenantId) -> Option<i64> {
        self.young.tenants.get(&tenant).or_else(|| self.old.tenants.get(&tenant)).copied()
    }

    fn answer_counter<'a>(&self, key: &'a StateKey, answers: &mut Answers<'a>, questions: &mut Questions<'a>) {
        match self.find(key) {
            Some(Held::Nothing) => {}
            Some(Held::Value(found)) => _ = answers.counters.insert(key, (found.value.clone(), found.version)),
            Some(Held::Version(_)) | None => _ = questions.counters.insert(key),
        }
    }

    fn set(&mut self, key: StateKey, held: Held) {
        let value = if let Held::Value(found) = &held { found.value.len() } else { 0 };
        self.young.bytes += key.key.len() + value + ENTRY_BYTES;
        self.young.keys.insert(key, held);
    }

    /// Makes room, where the younger half is full: answers the older one. Everything up to `head` is in one of the two.
    fn bound(&mut self, bytes_max: usize) -> Option<Generation> {
        let head = self.head.filter(|_| self.young.bytes > bytes_max / 2)?;
        let young = std::mem::take(&mut self.young);
        self.base = self.next_base;
        self.next_base = head.sequence;
        Some(std::mem::replace(&mut self.old, young))
    }
}

#[cfg(test)]
mod tests;
