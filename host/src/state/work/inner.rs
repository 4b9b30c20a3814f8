//! What a unit of work holds while its request runs, behind one lock: what was read, what is staged in layers, what was
//! promised, and what a key holds by all that.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;

use super::WorkError;
use crate::limit;
use crate::state::layer::{Layer, Staged, counter_bytes, not_a_counter, sum};
use crate::state::unit::Read;
use crate::state::{Entry, Scan, StateKey, Version, Versioned};
use crate::storage::known::Recalled;

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) reads: HashMap<StateKey, Option<Versioned>>,
    pub(super) ranges: Vec<(Scan, Vec<(String, Version)>)>,
    /// Stored values on which every bound that was answered with true holds, whatever became of its layer.
    pub(super) promises: HashMap<StateKey, i64>,
    pub(super) read_bytes: usize,
    /// Ids that this unit of work was given: no key that names one can be stored yet.
    pub(super) issued: HashSet<String>,
    /// Whether a key was taken for absent, or for what the process knows, without asking. It is checked at the end like all
    /// that was read.
    pub(super) assumed: bool,
    /// Statements that were sent to read. A single one is a snapshot by itself.
    pub(super) statements: u32,
    /// Counters whose bound failed at an earlier commit: from now on they are answered against the fresh value.
    pub(super) decided: HashSet<StateKey>,
    /// Never empty: the first layer is the request itself.
    pub(super) base: Layer,
    pub(super) nested: Vec<Layer>,
}

/// What the staged writes say of a key, additions aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Definite<'a> {
    Present(&'a Bytes),
    Absent,
    /// Nothing: its value is the stored one.
    AsStored,
}

impl Inner {
    pub(super) fn layers(&self) -> impl DoubleEndedIterator<Item = &Layer> {
        std::iter::once(&self.base).chain(&self.nested)
    }

    pub(super) fn top(&mut self) -> &mut Layer {
        self.nested.last_mut().unwrap_or(&mut self.base)
    }

    pub(super) fn count_statement(&mut self, bytes: usize, bytes_max: usize) -> Result<(), WorkError> {
        self.statements = self.statements.saturating_add(1);
        self.count_bytes(bytes, bytes_max)
    }

    fn count_bytes(&mut self, bytes: usize, bytes_max: usize) -> Result<(), WorkError> {
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

    pub(super) fn pending_delta(&self, key: &StateKey) -> i64 {
        self.staged(key).1.unwrap_or(0)
    }

    pub(super) fn unknown(&self, keys: &[StateKey]) -> Vec<StateKey> {
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

    /// Takes out the keys whose value is known.
    pub(super) fn remember(
        &mut self,
        unknown: &mut Vec<StateKey>,
        known: Vec<Option<Recalled>>,
        bytes_max: usize,
    ) -> Result<(), WorkError> {
        let (mut known, mut bytes) = (known.into_iter(), 0);
        unknown.retain(|key| {
            let Some(Recalled(found)) = known.next().flatten() else { return true };
            self.assumed = true;
            bytes += found.as_ref().map_or(0, |found| found.value.len());
            self.reads.insert(key.clone(), found);
            false
        });
        self.count_bytes(bytes, bytes_max)
    }

    /// Takes out the keys that cannot be stored, because they name an id that was made here.
    pub(super) fn assume(&mut self, unknown: &mut Vec<StateKey>) -> Result<(), WorkError> {
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

    pub(super) fn value(&self, key: &StateKey) -> Result<Option<Bytes>, WorkError> {
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
    pub(super) fn counter_without_base(&self, key: &StateKey) -> Result<Option<i64>, WorkError> {
        let (definite, added) = self.staged(key);
        let value = match definite {
            Definite::AsStored => return Ok(None),
            Definite::Present(value) => Some(value),
            Definite::Absent => None,
        };
        sum(key, value, added.unwrap_or(0)).map(Some)
    }

    pub(super) fn add(&mut self, key: StateKey, delta: i64, min: Option<i64>) -> Result<bool, WorkError> {
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

    pub(super) fn stage(&mut self, key: StateKey, staged: Staged) -> Result<(), WorkError> {
        self.top().stage(key, staged)
    }

    pub(super) fn merge(&mut self, layer: Layer) -> Result<(), WorkError> {
        let top = self.top();
        top.events.extend(layer.events);
        top.audit.extend(layer.audit);
        layer.writes.into_iter().try_for_each(|(key, staged)| top.stage(key, staged))
    }

    pub(super) fn deletes_within(&self, scan: &Scan) -> u32 {
        let deletes = self
            .layers()
            .flat_map(|layer| &layer.writes)
            .filter(|(key, staged)| matches!(staged, Staged::Delete) && scan.covers(key))
            .count();
        u32::try_from(deletes).unwrap_or(u32::MAX)
    }

    pub(super) fn overlay(&self, scan: &Scan, found: Vec<Entry>) -> Result<Vec<(String, Bytes)>, WorkError> {
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

    pub(super) fn all_reads(&self) -> Vec<Read> {
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
