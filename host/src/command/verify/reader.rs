//! Reads a tenant's records and the events about them, in pages and in batches.

use std::collections::{HashMap, VecDeque};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::report::{Stop, Violation, claim};
use crate::id::TenantId;
use crate::limit;
use crate::state::{Entry, Scan, Space, StateKey, Version, Versioned};
use crate::storage::Storage;
use crate::storage::whole::RawEvent;

/// The state keys of the ledger.
pub(super) const LEDGER: &str = "ledger";
/// The state keys of the payment hub.
pub(super) const HUB: &str = "payment-hub";
/// The state keys of the processor.
pub(super) const PROCESSOR: &str = "processor";

/// One tenant of the database.
pub(super) struct Reader<'a> {
    pub(super) storage: &'a Storage,
    pub(super) tenant: TenantId,
}

/// A stored record.
pub(super) struct Found<T> {
    /// What follows the prefix in its key.
    pub(super) name: String,
    pub(super) version: Version,
    pub(super) json: Value,
    pub(super) record: T,
}

impl Reader<'_> {
    pub(super) fn claim(&self, holds: bool, otherwise: impl FnOnce() -> (String, String)) -> Result<(), Stop> {
        claim(holds, self.tenant, otherwise)
    }

    pub(super) fn violation(&self, place: impl Into<String>, problem: impl Into<String>) -> Stop {
        Violation::new(Some(self.tenant), place, problem).into()
    }

    fn key(&self, space: &str, key: String) -> StateKey {
        Space { tenant: self.tenant, name: space.into() }.key(key)
    }

    /// The records of keys, in their order.
    pub(super) async fn read(&self, space: &str, keys: Vec<String>) -> Result<Vec<Option<Versioned>>, Stop> {
        let keys: Vec<StateKey> = keys.into_iter().map(|key| self.key(space, key)).collect();
        let mut found = Vec::with_capacity(keys.len());
        for keys in keys.chunks(limit::STATE_PAGE_MAX as usize) {
            found.extend(self.storage.read(keys).await?);
        }
        Ok(found)
    }

    /// The records at `prefix` with these names, by name; a name without a record is absent.
    pub(super) async fn known<T: DeserializeOwned>(
        &self,
        space: &str,
        prefix: &str,
        names: impl IntoIterator<Item = &str>,
    ) -> Result<HashMap<String, Found<T>>, Stop> {
        let names: Vec<&str> = names.into_iter().collect();
        let found = self.read(space, names.iter().map(|name| format!("{prefix}{name}")).collect()).await?;
        let mut known = HashMap::with_capacity(names.len());
        for (name, value) in names.into_iter().zip(found) {
            if let Some(Versioned { value, version }) = value {
                known.insert(name.to_owned(), self.parse(space, prefix, name, &value, version)?);
            }
        }
        Ok(known)
    }

    pub(super) fn parse<T: DeserializeOwned>(
        &self,
        space: &str,
        prefix: &str,
        name: &str,
        value: &[u8],
        version: Version,
    ) -> Result<Found<T>, Stop> {
        let wrong = |cause: serde_json::Error| {
            self.violation(format!("record {prefix}{name} of {space}"), format!("expected a record, found {cause}"))
        };
        let json: Value = serde_json::from_slice(value).map_err(wrong)?;
        let record = T::deserialize(&json).map_err(wrong)?;
        Ok(Found { name: name.to_owned(), version, json, record })
    }

    /// The records under a prefix, from the first.
    pub(super) fn all(&self, space: &'static str, prefix: &'static str) -> Pages<'_> {
        let scan = Scan {
            space: Space { tenant: self.tenant, name: space.into() },
            prefix: prefix.to_owned(),
            after: None,
            limit: limit::VERIFY_PAGE,
        };
        Pages { reader: self, space, prefix, scan, ready: VecDeque::new(), ended: false }
    }

    /// A cell's events about these subjects, by subject and in order.
    pub(super) async fn events(
        &self,
        cell: &str,
        subjects: Vec<String>,
    ) -> Result<HashMap<String, Vec<RawEvent>>, Stop> {
        let source = format!("/cells/{cell}");
        let mut about: HashMap<String, Vec<RawEvent>> = HashMap::new();
        for subjects in subjects.chunks(limit::STATE_PAGE_MAX as usize) {
            for event in self.storage.events_about(self.tenant, subjects).await? {
                if let (true, Some(subject)) = (event.2 == source, &event.4) {
                    about.entry(subject.clone()).or_default().push(event);
                }
            }
        }
        for events in about.values_mut() {
            events.sort_by_key(|event| event.0);
        }
        Ok(about)
    }

    /// Exactly one event of a type must be about a record, in its commit and with its text.
    pub(super) fn announced<T>(
        &self,
        found: &Found<T>,
        place: &str,
        kind: &str,
        events: Option<&Vec<RawEvent>>,
    ) -> Result<(), Stop> {
        let fitting: Vec<&RawEvent> = events.into_iter().flatten().filter(|event| event.3 == kind).collect();
        let [event] = fitting.as_slice() else {
            let problem = format!("expected one event {kind} about it, found {}", fitting.len());
            return Err(self.violation(place, problem));
        };
        self.claim(event.7 == found.version, || {
            let (sequence, commit, version) = (event.0, event.7, found.version);
            (
                place.to_owned(),
                format!("expected its event in its commit {version}, found event {sequence} in {commit}"),
            )
        })?;
        self.claim(serde_json::from_str(&event.5).ok().as_ref() == Some(&found.json), || {
            (place.to_owned(), format!("expected event {} to carry it, found another text there", event.0))
        })
    }
}

/// Records in the order of their keys.
pub(super) struct Pages<'a> {
    reader: &'a Reader<'a>,
    space: &'static str,
    prefix: &'static str,
    scan: Scan,
    ready: VecDeque<Entry>,
    ended: bool,
}

impl Pages<'_> {
    async fn fill(&mut self) -> Result<(), Stop> {
        if self.ready.is_empty() && !self.ended {
            let page = self.reader.storage.scan(&self.scan).await?;
            self.ended = page.len() < self.scan.limit as usize;
            self.scan.after = page.last().map(|entry| entry.key.clone());
            self.ready = page.into();
        }
        Ok(())
    }

    /// The next records, parsed; none at the end.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Vec<Found<T>>, Stop> {
        let page = self.next_raw().await?;
        let parse = |(name, value): (String, Versioned)| {
            self.reader.parse(self.space, self.prefix, &name, &value.value, value.version)
        };
        page.into_iter().map(parse).collect()
    }

    /// The next names with their values.
    pub(super) async fn next_raw(&mut self) -> Result<Vec<(String, Versioned)>, Stop> {
        self.fill().await?;
        let prefix = self.prefix;
        let name = |entry: Entry| (entry.key.strip_prefix(prefix).unwrap_or_default().to_owned(), entry.versioned);
        Ok(std::mem::take(&mut self.ready).into_iter().map(name).collect())
    }

    /// The next record if its name is up to a bound.
    pub(super) async fn next_until<T: DeserializeOwned>(&mut self, bound: &str) -> Result<Option<Found<T>>, Stop> {
        self.fill().await?;
        let inside = |entry: &mut Entry| entry.key.strip_prefix(self.prefix).is_some_and(|name| name <= bound);
        let Some(entry) = self.ready.pop_front_if(inside) else { return Ok(None) };
        let name = entry.key.strip_prefix(self.prefix).unwrap_or_default();
        let Versioned { value, version } = &entry.versioned;
        self.reader.parse(self.space, self.prefix, name, value, *version).map(Some)
    }
}
