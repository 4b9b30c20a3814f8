//! A unit of work while its request runs. Reads go to the storage and are remembered with their versions; writes, events
//! and audit entries are only staged. Calls between cells nest as layers: a callee's layer merges into its caller's or is
//! dropped, but what it read is kept, because the answer rests on it.

mod inner;

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use inner::Inner;

use super::layer::{Layer, Staged, not_a_counter};
use super::unit::Unit;
use super::{Entry, Scan, StateKey, Version, Versioned};
use crate::audit::AuditEntry;
use crate::event::Event;
use crate::storage::plan::parse_counter;
use crate::storage::snapshot::Snapshot;
use crate::storage::{Storage, StorageError};

/// Why an operation on a unit of work was refused.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// An addition met something that is no integer, or left the range.
    #[error("the value of {0} is not a counter")]
    NotACounter(String),
    /// The unit of work has grown past this limit.
    #[error("the unit of work exceeds its limit of {0}")]
    LimitExceeded(&'static str),
    /// A record of the kernel cannot be read.
    #[error("the record {0} is corrupt")]
    CorruptRecord(String),
}

impl WorkError {
    /// The same failure for another of those who asked together.
    #[must_use]
    pub fn shared(&self) -> Self {
        match self {
            Self::Storage(error) => Self::Storage(error.shared()),
            Self::NotACounter(key) => Self::NotACounter(key.clone()),
            Self::LimitExceeded(limit) => Self::LimitExceeded(limit),
            Self::CorruptRecord(record) => Self::CorruptRecord(record.clone()),
        }
    }
}

/// What becomes of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It joins the layer below.
    Keep,
    /// Its writes, events and notes are dropped.
    Drop,
}

/// Reads and staged changes of one request.
#[derive(Debug)]
pub struct Work {
    storage: Storage,
    snapshot: Option<Snapshot>,
    /// Every read sees this commit.
    as_of: Option<Version>,
    /// Whether what the process knows already is asked before the database.
    recalls: bool,
    read_bytes_max: usize,
    inner: Mutex<Inner>,
}

/// How deep the layers were before one was begun.
#[derive(Clone, Copy, Debug)]
pub struct Depth(usize);

impl Work {
    /// An empty unit of work of the kernel's own.
    #[must_use]
    pub fn new(storage: Storage) -> Self {
        let as_of = storage.as_of();
        Self::empty(storage).begun(as_of)
    }

    fn empty(storage: Storage) -> Self {
        let inner = Mutex::default();
        Self { storage, snapshot: None, as_of: None, recalls: false, read_bytes_max: usize::MAX, inner }
    }

    /// An empty unit of work of cells, which may read so many bytes; [`Work::begun`] says since when. `decided` are the
    /// counters whose bound failed in earlier attempts.
    #[must_use]
    pub fn bounded(storage: Storage, decided: HashSet<StateKey>, read_bytes_max: usize) -> Self {
        let inner = Mutex::new(Inner { decided, ..Inner::default() });
        Self { read_bytes_max, inner, ..Self::empty(storage) }
    }

    /// The same, begun when this was the newest commit: what was looked for since then counts as read.
    #[must_use]
    pub fn begun(self, as_of: Option<Version>) -> Self {
        Self { as_of, ..self }
    }

    /// The same, given values that the process knows already without asking the database. They are checked at the end, also
    /// when nothing is written.
    #[must_use]
    pub fn recalling(self) -> Self {
        Self { recalls: true, ..self }
    }

    /// Another one on the same storage, which nobody will finish.
    #[must_use]
    pub fn of_nobody(&self) -> Self {
        Self::empty(self.storage.clone())
    }

    /// Reads everything from one state of the database from now on. What it only reads then belongs together; what it
    /// writes is checked at commit as ever.
    pub async fn pinned(mut self) -> Result<Self, WorkError> {
        self.snapshot = Some(self.storage.snapshot().await?);
        Ok(self)
    }

    async fn fetch(&self, keys: &[StateKey]) -> Result<Vec<Option<Versioned>>, StorageError> {
        match &self.snapshot {
            Some(snapshot) => snapshot.read(keys).await,
            None => self.storage.read_gathered(keys).await,
        }
    }

    async fn fetch_range(&self, scan: &Scan) -> Result<Vec<Entry>, StorageError> {
        match &self.snapshot {
            Some(snapshot) => snapshot.scan(scan).await,
            None => self.storage.scan(scan).await,
        }
    }

    /// Remembers an id that was made for this unit of work. A key with it between its slashes is taken for absent without
    /// asking the database. At commit it counts as read: whoever stored it since then makes the unit conflict.
    pub fn issue(&self, id: &str) {
        self.lock().issued.insert(id.to_owned());
    }

    /// What was told to the outside may be stored by others from now on, under the ids that were made here, too.
    pub fn assume_nothing(&self) {
        self.lock().issued.clear();
    }

    /// The value of one key, own staged writes included.
    pub async fn read(&self, key: &StateKey) -> Result<Option<Bytes>, WorkError> {
        let mut values = self.read_many(std::slice::from_ref(key)).await?;
        Ok(values.pop().flatten())
    }

    /// The values of several keys in their order; one statement at most.
    pub async fn read_many(&self, keys: &[StateKey]) -> Result<Vec<Option<Bytes>>, WorkError> {
        let unknown = {
            let mut inner = self.lock();
            let mut unknown = inner.unknown(keys);
            if self.snapshot.is_none() {
                inner.assume(&mut unknown)?;
            }
            if self.recalls && !unknown.is_empty() {
                let known = self.storage.recall(&unknown);
                inner.remember(&mut unknown, known, self.read_bytes_max)?;
            }
            unknown
        };
        if !unknown.is_empty() {
            let as_of = if self.recalls { self.storage.as_of() } else { None };
            let found = self.fetch(&unknown).await?;
            if as_of.is_some() {
                self.storage.learn(as_of, &unknown, &found);
            }
            let bytes = found.iter().flatten().map(|versioned| versioned.value.len()).sum();
            let mut inner = self.lock();
            inner.count_statement(bytes, self.read_bytes_max)?;
            inner.reads.extend(unknown.into_iter().zip(found));
        }
        let inner = self.lock();
        keys.iter().map(|key| inner.value(key)).collect()
    }

    /// The entries of a range, own staged writes included.
    pub async fn list(&self, scan: &Scan) -> Result<Vec<(String, Bytes)>, WorkError> {
        if scan.prefix.contains('\0') || scan.after.as_ref().is_some_and(|after| after.contains('\0')) {
            return Ok(Vec::new());
        }
        let hidden = self.lock().deletes_within(scan);
        let wider = Scan { limit: scan.limit.saturating_add(hidden), ..scan.clone() };
        let found = self.fetch_range(&wider).await?;
        let bytes = found.iter().map(|entry| entry.key.len() + entry.versioned.value.len()).sum();
        let mut inner = self.lock();
        inner.count_statement(bytes, self.read_bytes_max)?;
        let seen = found.iter().map(|entry| (entry.key.clone(), entry.versioned.version)).collect();
        inner.ranges.push((wider, seen));
        inner.overlay(scan, found)
    }

    /// Stages a value.
    pub fn put(&self, key: StateKey, value: Bytes) -> Result<(), WorkError> {
        self.lock().stage(key, Staged::Put(value))
    }

    /// Stages a removal.
    pub fn delete(&self, key: StateKey) -> Result<(), WorkError> {
        self.lock().stage(key, Staged::Delete)
    }

    /// Adds to a counter; never conflicts with other additions.
    pub async fn add(&self, key: StateKey, delta: i64) -> Result<(), WorkError> {
        if self.lock().decided.contains(&key) {
            self.decide(&key, delta, i64::MIN).await?;
        }
        self.lock().add(key, delta, None).map(|_| ())
    }

    /// Adds to a counter that must not fall below `min`; answers whether the bound holds. True is a promise that is checked
    /// at the end; after it failed there once, the answer is given against the fresh value.
    pub async fn add_bounded(&self, key: StateKey, delta: i64, min: i64) -> Result<bool, WorkError> {
        if self.lock().decided.contains(&key) && !self.decide(&key, delta, min).await? {
            return Ok(false);
        }
        self.lock().add(key, delta, Some(min))
    }

    /// Whether an addition to the counter as it is now keeps to its bound. The read is remembered only when it does not:
    /// then the answer rests on it. An earlier read of the key stays as it was, so that both cannot be right.
    async fn decide(&self, key: &StateKey, delta: i64, min: i64) -> Result<bool, WorkError> {
        if self.lock().counter_without_base(key)?.is_some() {
            return Ok(true);
        }
        let found = self.fetch(std::slice::from_ref(key)).await?.pop().flatten();
        let mut inner = self.lock();
        let stored = found.as_ref().map_or(Some(0), |versioned| parse_counter(&versioned.value));
        let sum = stored.and_then(|stored| stored.checked_add(inner.pending_delta(key))?.checked_add(delta));
        if sum.is_some_and(|sum| sum >= min) {
            return Ok(true);
        }
        inner.count_statement(0, self.read_bytes_max)?;
        inner.reads.entry(key.clone()).or_insert(found);
        if sum.is_some() { Ok(false) } else { Err(not_a_counter(key)) }
    }

    /// Stages an event.
    pub fn publish(&self, event: Event) {
        self.lock().top().events.push(event);
    }

    /// Stages an audit entry.
    pub fn note(&self, entry: AuditEntry) {
        self.lock().top().audit.push(entry);
    }

    /// Begins a layer for a nested call.
    pub fn begin(&self) -> Depth {
        let mut inner = self.lock();
        let depth = Depth(inner.nested.len());
        inner.nested.push(Layer::default());
        depth
    }

    /// Ends the layer that was begun at this depth. Layers above it belong to calls that were cut off; they are dropped.
    pub fn end(&self, depth: Depth, effect: Effect) -> Result<(), WorkError> {
        let mut inner = self.lock();
        inner.nested.truncate(depth.0 + 1);
        match (inner.nested.pop(), effect) {
            (Some(layer), Effect::Keep) => inner.merge(layer),
            (Some(_), Effect::Drop) | (None, _) => Ok(()),
        }
    }

    /// Drops everything that was staged; what was read is kept.
    pub fn discard(&self) {
        let mut inner = self.lock();
        inner.nested.clear();
        inner.base = Layer::default();
    }

    /// Whether nothing is staged.
    #[must_use]
    pub fn stages_nothing(&self) -> bool {
        self.lock().layers().all(|layer| layer.writes.is_empty() && layer.events.is_empty() && layer.audit.is_empty())
    }

    /// Gives back what [`Self::pinned`] holds; nothing more can be read.
    pub async fn unpin(&self) {
        if let Some(snapshot) = &self.snapshot {
            snapshot.end().await;
        }
    }

    /// Whether everything that was read is still so. A single statement is a snapshot and needs no question.
    pub async fn still_valid(&self) -> Result<bool, WorkError> {
        let reads = {
            let inner = self.lock();
            if inner.promises.is_empty() && !inner.assumed && (inner.statements <= 1 || self.snapshot.is_some()) {
                return Ok(true);
            }
            inner.all_reads()
        };
        Ok(self.storage.validate(&reads).await?)
    }

    /// The counters whose bound was answered with true.
    #[must_use]
    pub fn promises(&self) -> Vec<StateKey> {
        self.lock().promises.keys().cloned().collect()
    }

    /// The finished unit, leaving this one empty. Layers that were not ended are dropped.
    #[must_use]
    pub fn finish(&self) -> Unit {
        let mut inner = self.lock();
        let reads = inner.all_reads();
        // Only their versions matter from here on; while many wait for a commit, the values would be the host's memory.
        inner.reads.values_mut().flatten().for_each(|found| found.value = Bytes::new());
        inner.nested.clear();
        let base = std::mem::take(&mut inner.base);
        Unit {
            reads,
            as_of: self.as_of,
            writes: base.writes.into_iter().map(|(key, staged)| staged.into_write(key)).collect(),
            events: base.events,
            audit: base.audit,
            reply: None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
