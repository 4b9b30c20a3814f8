//! How many calls of a cell run at once, and who waits.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::queue::{LOOK, Queue, SOON};
use crate::id::TenantId;

/// How many calls of a cell are under way, and how many of them run. A call has a place from its first attempt to its
/// commit, and a slot while its guest runs, so that who waits for a commit keeps nobody from running. A tenant gets three of
/// four at most, so that one that fills the cell leaves room for the others.
#[derive(Debug)]
pub struct Gate {
    all: Room,
    slots_max: u32,
    queue: Arc<Queue>,
    tenants: Mutex<HashMap<Option<TenantId>, Arc<Line>>>,
}

/// The calls of one tenant.
#[derive(Debug)]
struct Line {
    room: Room,
    queue: Queue,
    /// The queue of the whole cell.
    of_cell: Arc<Queue>,
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
    since: Instant,
    _permits: Permits,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.line.of_cell.took(self.since.elapsed());
    }
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

/// Waits for both, in the order of asking.
async fn both(own: &Arc<Semaphore>, cells: &Arc<Semaphore>) -> Result<Permits, Overloaded> {
    let own = Arc::clone(own).acquire_owned().await.map_err(|_| Overloaded)?;
    Ok((own, Arc::clone(cells).acquire_owned().await.map_err(|_| Overloaded)?))
}

/// Calls under way for each slot: one that runs, and some that wait for their commit or run again. They hold memory.
const PLACES_PER_SLOT: u32 = 2;

/// All slots are taken, and the queue is full or the caller's time is up.
#[derive(Debug)]
pub struct Overloaded;

/// Tenants that are remembered before those without calls are forgotten.
const TENANTS_KEPT: usize = 1024;

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
        Self::of(concurrency, SOON)
    }

    fn of(concurrency: u32, soon_least: Duration) -> Self {
        Self {
            all: Room::of(concurrency),
            slots_max: concurrency,
            queue: Arc::new(Queue::new(concurrency, soon_least)),
            tenants: Mutex::default(),
        }
    }

    /// Waits for a place until the deadline.
    pub async fn enter(&self, tenant: Option<TenantId>, deadline: Instant) -> Result<Place, Overloaded> {
        let line = self.line(tenant);
        if let Some(permits) = at_once(&line.room.places, &self.all.places) {
            return Ok(Place { line, since: Instant::now(), _permits: permits });
        }
        let _queued = self.queue.join(false)?;
        let _in_line = line.queue.join(self.queue.stands())?;
        let begun = Instant::now();
        let mut waiting = pin!(both(&line.room.places, &self.all.places));
        let permits = loop {
            let until = deadline.min(Instant::now() + LOOK);
            match tokio::time::timeout_at(until.into(), &mut waiting).await {
                Ok(permits) => break permits?,
                Err(_) if Instant::now() >= deadline || self.is_in_vain(&line, begun.elapsed()) => {
                    return Err(Overloaded);
                }
                Err(_) => {}
            }
        };
        self.queue.moved(begun.elapsed());
        line.queue.moved(begun.elapsed());
        Ok(Place { line: Arc::clone(&line), since: Instant::now(), _permits: permits })
    }

    /// Whether somebody who has waited for so long waits in a queue that stands, and that has more than may wait then.
    fn is_in_vain(&self, line: &Line, waited: Duration) -> bool {
        let standing = self.queue.stands();
        let in_queue = standing && self.queue.is_long();
        let in_line = (line.queue.stands() || standing) && line.queue.is_long();
        waited > self.queue.soon() && (in_queue || in_line)
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
            None => tokio::time::timeout_at(deadline.into(), both(own, cells)).await.map_err(|_| Overloaded)??,
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
        let line = || {
            let (room, of_cell) = (Room::of(share), Arc::clone(&self.queue));
            Arc::new(Line { room, queue: of_cell.part(share), of_cell })
        };
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use uuid::Uuid;

    use super::*;
    use crate::cell::queue::{STANDS_MOST, milliseconds};

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
        assert_eq!((committing.len(), gate.running()), (6, 0), "three of four slots, two places each");
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
        assert_eq!((flooding.len(), full, others_enter), (6, false, true), "the flood waits for its own share");
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

    /// Takes so many places, each for another tenant.
    async fn take(gate: &Gate, count: u32) -> Vec<Place> {
        let mut places = Vec::new();
        for number in 0..count {
            places.push(gate.enter(Some(tenant(number)), Instant::now()).await.unwrap());
        }
        places
    }

    fn tenant(number: u32) -> TenantId {
        TenantId(Uuid::from_u128(u128::from(number)))
    }

    /// A gate of 64 slots whose places are all taken, 96 of them by the first tenant; one call has ended before.
    async fn taken() -> (Gate, Vec<Place>) {
        let gate = Gate::of(64, SOON_HERE);
        drop(take(&gate, 1).await);
        let mut places = take(&gate, 32).await;
        while let Ok(place) = gate.enter(Some(tenant(0)), Instant::now()).await {
            places.push(place);
        }
        assert_eq!(places.len(), 127, "the first tenant has its share");
        places.push(gate.enter(Some(tenant(1)), Instant::now()).await.unwrap());
        (gate, places)
    }

    /// Longer than the machine of a test stands still.
    const SOON_HERE: Duration = Duration::from_millis(400);

    /// Newcomers, from the second tenant on, none of whom gets a place: how many of them are refused at once.
    async fn come(gate: &Gate, count: u32, patience: Duration) -> usize {
        let begun = Instant::now();
        let calls = (1..=count).map(async |number| {
            assert!(gate.enter(Some(tenant(number)), begun + patience).await.is_err());
            begun.elapsed() < SOON_HERE / 3
        });
        let refused = futures_util::future::join_all(calls).await;
        refused.into_iter().filter(|at_once| *at_once).count()
    }

    #[tokio::test]
    async fn a_queue_that_stands_is_short_until_it_is_empty() {
        let (gate, _places) = taken().await;
        let late = async {
            tokio::time::sleep(SOON_HERE * 3 / 2).await;
            let few = gate.queue.waiting.load(Ordering::Relaxed);
            (few, gate.is_full(), come(&gate, 100, SOON_HERE / 2).await)
        };
        // A burst waits. When the queue stands, those are refused who have waited, but for a few; newcomers are at once.
        let (burst, late) = tokio::join!(come(&gate, 200, 2 * SOON_HERE), late);
        assert_eq!((burst, late), (0, (16, true, 100)));
        assert_eq!((gate.is_full(), come(&gate, 100, SOON_HERE / 2).await), (false, 84), "empty, but only just");
        gate.queue.flow().stands_since = Instant::now().checked_sub(2 * STANDS_MOST);
        assert_eq!(come(&gate, 300, SOON_HERE / 2).await, 0, "it has stood for long");
        gate.queue.flow().stands_since = Some(Instant::now());
        tokio::time::sleep(SOON_HERE * 3 / 2).await;
        assert_eq!(come(&gate, 300, SOON_HERE / 2).await, 0, "nobody asked in vain");
    }

    #[tokio::test]
    async fn a_queue_that_stands_is_not_one_tenants() {
        let (gate, _places) = taken().await;
        let flood = async || {
            let until = Instant::now() + 2 * SOON_HERE;
            let calls = (0..100).map(|_| gate.enter(Some(tenant(0)), until));
            futures_util::future::join_all(calls).await
        };
        let other = async {
            tokio::time::sleep(SOON_HERE * 3 / 2).await;
            let flooding = gate.queue.waiting.load(Ordering::Relaxed);
            (flooding, gate.is_full(), come(&gate, 8, SOON_HERE / 2).await)
        };
        let (_, other) = tokio::join!(flood(), other);
        assert_eq!(other, (4, false, 0), "the flood has four, the others wait");
    }

    #[tokio::test]
    async fn who_waits_for_calls_that_take_long_is_patient() {
        let (gate, _places) = taken().await;
        for usual in [milliseconds(SOON_HERE), 0] {
            gate.queue.usual.store(usual, Ordering::Relaxed);
            let late = async {
                tokio::time::sleep(SOON_HERE * 5 / 4).await;
                gate.queue.waiting.load(Ordering::Relaxed)
            };
            let (_, waiting) = tokio::join!(come(&gate, 200, SOON_HERE * 3 / 2), late);
            assert_eq!(waiting, 200, "a call takes {usual} ms");
        }
        for _ in 0..40 {
            gate.queue.took(Duration::ZERO);
        }
        assert_eq!(gate.queue.soon(), SOON_HERE, "what they take now counts more and more");
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
        assert_eq!(refused.iter().filter(|(_, at_once)| *at_once).count(), 40 - 3 - 15);
        drop(running);
        assert!(begin(&gate, flood, Instant::now() + Duration::from_millis(10)).await.is_ok());
    }
}
