//! Instances that rest between two calls, for cells whose manifest asks for it (`instance = { warm = N }`): what a guest
//! computes when it starts is then there for its next call.
//!
//! Invariant: a resting instance is taken up again only by the version, the tenant and the generation that left it, and only
//! when every call of it returned. Calls without a tenant get fresh instances. It holds nothing of the request that it
//! answered last. How many rest and what they take is bounded; who asks for more starts fresh.

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
    /// Raised by whoever wants every instance to be fresh: what was taken before is not taken back.
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
    /// Its linear memory after its first call; none before.
    memory_bytes: Option<usize>,
}

impl Warm {
    /// The place of an instance that is about to be made; none where the manifest or the call wants a fresh one.
    #[must_use]
    pub fn stay(&self, version: &CellVersion, tenant: Option<TenantId>) -> Option<Stay> {
        let calls_left = version.manifest.limits.instance.warm()?;
        let generation = self.generation.load(Ordering::Acquire);
        Some(Stay { tenant: tenant?, generation, calls_left, memory_bytes: None })
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

    /// Lets an instance rest whose call returned, if it may have another one and there is room.
    pub fn keep(&self, version: &Arc<CellVersion>, mut store: Store<CellStore>, mut stay: Stay) {
        let nobody = Arc::clone(self.nobody.get_or_init(|| Arc::new(store.data().tree.of_nobody())));
        let grown_to = store.data().memory_bytes();
        stay.calls_left = stay.calls_left.saturating_sub(1);
        let has_grown = stay.memory_bytes.is_some_and(|before| grown_to > before);
        if stay.calls_left == 0 || has_grown || !store.data_mut().rest(nobody) {
            return;
        }
        stay.memory_bytes = Some(grown_to);
        let instance = Instance { store, stay, since: Instant::now() };
        let mut resting = self.lock();
        let fits = resting.count < limit::WARM_INSTANCES_MAX
            && resting.bytes.saturating_add(grown_to) <= limit::WARM_BYTES_MAX
            && stay.generation == self.generation.load(Ordering::Acquire);
        if fits {
            resting.count += 1;
            resting.bytes += grown_to;
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

    /// Ends all of them, and those that are out when they come back.
    pub fn clear(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        let ended = std::mem::take(&mut *self.lock());
        drop(ended);
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

impl Resting {
    fn forget(&mut self, instance: &Instance) {
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(instance.stay.memory_bytes.unwrap_or(0));
    }
}

fn address(version: &Arc<CellVersion>) -> usize {
    Arc::as_ptr(version) as usize
}
