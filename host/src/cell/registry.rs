//! From the records of the platform to the snapshot that serves: loads what is active, keeps what is loaded, and swaps.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::{self, StreamExt};
use serde::de::DeserializeOwned;

use super::catalog::{ActiveCell, Canary, CanaryRecord, Catalog, CellRecord};
use super::compiled::Compiler;
use super::counts::Counts;
use super::fault::{Fault, Meters};
use super::gate::Gate;
use super::given::{Given, Vault};
use super::manifest::Manifest;
use super::outside::Outside;
use super::rejection::Reason;
use super::signature::TrustedKeys;
use super::supervisor::{Side, Supervisor, Trial};
use super::version::{CellVersion, VersionRecord, digest_of};
use super::warm::Warm;
use crate::config::Chaos;
use crate::id::TenantId;
use crate::limit;
use crate::state::{Space, StateKey};
use crate::storage::{Storage, StorageError};

/// Versions kept loaded for each cell beside the active one: uploads that wait for their activation.
const LOADED_MAX: usize = 4;

/// Keeps loaded versions, slots and counters between snapshots.
#[derive(Debug, Default)]
pub struct Registry {
    loaded: Mutex<HashMap<String, Vec<Arc<CellVersion>>>>,
    kept: Mutex<HashMap<String, Kept>>,
    /// How often each fault has struck.
    pub faults: Meters,
    /// Who may vouch for a version.
    pub trusted: TrustedKeys,
    /// Compiles, or reads what was compiled before.
    pub compiler: Compiler,
    /// Opens the secrets of cells.
    pub vault: Vault,
    /// What cells reach outside.
    pub outside: Arc<Outside>,
    /// Instances that rest between two calls.
    pub warm: Arc<Warm>,
    /// One refresh at a time: a slow one must not overwrite a newer snapshot.
    pub refreshing: tokio::sync::Mutex<()>,
}

/// What a cell keeps while its versions change.
#[derive(Clone, Debug)]
struct Kept {
    generation: u64,
    gate: Arc<Gate>,
    counts: Arc<Counts>,
    supervisor: Arc<Supervisor>,
    tried: Option<Tried>,
}

/// What a canary keeps: slots of its own, so that a bad one takes none from the others.
#[derive(Clone, Debug)]
struct Tried {
    record: CanaryRecord,
    trial: Arc<Trial>,
    gate: Arc<Gate>,
}

/// The key of a cell's record.
#[must_use]
pub fn cell_key(name: &str) -> StateKey {
    platform().key(format!("cell/{name}"))
}

/// The key of a version's record.
#[must_use]
pub fn version_key(name: &str, version: &str) -> StateKey {
    platform().key(format!("cell-version/{name}/{version}"))
}

/// The key of a component's bytes.
#[must_use]
pub fn component_key(digest: &str) -> StateKey {
    platform().key(format!("component/{digest}"))
}

/// The key of what remains of a deleted cell: the format of the state that its tenants still have.
#[must_use]
pub fn retired_key(name: &str) -> StateKey {
    platform().key(format!("retired-cell/{name}"))
}

/// The key of a trap report: a ring of bounded size for each cell.
#[must_use]
pub fn trap_key(cell: &str, slot: u64) -> StateKey {
    platform().key(format!("trap/{cell}/{slot:04}"))
}

/// Whether this is the key of a trap report.
#[must_use]
pub fn is_trap(key: &StateKey) -> bool {
    key.space == platform() && key.key.starts_with("trap/")
}

/// The platform's records.
#[must_use]
pub fn platform() -> Space {
    Space::kernel(TenantId::PLATFORM)
}

/// Whether a commit that touched this key changes what serves.
#[must_use]
pub fn concerns(key: &StateKey) -> bool {
    ["cell/", "route/", "fault/", "config/", "secret/"].iter().any(|prefix| key.key.starts_with(prefix))
}

impl Registry {
    /// A registry that has loaded nothing yet.
    #[must_use]
    pub fn new(trusted: TrustedKeys, compiler: Compiler, vault: Vault, outside: Outside) -> Self {
        Self { trusted, compiler, vault, outside: Arc::new(outside), ..Self::default() }
    }

    /// Keeps a loaded version, so that its activation is a swap of a pointer. What serves is never the one that makes room.
    pub fn keep(&self, version: Arc<CellVersion>) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let versions = loaded.entry(version.reference.name.clone()).or_default();
        versions.retain(|kept| kept.reference != version.reference);
        if versions.len() >= LOADED_MAX {
            let idle = versions.iter().position(|kept| Arc::strong_count(kept) == 1);
            idle.map(|place| versions.remove(place));
        }
        versions.push(version);
    }

    /// Builds the snapshot from the records. A version that does not load any more is left out and logged: its neighbours
    /// must serve.
    pub async fn snapshot(&self, storage: &Storage, chaos: Chaos) -> Result<Catalog, StorageError> {
        let mut catalog = Catalog {
            outside: Arc::clone(&self.outside),
            warm: Arc::clone(&self.warm),
            // Before anything is read: what a guest keeps in mind may rest on a setting, a secret or a version of before.
            generation: self.warm.renew(),
            ..Catalog::default()
        };
        let records = read_all::<CellRecord>(storage, "cell/").await?;
        self.forget_all_but(&records);
        let mut loading = stream::iter(records)
            .map(|record| self.active_cell(storage, record))
            .buffer_unordered(limit::CELLS_LOADED_AT_ONCE);
        while let Some(cell) = loading.next().await {
            let Some(cell) = cell? else { continue };
            catalog.cells.insert(Arc::clone(&cell.version.name), Arc::new(cell));
        }
        catalog.routes = read_all(storage, "route/").await?;
        let settings = read_all(storage, "config/").await?;
        catalog.given = Arc::new(Given::new(settings, read_all(storage, "secret/").await?, self.vault.clone()));
        if chaos == Chaos::Enabled {
            for live in self.faults.attach(read_all::<Fault>(storage, "fault/").await?) {
                catalog.faults.entry(live.fault.cell.clone()).or_default().push(live);
            }
        }
        Ok(catalog)
    }

    /// Drops what is kept of cells that served and were deleted. A cell that is being uploaded never served yet.
    fn forget_all_but(&self, records: &[CellRecord]) {
        let names: HashSet<&str> = records.iter().map(|record| record.name.as_str()).collect();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, _) in kept.extract_if(|name, _| !names.contains(name.as_str())) {
            loaded.remove(&name);
        }
    }

    /// A cell with its versions loaded; none when it has no active version or cannot be loaded.
    async fn active_cell(&self, storage: &Storage, record: CellRecord) -> Result<Option<ActiveCell>, StorageError> {
        let Some(active) = &record.active else { return Ok(None) };
        let Some(version) = self.stored(storage, &record.name, active).await? else { return Ok(None) };
        let canary = match &record.canary {
            Some(canary) => {
                self.stored(storage, &record.name, &canary.version).await?.map(|version| (canary.clone(), version))
            }
            None => None,
        };
        let kept = self.kept(&record, &version, canary.as_ref());
        let cell = |version, canary, gate, side| ActiveCell {
            version,
            gate,
            counts: Arc::clone(&kept.counts),
            supervisor: Arc::clone(&kept.supervisor),
            quarantine: record.quarantine.clone(),
            canary,
            trial: kept.tried.as_ref().map(|tried| (side, Arc::clone(&tried.trial))),
        };
        let canary = canary.zip(kept.tried.as_ref()).map(|((record, version), tried)| Canary {
            percent: record.percent,
            cell: Arc::new(cell(version, None, Arc::clone(&tried.gate), Side::Canary)),
        });
        Ok(Some(cell(version, canary, Arc::clone(&kept.gate), Side::Active)))
    }

    /// A version of a record, loaded; one that does not load is logged.
    async fn stored(
        &self,
        storage: &Storage,
        name: &str,
        version: &str,
    ) -> Result<Option<Arc<CellVersion>>, StorageError> {
        let Some(record) = read_one::<VersionRecord>(storage, version_key(name, version)).await? else {
            tracing::error!(cell = name, version, "the record of the version is missing");
            return Ok(None);
        };
        match self.version(storage, &record).await? {
            // A signature is over the content: under another name it would still fit.
            Ok(loaded) if *loaded.name != *name || loaded.reference.version != version => {
                tracing::error!(cell = name, version, "the record holds another cell: {:?}", loaded.reference);
                Ok(None)
            }
            Ok(version) => Ok(Some(version)),
            Err(reason) => {
                tracing::error!(cell = name, version, reason, "the cell cannot be loaded");
                Ok(None)
            }
        }
    }

    /// A stored version, loaded; or why it does not load.
    pub async fn version(
        &self,
        storage: &Storage,
        record: &VersionRecord,
    ) -> Result<Result<Arc<CellVersion>, String>, StorageError> {
        if let Err(reason) = self.trusted.check(&record.digest, &record.manifest, record.signature.as_ref()) {
            return Ok(Err(reason.message));
        }
        if let Some(loaded) = self.loaded_version(record) {
            return Ok(Ok(loaded));
        }
        let manifest = match Manifest::parse(&record.manifest) {
            Ok(manifest) => manifest,
            Err(faults) => return Ok(Err(faults.join("; "))),
        };
        if let Some(found) = CellVersion::load_cached(&manifest, &record.digest, &self.compiler).await {
            return Ok(self.keep_loaded(found));
        }
        let Some(bytes) = storage.read(&[component_key(&record.digest)]).await?.pop().flatten() else {
            return Ok(Err("its component is missing".into()));
        };
        // The signature is over the digest, so the digest must be that of these bytes.
        if digest_of(&bytes.value) != record.digest {
            return Ok(Err("its component is not the one that was uploaded: the stored bytes have changed".into()));
        }
        let (wasm, digest) = (bytes.value.to_vec(), record.digest.clone());
        Ok(self.keep_loaded(CellVersion::compile(manifest, wasm, digest, &self.compiler).await))
    }

    /// Keeps what was loaded; puts reasons into one sentence.
    fn keep_loaded(&self, loaded: Result<CellVersion, Vec<Reason>>) -> Result<Arc<CellVersion>, String> {
        match loaded {
            Ok(version) => {
                let version = Arc::new(version);
                self.keep(Arc::clone(&version));
                Ok(version)
            }
            Err(reasons) => Err(reasons.into_iter().map(|reason| reason.message).collect::<Vec<_>>().join("; ")),
        }
    }

    /// By content: the same version number may have been tried with other bytes.
    fn loaded_version(&self, record: &VersionRecord) -> Option<Arc<CellVersion>> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |kept: &&Arc<CellVersion>| {
            kept.reference.version == record.version
                && kept.reference.digest == record.digest
                && kept.manifest.text == record.manifest
        };
        loaded.get(&record.name)?.iter().find(same).cloned()
    }

    /// What the cell keeps: a new gate when its concurrency changed, no strikes after a restart, a new trial for a new canary.
    fn kept(
        &self,
        record: &CellRecord,
        version: &CellVersion,
        canary: Option<&(CanaryRecord, Arc<CellVersion>)>,
    ) -> Kept {
        let concurrency = version.manifest.limits.concurrency;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = kept.entry(record.name.clone()).or_insert_with(|| Kept {
            generation: record.generation,
            gate: Arc::new(Gate::new(concurrency)),
            counts: Arc::default(),
            supervisor: Arc::default(),
            tried: None,
        });
        if kept.gate.slots() != concurrency {
            kept.gate = Arc::new(Gate::new(concurrency));
        }
        if kept.generation != record.generation {
            kept.generation = record.generation;
            kept.supervisor.clear();
        }
        if kept.tried.as_ref().map(|tried| &tried.record) != canary.map(|(record, _)| record) {
            kept.tried = canary.map(|(record, version)| Tried {
                record: record.clone(),
                trial: Arc::default(),
                gate: Arc::new(Gate::new(version.manifest.limits.concurrency)),
            });
        }
        kept.clone()
    }
}

async fn read_one<T: DeserializeOwned>(storage: &Storage, key: StateKey) -> Result<Option<T>, StorageError> {
    // Together with those of other cells that are loaded now.
    let found = storage.read_gathered(std::slice::from_ref(&key)).await?.pop().flatten();
    found.map(|versioned| decode(&key.key, &versioned.value)).transpose()
}

async fn read_all<T: DeserializeOwned>(storage: &Storage, prefix: &str) -> Result<Vec<T>, StorageError> {
    let entries = storage.scan_all(platform().key(prefix)).await?;
    entries.into_iter().map(|entry| decode(&entry.key, &entry.versioned.value)).collect()
}

fn decode<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, StorageError> {
    serde_json::from_slice(bytes)
        .map_err(|cause| StorageError::Corrupt { table: "state", what: format!("record {key}: {cause}") })
}
