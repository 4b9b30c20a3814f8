//! A unit of work while its request runs. Reads go to the storage and are remembered with their versions; writes, events
//! and audit entries are only staged. Calls between cells nest as layers: a callee's layer merges into its caller's or is
//! dropped, but what it read is kept, because the answer rests on it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::layer::{Layer, Staged, counter_bytes, not_a_counter, sum};
use super::unit::{Read, Unit};
use super::{Entry, Scan, StateKey, Version, Versioned};
use crate::audit::AuditEntry;
use crate::event::Event;
use crate::limit;
use crate::storage::plan::parse_counter;
use crate::storage::snapshot::Snapshot;
use crate::storage::{Storage, StorageError};
use bytes::Bytes;

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
    read_bytes_max: usize,
    inner: Mutex<Inner>,
}

/// How deep the layers were before one was begun.
#[derive(Clone, Copy, Debug)]
pub struct Depth(usize);

#[derive(Debug, Default)]
struct Inner {
    reads: HashMap<StateKey, Option<Versioned>>,
    ranges: Vec<(Scan, Vec<(String, Version)>)>,
    /// Stored values on which every bound that was answered with true holds, whatever became of its layer.
    promises: HashMap<StateKey, i64>,
    read_bytes: usize,
    /// Ids that this unit of work was given: no key that names one can be stored yet.
    issued: HashSet<String>,
    /// Whether a key was taken for absent without asking. It is checked at the end like all that was read.
    assumed: bool,
    /// Statements that were sent to read. A single one is a snapshot by itself.
    statements: u32,
    /// Counters whose bound failed at an earlier commit: from now on they are answered against the fresh value.
    decided: HashSet<StateKey>,
    /// Never empty: the first layer is the request itself.
    base: Layer,
    nested: Vec<Layer>,
}

/// What the staged writes say of a key, additions aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Definite<'a> {
    Present(&'a Bytes),
    Absent,
    /// Nothing: its value is the stored one.
    AsStored,
}

impl Work {
    /// An empty unit of work of the kernel's own.
    #[must_use]
    pub fn new(storage: Storage) -> Self {
        Self { storage, snapshot: None, read_bytes_max: usize::MAX, inner: Mutex::default() }
    }

    /// An empty unit of work of cells, which may read so many bytes. `decided` are the counters whose bound failed in
    /// earlier attempts.
    #[must_use]
    pub fn bounded(storage: Storage, decided: HashSet<StateKey>, read_bytes_max: usize) -> Self {
        Self { storage, snapshot: None, read_bytes_max, inner: Mutex::new(Inner { decided, ..Inner::default() }) }
    }

    /// Another one on the same storage, which nobody will finish.
    #[must_use]
    pub fn of_nobody(&self) -> Self {
        Self::new(self.storage.clone())
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
    /// asking the database, which is asked at commit.
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
            unknown
        };
        if !unknown.is_empty() {
            let found = self.fetch(&unknown).await?;
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

impl Inner {
    fn layers(&self) -> impl DoubleEndedIterator<Item = &Layer> {
        std::iter::once(&self.base).chain(&self.nested)
    }

    fn top(&mut self) -> &mut Layer {
        self.nested.last_mut().unwrap_or(&mut self.base)
    }

    fn count_statement(&mut self, bytes: usize, bytes_max: usize) -> Result<(), WorkError> {
        self.statements = self.statements.saturating_add(1);
        self.read_bytes = self.read_bytes.saturating_add(bytes);
        if self.read_bytes > bytes_max {
            return Err(WorkError::LimitExceeded("read_bytes"));
        }
        self.count_reads()
    }

    fn count_reads(&self) -> Result<(), WorkError> {
        let ranges: usize = self.ranges.iter().map(|(_, seen)| seen.len()).sum();
        if self.reads.len() + ranges > limit::READS_MAX { Err(WorkError::LimitExceeded("reads")) } else { Ok(()) }
    }

    /// The newest definite value among the staged ones, and what was added above it.
    fn staged(&self, key: &StateKey) -> (Definite<'_>, Option<i64>) {
        let mut added = None;
        for staged in self.layers().rev().filter_map(|layer| layer.writes.get(key)) {
            match staged {
                Staged::Put(value) => return (Definite::Present(value), added),
                Staged::Delete => return (Definite::Absent, added),
                Staged::Add { delta, .. } => added = Some(added.unwrap_or(0_i64).saturating_add(*delta)),
            }
        }
        (Definite::AsStored, added)
    }

    fn pending_delta(&self, key: &StateKey) -> i64 {
        self.staged(key).1.unwrap_or(0)
    }

    fn unknown(&self, keys: &[StateKey]) -> Vec<StateKey> {
        let mut unknown: Vec<StateKey> = keys
            .iter()
            // No key holds U+0000, which PostgreSQL would refuse to look for.
            .filter(|key| {
                self.staged(key).0 == Definite::AsStored && !self.reads.contains_key(key) && !key.key.contains('\0')
            })
            .cloned()
            .collect();
        unknown.sort();
        unknown.dedup();
        unknown
    }

    /// Takes out the keys that cannot be stored, because they name an id that was made here.
    fn assume(&mut self, unknown: &mut Vec<StateKey>) -> Result<(), WorkError> {
        if self.issued.is_empty() {
            return Ok(());
        }
        let Self { issued, reads: known, assumed, .. } = self;
        unknown.retain(|key| {
            let new = key.key.split('/').any(|part| issued.contains(part));
            if new {
                known.insert(key.clone(), None);
                *assumed = true;
            }
            !new
        });
        self.count_reads()
    }

    fn value(&self, key: &StateKey) -> Result<Option<Bytes>, WorkError> {
        let (definite, added) = self.staged(key);
        let below = match definite {
            Definite::Present(value) => Some(value.clone()),
            Definite::Absent => None,
            Definite::AsStored => self.reads.get(key).and_then(Option::as_ref).map(|versioned| versioned.value.clone()),
        };
        match added {
            None => Ok(below),
            Some(delta) => sum(key, below.as_ref(), delta).map(|sum| Some(counter_bytes(sum))),
        }
    }

    /// The value of a counter when it does not depend on what is stored.
    fn counter_without_base(&self, key: &StateKey) -> Result<Option<i64>, WorkError> {
        let (definite, added) = self.staged(key);
        let value = match definite {
            Definite::AsStored => return Ok(None),
            Definite::Present(value) => Some(value),
            Definite::Absent => None,
        };
        sum(key, value, added.unwrap_or(0)).map(Some)
    }

    fn add(&mut self, key: StateKey, delta: i64, min: Option<i64>) -> Result<bool, WorkError> {
        if let Some(value) = self.counter_without_base(&key)? {
            let sum = value.checked_add(delta).ok_or_else(|| not_a_counter(&key))?;
            if min.is_some_and(|min| sum < min) {
                return Ok(false);
            }
            self.stage(key, Staged::Put(counter_bytes(sum)))?;
            return Ok(true);
        }
        let above = self.pending_delta(&key).checked_add(delta).ok_or_else(|| not_a_counter(&key))?;
        let floor = min.map(|min| min.saturating_sub(above));
        if let Some(floor) = floor {
            let promised = self.promises.entry(key.clone()).or_insert(floor);
            *promised = floor.max(*promised);
        }
        self.stage(key, Staged::Add { delta, floor })?;
        Ok(true)
    }

    fn stage(&mut self, key: StateKey, staged: Staged) -> Result<(), WorkError> {
        self.top().stage(key, staged)
    }

    fn merge(&mut self, layer: Layer) -> Result<(), WorkError> {
        let top = self.top();
        top.events.extend(layer.events);
        top.audit.extend(layer.audit);
        layer.writes.into_iter().try_for_each(|(key, staged)| top.stage(key, staged))
    }

    fn deletes_within(&self, scan: &Scan) -> u32 {
        let deletes = self
            .layers()
            .flat_map(|layer| &layer.writes)
            .filter(|(key, staged)| matches!(staged, Staged::Delete) && scan.covers(key))
            .count();
        u32::try_from(deletes).unwrap_or(u32::MAX)
    }

    fn overlay(&self, scan: &Scan, found: Vec<Entry>) -> Result<Vec<(String, Bytes)>, WorkError> {
        let mut entries: BTreeMap<String, Bytes> =
            found.into_iter().map(|entry| (entry.key, entry.versioned.value)).collect();
        let touched: HashSet<&StateKey> =
            self.layers().flat_map(|layer| layer.writes.keys()).filter(|key| scan.covers(key)).collect();
        for key in touched {
            let (definite, added) = self.staged(key);
            let below = match definite {
                Definite::Present(value) => Some(value),
                Definite::Absent => None,
                Definite::AsStored => entries.get(&key.key),
            };
            let value = match added {
                None => below.cloned(),
                Some(delta) => Some(counter_bytes(sum(key, below, delta)?)),
            };
            match value {
                Some(value) => _ = entries.insert(key.key.clone(), value),
                None => _ = entries.remove(&key.key),
            }
        }
        Ok(entries.into_iter().take(scan.limit as usize).collect())
    }

    fn all_reads(&self) -> Vec<Read> {
        let keys = self
            .reads
            .iter()
            .map(|(key, found)| Read::Key(key.clone(), found.as_ref().map(|versioned| versioned.version)));
        let ranges = self.ranges.iter().map(|(scan, seen)| Read::Range(scan.clone(), seen.clone()));
        // A promise that its own addition carries is checked with it.
        let carried = |key: &StateKey, floor: i64| matches!(self.base.writes.get(key), Some(Staged::Add { floor: Some(own), .. }) if *own >= floor);
        let promises = self.promises.iter().filter(|(key, floor)| !carried(key, **floor));
        keys.chain(ranges).chain(promises.map(|(key, floor)| Read::AtLeast(key.clone(), *floor))).collect()
    }
}
