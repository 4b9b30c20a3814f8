//! Instances that rest between two calls, for cells whose manifest asks for it (`instance = { warm = N }`): what a guest
//! computes when it starts is then there for its next call.
//!
//! Invariant: a resting instance is taken up again only by the version, the tenant and the generation that left it, and only
//! when the effect of every call of it was kept: what a guest has in memory is never of a call that was dropped or run again.
//! Calls without a tenant get fresh instances. A resting one belongs to no request. How many rest and what they take is
//! bounded; who asks for more starts fresh.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use wasmtime::Store;

use super::store::{CellStore, Tree};
use super::version::CellVersion;
use crate::id::TenantId;
use crate::limit;

/// The resting instances of a kernel.
#[derive(Debug, Default)]
pub struct Warm {
    /// Raised before each new snapshot: what was begun on an older one does not rest.
    generation: AtomicU64,
    /// Whom a resting instance belongs to.
    nobody: OnceLock<Arc<Tree>>,
    resting: Mutex<Resting>,
}

#[derive(Default)]
struct Resting {
    /// By the address of the version, which a resting instance keeps from being given to another, and the tenant.
    instances: HashMap<(usize, TenantId), Vec<Instance>>,
    count: usize,
    bytes: usize,
}

impl fmt::Debug for Resting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resting").field("count", &self.count).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// An instance in its store.
struct Instance {
    store: Store<CellStore>,
    stay: Stay,
    since: Instant,
}

/// What the pool must know of an instance that is out.
#[derive(Clone, Copy, Debug)]
pub struct Stay {
    tenant: TenantId,
    generation: u64,
    calls_left: u32,
    /// Its linear memory and its handles to WASI resources after its first call; none before.
    after_first: Option<Holdings>,
}

/// What a guest holds.
#[derive(Clone, Copy, Debug)]
struct Holdings {
    memory_bytes: usize,
    handles: usize,
}

/// An instance whose call returned, and that belongs to nobody. It may be kept once the effect of that call is.
pub struct Rested {
    store: Store<CellStore>,
    stay: Stay,
}

impl fmt::Debug for Rested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rested").field("stay", &self.stay).finish_non_exhaustive()
    }
}

impl Warm {
    /// The place of an instance that is about to be made; none where the manifest or the call wants a fresh one.
    #[must_use]
    pub fn stay(version: &CellVersion, tenant: Option<TenantId>, generation: u64) -> Option<Stay> {
        let calls_left = version.manifest.limits.instance.warm()?;
        Some(Stay { tenant: tenant?, generation, calls_left, after_first: None })
    }

    /// The instance that came to rest last, with what to know of it.
    pub fn take(&self, version: &Arc<CellVersion>, stay: Stay) -> Option<(Store<CellStore>, Stay)> {
        let mut resting = self.lock();
        let place = (address(version), stay.tenant);
        let instances = resting.instances.get_mut(&place)?;
        let instance = instances.pop();
        if instances.is_empty() {
            resting.instances.remove(&place);
        }
        let instance = instance?;
        resting.forget(&instance);
        drop(resting);
        let current = instance.stay.generation == stay.generation && instance.since.elapsed() < limit::WARM_REST_MAX;
        current.then_some((instance.store, instance.stay))
    }

    /// Takes an instance whose call returned away from its request, if it may have another call.
    pub fn rest(&self, mut store: Store<CellStore>, mut stay: Stay) -> Option<Rested> {
        let nobody = Arc::clone(self.nobody.get_or_init(|| Arc::new(store.data().tree.of_nobody())));
        let (memory_bytes, handles) = (store.data().memory_bytes(), store.data_mut().handles().iter_mut().count());
        stay.calls_left = stay.calls_left.saturating_sub(1);
        let before = *stay.after_first.get_or_insert(Holdings { memory_bytes, handles });
        let has_grown = memory_bytes > before.memory_bytes || handles > before.handles;
        (stay.calls_left > 0 && store.data_mut().rest(nobody) && !has_grown).then_some(Rested { store, stay })
    }

    /// Lets an instance rest, now that the effect of its call is kept and if there is room.
    pub fn keep(&self, version: &Arc<CellVersion>, rested: Rested) {
        let Rested { store, stay } = rested;
        let instance = Instance { store, stay, since: Instant::now() };
        let bytes = instance.bytes();
        let mut resting = self.lock();
        let fits = resting.count < limit::WARM_INSTANCES_MAX
            && resting.bytes.saturating_add(bytes) <= limit::WARM_BYTES_MAX
            && stay.generation == self.generation.load(Ordering::Acquire);
        if fits {
            resting.count += 1;
            resting.bytes += bytes;
            resting.instances.entry((address(version), stay.tenant)).or_default().push(instance);
        } else {
            // Its memory is given back without the lock.
            drop(resting);
        }
    }

    /// Ends those that have rested too long; nobody needs them, and their versions may be out of use.
    pub fn sweep(&self, now: Instant) {
        let mut resting = self.lock();
        let mut ended = Vec::new();
        resting.instances.retain(|_, instances| {
            let too_long = |it: &mut Instance| now.saturating_duration_since(it.since) >= limit::WARM_REST_MAX;
            ended.extend(instances.extract_if(.., too_long));
            !instances.is_empty()
        });
        for instance in &ended {
            resting.forget(instance);
        }
        drop(resting);
        drop(ended);
    }

    /// Ends all of them, and those that are out when they come back. Answers the generation that begins.
    pub fn renew(&self) -> u64 {
        let generation = self.generation.fetch_add(1, Ordering::AcqRel).wrapping_add(1);
        let ended = std::mem::take(&mut *self.lock());
        drop(ended);
        generation
    }

    /// How many instances of a version rest.
    #[must_use]
    pub fn count(&self, version: &Arc<CellVersion>) -> usize {
        let resting = self.lock();
        let of_it = |((of, _), instances): (&(usize, TenantId), &Vec<Instance>)| {
            if *of == address(version) { instances.len() } else { 0 }
        };
        resting.instances.iter().map(of_it).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Resting> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Instance {
    fn bytes(&self) -> usize {
        self.stay.after_first.map_or(0, |holdings| holdings.memory_bytes)
    }
}

impl Resting {
    fn forget(&mut self, instance: &Instance) {
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(instance.bytes());
    }
}

fn address(version: &Arc<CellVersion>) -> usize {
    Arc::as_ptr(version) as usize
}
