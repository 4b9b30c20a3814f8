//! How many calls of a cell run at once, and who waits.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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

/// Those who wait for a place.
#[derive(Debug)]
struct Queue {
    /// How many may wait, and how many when it stands.
    most: u32,
    most_standing: u32,
    waiting: AtomicU32,
    flow: Mutex<Flow>,
    /// How long a call of the cell is under way, in milliseconds; 0 when none has ended.
    usual: Arc<AtomicU64>,
}

/// Whether a queue moves or stands.
#[derive(Debug)]
struct Flow {
    /// When somebody last found no place.
    asked_at: Instant,
    /// When the queue was last empty, or somebody got a place soon.
    moved_at: Instant,
    stands_since: Option<Instant>,
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

/// Calls that may wait for each slot before they have a place; more are refused at once instead of piling up.
const QUEUE_PER_SLOT: u32 = 5;

/// Calls that may wait in a queue that stands: the cell's, and a tenant's part of it.
const STANDING_QUEUE: u32 = 16;
const STANDING_LINE: u32 = 4;

/// A queue in which nobody got a place soon stands: more comes than is done. Who has waited for longer is then refused, and
/// hardly anybody may wait behind those who are under way (the idea of `CoDel`, RFC 8289). Soon is twice what a call usually
/// takes, so that who is served waits for three times as long at most; and no less than this.
const SOON: Duration = Duration::from_millis(100);

/// A queue no longer stands when nobody asked in vain for as long as is soon, and after this in any case: clients that ask
/// again as soon as they are refused would otherwise keep it standing, even those that it could serve.
const STANDS_MOST: Duration = Duration::from_secs(4);

/// All slots are taken, and the queue is full or the caller's time is up.
#[derive(Debug)]
pub struct Overloaded;

/// Tenants that are remembered before those without calls are forgotten.
const TENANTS_KEPT: usize = 1024;

/// A place in the queue, given back also when the waiting call is dropped.
struct Queued<'a>(&'a AtomicU32);

impl Queue {
    fn of(slots: u32, most_standing: u32, usual: Arc<AtomicU64>) -> Self {
        let now = Instant::now();
        Self {
            most: slots.saturating_mul(QUEUE_PER_SLOT).max(most_standing),
            most_standing,
            waiting: AtomicU32::new(0),
            flow: Mutex::new(Flow { asked_at: now, moved_at: now, stands_since: None }),
            usual,
        }
    }

    /// How long somebody waits who gets a place soon. Before a call has ended, nobody knows.
    fn soon(&self) -> Duration {
        match self.usual.load(Ordering::Relaxed) {
            0 => Duration::MAX,
            usual => SOON.max(Duration::from_millis(usual.saturating_mul(2))),
        }
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stands(&self) -> bool {
        let (soon, now, mut flow) = (self.soon(), Instant::now(), self.flow());
        if flow.stands_since.is_some_and(|since| now.saturating_duration_since(since) > STANDS_MOST) {
            (flow.stands_since, flow.moved_at) = (None, now);
        } else if flow.stands_since.is_none() && now.saturating_duration_since(flow.moved_at) > soon {
            flow.stands_since = Some(now);
        }
        flow.stands_since.is_some()
    }

    /// A call of the cell is over that was under way for so long.
    fn took(&self, time: Duration) {
        let time = milliseconds(time).max(1);
        // An average of the newest ones; two at once may count as one.
        let usual = match self.usual.load(Ordering::Relaxed) {
            0 => time,
            usual => usual.saturating_mul(7).saturating_add(time).div_ceil(8),
        };
        self.usual.store(usual, Ordering::Relaxed);
    }

    /// How many may wait.
    fn most(&self) -> u32 {
        if self.stands() { self.most_standing } else { self.most }
    }

    fn is_full(&self) -> bool {
        // On a calm day nobody waits, and no clock is read.
        let waiting = self.waiting.load(Ordering::Relaxed);
        waiting >= self.most_standing && waiting >= self.most()
    }

    fn join(&self) -> Result<Queued<'_>, Overloaded> {
        // Given back by the drop when there was no room.
        let place = Queued(&self.waiting);
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let (soon, now, mut flow) = (self.soon(), Instant::now(), self.flow());
        if before == 0 {
            flow.moved_at = now;
            // It is empty for a moment whenever a commit ends many calls at once.
            flow.stands_since = flow.stands_since.filter(|_| now.saturating_duration_since(flow.asked_at) <= soon);
        }
        flow.asked_at = now;
        drop(flow);
        if before < self.most() { Ok(place) } else { Err(Overloaded) }
    }

    /// Somebody got a place after waiting for so long.
    fn moved(&self, after: Duration) {
        if after <= self.soon() {
            self.flow().moved_at = Instant::now();
        }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
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
            queue: Arc::new(Queue::of(concurrency, STANDING_QUEUE, Arc::default())),
            tenants: Mutex::default(),
        }
    }

    /// Waits for a place until the deadline.
    pub async fn enter(&self, tenant: Option<TenantId>, deadline: Instant) -> Result<Place, Overloaded> {
        let line = self.line(tenant);
        if let Some(permits) = at_once(&line.room.places, &self.all.places) {
            return Ok(Place { line, since: Instant::now(), _permits: permits });
        }
        let _queued = self.queue.join()?;
        let _in_line = line.queue.join()?;
        let begun = Instant::now();
        let mut waiting = pin!(both(&line.room.places, &self.all.places));
        let permits = loop {
            let soon = Instant::now().checked_add(self.queue.soon());
            let until = soon.map_or(deadline, |soon| soon.min(deadline));
            match tokio::time::timeout_at(until.into(), &mut waiting).await {
                Ok(permits) => break permits?,
                Err(_) if Instant::now() >= deadline || self.queue.stands() || line.queue.stands() => {
                    return Err(Overloaded);
                }
                Err(_) => {}
            }
        };
        self.queue.moved(begun.elapsed());
        line.queue.moved(begun.elapsed());
        Ok(Place { line: Arc::clone(&line), since: Instant::now(), _permits: permits })
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
            Arc::new(Line { room, queue: Queue::of(share, STANDING_LINE, Arc::clone(&of_cell.usual)), of_cell })
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

    #[tokio::test]
    async fn a_queue_that_stands_is_short_until_it_is_empty() {
        let gate = Gate::new(64);
        drop(take(&gate, 1).await);
        let _places = take(&gate, 128).await;
        let gate = &gate;
        // Newcomers, none of whom gets a place: answers how many of them are refused at once, and when the last one is.
        let come = async |count: u32| {
            let begun = Instant::now();
            let calls = (0..count).map(async |number| {
                assert!(gate.enter(Some(tenant(number)), begun + 10 * SOON).await.is_err());
                begun.elapsed() < SOON / 4
            });
            let refused = futures_util::future::join_all(calls).await;
            (refused.into_iter().filter(|at_once| *at_once).count(), begun.elapsed() < 5 * SOON)
        };
        let later = async |part: u32, count: u32| {
            tokio::time::sleep(SOON * part / 10).await;
            (gate.is_full(), come(count).await)
        };
        // A burst waits. When the queue stands, those are refused who have waited, and newcomers are at once.
        let (burst, second, third) = tokio::join!(come(200), later(6, 40), later(13, 100));
        assert_eq!((burst, second, third), ((0, true), (false, (0, true)), (true, (100, true))));
        assert_eq!((gate.is_full(), come(100).await), (false, (84, true)), "empty, but only just");
        tokio::time::sleep(2 * SOON).await;
        assert_eq!((gate.is_full(), come(300).await), (false, (0, true)), "nobody asked in vain");
        gate.queue.flow().stands_since = Instant::now().checked_sub(2 * STANDS_MOST);
        assert_eq!(come(300).await, (0, true), "it has stood for long");
    }

    #[tokio::test]
    async fn who_waits_for_calls_that_take_long_is_patient() {
        let gate = Gate::new(1);
        let mut places = take(&gate, 2).await;
        let later = async |places: &mut Vec<Place>| {
            tokio::time::sleep(3 * SOON).await;
            places.pop();
        };
        let wait = || gate.enter(Some(tenant(3)), Instant::now() + 10 * SOON);
        let (waited, ()) = tokio::join!(wait(), later(&mut places));
        places.push(waited.expect("nobody knows yet how long one takes"));
        gate.queue.usual.store(milliseconds(2 * SOON), Ordering::Relaxed);
        let (waited, ()) = tokio::join!(wait(), later(&mut places));
        places.push(waited.expect("it takes so long"));
        for _ in 0..20 {
            gate.queue.took(Duration::ZERO);
        }
        let (waited, ()) = tokio::join!(wait(), later(&mut places));
        assert!(waited.is_err(), "it is short now");
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
