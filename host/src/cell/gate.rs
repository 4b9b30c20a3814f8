//! How many calls of a cell run at once, how they ended, and what the cell logged.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::outcome::Outcome;
use crate::id::{CorrelationId, TenantId};
use crate::limit;

/// How many calls of a cell are under way, and how many of them run. A call has a place from its first attempt to its
/// commit, and a slot while its guest runs, so that who waits for a commit keeps nobody from running. A tenant gets three of
/// four at most, so that one that fills the cell leaves room for the others.
#[derive(Debug)]
pub struct Gate {
    all: Room,
    slots_max: u32,
    queue: Queue,
    tenants: Mutex<HashMap<Option<TenantId>, Arc<Line>>>,
}

/// The calls of one tenant.
#[derive(Debug)]
struct Line {
    room: Room,
    queue: Queue,
}

/// Those who wait for a place.
#[derive(Debug)]
struct Queue {
    slots: u32,
    begun: Instant,
    waiting: AtomicU32,
    /// When it was last empty, or somebody got a place soon; in milliseconds since `begun`.
    moved_at: AtomicU64,
    /// Whether it stands: more comes than is done, until it is empty again.
    stands: AtomicBool,
}

#[derive(Debug)]
struct Room {
    places: Arc<Semaphore>,
    slots: Arc<Semaphore>,
}

/// The right to be under way, until it is dropped.
#[derive(Debug)]
pub struct Place {
    line: Arc<Line>,
    _permits: Permits,
}

/// The right to run, until it is dropped.
#[derive(Debug)]
pub struct Slot {
    _permits: Permits,
}

/// One of the tenant's and one of the cell's.
type Permits = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// Both, when they are free. A permit that somebody waits for is never free: it goes from hand to hand.
fn at_once(own: &Arc<Semaphore>, cells: &Arc<Semaphore>) -> Option<Permits> {
    let free = |room: &Arc<Semaphore>| Arc::clone(room).try_acquire_owned().ok();
    Some((free(own)?, free(cells)?))
}

/// Waits for both until the deadline, in the order of asking.
async fn both(own: &Arc<Semaphore>, cells: &Arc<Semaphore>, deadline: Instant) -> Result<Permits, Overloaded> {
    let wait = async {
        let own = Arc::clone(own).acquire_owned().await.ok()?;
        Some((own, Arc::clone(cells).acquire_owned().await.ok()?))
    };
    tokio::time::timeout_at(deadline.into(), wait).await.ok().flatten().ok_or(Overloaded)
}

/// What a cell did since the kernel started. Outlives versions and changes of its concurrency.
#[derive(Debug, Default)]
pub struct Counts {
    requests: AtomicU64,
    traps: AtomicU64,
    fuel_exhausted: AtomicU64,
    timeouts: AtomicU64,
    restarts: AtomicU64,
    lines: Mutex<VecDeque<LogLine>>,
}

/// A line that a cell logged.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// When its request began.
    pub at: Timestamp,
    /// `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// The line.
    pub message: String,
    /// The request.
    pub correlation_id: CorrelationId,
    /// The version that ran.
    pub version: String,
}

/// Calls of a cell since the kernel started.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Counters {
    /// All calls.
    pub requests: u64,
    /// Calls that trapped.
    pub traps: u64,
    /// Calls that used up their fuel.
    pub fuel_exhausted: u64,
    /// Calls that used up their time.
    pub timeouts: u64,
    /// Instances that were thrown away because their call failed, and restarts by an operator.
    pub restarts: u64,
}

/// Calls under way for each slot: one that runs, and some that wait for their commit or run again. They hold memory.
const PLACES_PER_SLOT: u32 = 4;

/// Calls that may wait for each slot before they have a place; more are refused at once instead of piling up.
const QUEUE_PER_SLOT: u32 = 5;

/// A queue in which nobody got a place within this time stands: more comes than is done. It then holds what is done in a
/// moment, so that who is admitted does not wait in vain, until it is empty (the idea of `CoDel`, RFC 8289).
const SOON: Duration = Duration::from_millis(100);

/// All slots are taken, and the queue is full or the caller's time is up.
#[derive(Debug)]
pub struct Overloaded;

/// Tenants that are remembered before those without calls are forgotten.
const TENANTS_KEPT: usize = 1024;

/// A place in the queue, given back also when the waiting call is dropped.
struct Queued<'a>(&'a AtomicU32);

impl Queue {
    fn of(slots: u32) -> Self {
        let (waiting, moved_at) = (AtomicU32::new(0), AtomicU64::new(0));
        Self { slots, begun: Instant::now(), waiting, moved_at, stands: AtomicBool::new(false) }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How many may wait.
    fn most(&self) -> u32 {
        let soon = u64::try_from(SOON.as_millis()).unwrap_or(u64::MAX);
        if self.now().saturating_sub(self.moved_at.load(Ordering::Relaxed)) > soon {
            self.stands.store(true, Ordering::Relaxed);
        }
        if self.stands.load(Ordering::Relaxed) {
            self.slots.div_ceil(2).max(QUEUE_PER_SLOT)
        } else {
            self.slots.saturating_mul(QUEUE_PER_SLOT)
        }
    }

    fn is_full(&self) -> bool {
        // On a calm day nobody waits, and no clock is read.
        let waiting = self.waiting.load(Ordering::Relaxed);
        waiting >= QUEUE_PER_SLOT && waiting >= self.most()
    }

    fn join(&self) -> Result<Queued<'_>, Overloaded> {
        // Given back by the drop when there was no room.
        let place = Queued(&self.waiting);
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        if before == 0 {
            self.stands.store(false, Ordering::Relaxed);
            self.moved_at.store(self.now(), Ordering::Relaxed);
        }
        if before < self.most() { Ok(place) } else { Err(Overloaded) }
    }

    /// Somebody got a place after waiting for so long.
    fn moved(&self, after: Duration) {
        if after <= SOON {
            self.moved_at.store(self.now(), Ordering::Relaxed);
        }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one tenant may have of so many slots.
fn share(slots: u32) -> u32 {
    slots - slots / 4
}

impl Room {
    fn of(slots: u32) -> Self {
        let semaphore = |permits: u32| Arc::new(Semaphore::new(permits as usize));
        Self { places: semaphore(slots.saturating_mul(PLACES_PER_SLOT)), slots: semaphore(slots) }
    }
}

impl Gate {
    /// A gate of so many slots.
    #[must_use]
    pub fn new(concurrency: u32) -> Self {
        Self {
            all: Room::of(concurrency),
            slots_max: concurrency,
            queue: Queue::of(concurrency),
            tenants: Mutex::default(),
        }
    }

    /// Waits for a place until the deadline.
    pub async fn enter(&self, tenant: Option<TenantId>, deadline: Instant) -> Result<Place, Overloaded> {
        let line = self.line(tenant);
        if let Some(permits) = at_once(&line.room.places, &self.all.places) {
            return Ok(Place { line, _permits: permits });
        }
        let _queued = self.queue.join()?;
        let _in_line = line.queue.join()?;
        let begun = Instant::now();
        let permits = both(&line.room.places, &self.all.places, deadline).await?;
        self.queue.moved(begun.elapsed());
        line.queue.moved(begun.elapsed());
        Ok(Place { line: Arc::clone(&line), _permits: permits })
    }

    /// Whether a call that comes now would be refused, whoever's it is: no place is free and the queue is full. Those who
    /// wait because their own tenant has its share take nothing from the others.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.all.places.available_permits() == 0 && self.queue.is_full()
    }

    /// Waits for a slot until the deadline, in the order of asking.
    pub async fn run(&self, place: &Place, deadline: Instant) -> Result<Slot, Overloaded> {
        let (own, cells) = (&place.line.room.slots, &self.all.slots);
        let permits = match at_once(own, cells) {
            Some(permits) => permits,
            None => both(own, cells, deadline).await?,
        };
        Ok(Slot { _permits: permits })
    }

    fn line(&self, tenant: Option<TenantId>) -> Arc<Line> {
        let share = share(self.slots_max);
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if tenants.len() >= TENANTS_KEPT && !tenants.contains_key(&tenant) {
            // Who waits or is under way holds its line.
            tenants.retain(|_, line| Arc::strong_count(line) > 1);
        }
        let line = || Arc::new(Line { room: Room::of(share), queue: Queue::of(share) });
        Arc::clone(tenants.entry(tenant).or_insert_with(line))
    }

    /// Calls that may run at once.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slots_max
    }

    /// Calls that run now.
    #[must_use]
    pub fn running(&self) -> u32 {
        let free = u32::try_from(self.all.slots.available_permits()).unwrap_or(u32::MAX);
        self.slots_max.saturating_sub(free)
    }
}

impl Counts {
    /// Counts a call by how it ended; none for one that returned.
    pub fn count(&self, outcome: Option<&Outcome>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let Some(outcome) = outcome else { return };
        self.restarts.fetch_add(1, Ordering::Relaxed);
        let counter = match outcome {
            Outcome::Trapped(_) => &self.traps,
            Outcome::FuelExhausted => &self.fuel_exhausted,
            Outcome::TimedOut => &self.timeouts,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Keeps a line, in place of the oldest when there are many.
    pub fn log(&self, line: LogLine) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= limit::LOG_LINES_KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The lines that are kept, newest first.
    #[must_use]
    pub fn lines(&self, most: usize) -> Vec<LogLine> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().take(most).cloned().collect()
    }

    /// The counts so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            requests: self.requests.load(Ordering::Relaxed),
            traps: self.traps.load(Ordering::Relaxed),
            fuel_exhausted: self.fuel_exhausted.load(Ordering::Relaxed),
            timeouts: self.timeouts.load(Ordering::Relaxed),
            restarts: self.restarts.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    /// A place and a slot.
    async fn begin(gate: &Gate, tenant: Option<TenantId>, deadline: Instant) -> Result<(Place, Slot), Overloaded> {
        let place = gate.enter(tenant, deadline).await?;
        let slot = gate.run(&place, deadline).await?;
        Ok((place, slot))
    }

    #[tokio::test]
    async fn who_waits_for_a_commit_lets_others_run_but_not_for_ever() {
        let gate = Gate::new(4);
        let soon = || Instant::now() + Duration::from_millis(10);
        let mut committing = Vec::new();
        while let Ok((place, slot)) = begin(&gate, None, soon()).await {
            drop(slot);
            committing.push(place);
        }
        assert_eq!((committing.len(), gate.running()), (12, 0), "three of four slots, four places each");
        let again = gate.run(&committing[0], soon()).await;
        assert!(again.is_ok(), "who has a place runs again without a queue");
        committing.pop();
        assert!(begin(&gate, None, soon()).await.is_ok());
    }

    #[tokio::test]
    async fn a_tenant_leaves_slots_for_the_others() {
        let gate = Gate::new(8);
        let [flood, calm] = [1, 2].map(|number| Some(TenantId(Uuid::from_u128(number))));
        let soon = || Instant::now() + Duration::from_millis(10);
        let mut running = Vec::new();
        while let Ok(slot) = begin(&gate, flood, soon()).await {
            running.push(slot);
        }
        assert_eq!((running.len(), gate.running()), (6, 6));
        let others = [begin(&gate, calm, soon()).await, begin(&gate, None, soon()).await];
        assert!(others.iter().all(Result::is_ok));
        assert!(begin(&gate, calm, soon()).await.is_err(), "now all slots are taken");
        running.pop();
        assert!(begin(&gate, calm, soon()).await.is_ok());
        assert!(begin(&gate, flood, soon()).await.is_ok());
    }

    #[tokio::test]
    async fn a_gate_is_full_only_when_it_is_for_everybody() {
        let gate = Gate::new(4);
        let [flood, calm] = [1, 2].map(|number| Some(TenantId(Uuid::from_u128(number))));
        let until = Instant::now() + Duration::from_millis(200);
        let mut flooding = Vec::new();
        while let Ok(place) = gate.enter(flood, Instant::now()).await {
            flooding.push(place);
        }
        let wait = async |tenant, count: usize| {
            let waiting = (0..count).map(|_| gate.enter(tenant, until));
            futures_util::future::join_all(waiting).await
        };
        let look = async {
            tokio::task::yield_now().await;
            let full_for_all = gate.is_full();
            let others: Vec<_> = [gate.enter(calm, until).await, gate.enter(None, until).await].into_iter().collect();
            (full_for_all, others.iter().all(Result::is_ok), others)
        };
        let (_, (full, others_enter, _others)) = tokio::join!(wait(flood, 40), look);
        assert_eq!((flooding.len(), full, others_enter), (12, false, true), "the flood waits for its own share");
        let mut taken = Vec::new();
        while let Ok(place) = gate.enter(None, Instant::now()).await {
            taken.push(place);
        }
        let until = Instant::now() + Duration::from_millis(100);
        let waiting = (0..20).map(|number| {
            let tenant = Some(TenantId(Uuid::from_u128(100 + number)));
            gate.enter(tenant, until)
        });
        let look = async {
            tokio::task::yield_now().await;
            gate.is_full()
        };
        let (_, full) = tokio::join!(futures_util::future::join_all(waiting), look);
        assert!(full, "no place, and nowhere to wait");
        assert!(!gate.is_full(), "who waited has gone");
    }

    #[tokio::test]
    async fn a_queue_that_stands_is_short_until_it_is_empty() {
        let gate = Gate::new(64);
        let mut places = Vec::new();
        let tenant = |number: u32| Some(TenantId(Uuid::from_u128(u128::from(number))));
        while places.len() < 256 {
            let number = u32::try_from(places.len()).unwrap();
            places.push(gate.enter(tenant(number), Instant::now()).await.unwrap());
        }
        let gate = &gate;
        // Answers how many of so many newcomers are refused at once.
        let come = async |count: u32, patience: Duration| {
            let until = Instant::now() + patience;
            let calls = (0..count).map(async |number| {
                let begun = Instant::now();
                gate.enter(tenant(number), until).await.is_err() && begun.elapsed() < patience / 2
            });
            futures_util::future::join_all(calls).await.into_iter().filter(|refused| *refused).count()
        };
        let late = async {
            tokio::time::sleep(SOON * 3 / 2).await;
            (gate.is_full(), come(100, SOON).await)
        };
        let (first, (full, second)) = tokio::join!(come(300, SOON * 4), late);
        assert_eq!((first, full, second), (0, true, 100), "a burst waits; when it stands, nobody joins it");
        assert_eq!((gate.is_full(), come(300, SOON).await), (false, 0), "it was empty");
    }

    #[tokio::test]
    async fn a_queue_is_bounded_for_each_tenant() {
        let gate = Gate::new(4);
        let flood = Some(TenantId(Uuid::from_u128(1)));
        let until = Instant::now() + Duration::from_millis(100);
        let running =
            [begin(&gate, flood, until).await, begin(&gate, flood, until).await, begin(&gate, flood, until).await];
        let waiting: Vec<_> = (0..40).map(|_| begin(&gate, flood, until)).collect();
        let begun = Instant::now();
        let refused = futures_util::future::join_all(waiting.into_iter().map(async |waiting| {
            let outcome = waiting.await;
            (outcome.is_err(), begun.elapsed() < Duration::from_millis(50))
        }));
        let refused = refused.await;
        assert!(refused.iter().all(|(refused, _)| *refused));
        assert_eq!(refused.iter().filter(|(_, at_once)| *at_once).count(), 40 - 24);
        drop(running);
        assert!(begin(&gate, flood, Instant::now() + Duration::from_millis(10)).await.is_ok());
    }
}
