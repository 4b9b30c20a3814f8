//! What one call has staged: writes, events and audit entries, before they are merged into its caller's or dropped.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::StateKey;
use super::unit::Write;
use super::work::WorkError;
use crate::audit::AuditEntry;
use crate::event::Event;
use crate::storage::plan::parse_counter;

/// The staged changes of one call.
#[derive(Debug, Default)]
pub(super) struct Layer {
    pub(super) writes: BTreeMap<StateKey, Staged>,
    pub(super) events: Vec<Event>,
    pub(super) audit: Vec<AuditEntry>,
}

/// A staged change of a key.
#[derive(Clone, Debug)]
pub(super) enum Staged {
    Put(Bytes),
    Delete,
    /// `floor` is the least stored value on which every bound of the merged additions holds.
    Add {
        delta: i64,
        floor: Option<i64>,
    },
}

impl Layer {
    /// Puts `staged` on top of what this layer holds for the key.
    pub(super) fn stage(&mut self, key: StateKey, staged: Staged) -> Result<(), WorkError> {
        let merged = match (self.writes.get(&key), staged) {
            (Some(Staged::Add { delta: below, floor: below_floor }), Staged::Add { delta, floor }) => {
                let delta = below.checked_add(delta).ok_or_else(|| not_a_counter(&key))?;
                Staged::Add { delta, floor: (*below_floor).max(floor) }
            }
            (_, other) => other,
        };
        self.writes.insert(key, merged);
        Ok(())
    }
}

impl Staged {
    pub(super) fn into_write(self, key: StateKey) -> Write {
        match self {
            Self::Put(value) => Write::Put(key, value),
            Self::Delete => Write::Delete(key),
            Self::Add { delta, floor } => {
                Write::Add { key, delta, min: floor.map(|floor| floor.saturating_add(delta)) }
            }
        }
    }
}

pub(super) fn sum(key: &StateKey, value: Option<&Bytes>, delta: i64) -> Result<i64, WorkError> {
    let value = match value {
        Some(value) => parse_counter(value).ok_or_else(|| not_a_counter(key))?,
        None => 0,
    };
    value.checked_add(delta).ok_or_else(|| not_a_counter(key))
}

pub(super) fn counter_bytes(value: i64) -> Bytes {
    Bytes::from(value.to_string())
}

pub(super) fn not_a_counter(key: &StateKey) -> WorkError {
    WorkError::NotACounter(key.key.clone())
}
