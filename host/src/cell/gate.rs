//! How many calls of a cell run at once, and who waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use super::queue::{Bounds, Queue, Whose};
use crate::id::TenantId;

/// How many calls of a cell are under way, and how many of them run. A call has a place from its first attempt to its
/// commit, and a slot while its guest runs, so that who waits for a commit keeps nobody from running. A tenant gets three of
/// four at most, so that one that fills the cell leaves room for the others.
#[derive(Debug)]
pub struct Gate {
    places: Arc<Room>,
    slots: Arc<Room>,
    slots_max: u32,
}

/// The right to be under way, until it is dropped.
#[derive(Debug)]
pub struct Place(Taken);

/// The right to run, until it is dropped.
#[derive(Debug)]
pub struct Slot {
    _taken: Taken,
}

/// All slots are taken, and the queue was full or the caller's time is up.
#[derive(Debug)]
pub struct Overloaded;

/// Calls under way for each slot: one that runs, and one that waits for its commit or runs again. They hold memory.
const PLACES_PER_SLOT: u32 = 2;

/// Calls that may wait for each slot before they have a place.
const QUEUE_PER_SLOT: u32 = 3;

/// Slots for each call that may wait in a short queue.
const SLOTS_PER_SHORT_QUEUE: u32 = 4;

/// Calls that may wait in any queue.
const QUEUE_LEAST: u32 = 5;

/// Places, and those who wait for them.
#[derive(Debug)]
struct Room {
    queue: Mutex<Queue<oneshot::Sender<Taken>>>,
    /// What the queue says, without its lock.
    is_short: AtomicBool,
}

/// A place of a room, until it is dropped.
#[derive(Debug)]
struct Taken {
    room: Arc<Room>,
    whose: Whose,
}

/// Somebody who waits, until he is dropped.
struct Waiting<'a> {
    room: &'a Arc<Room>,
    whose: Whose,
    ticket: u64,
}

impl Gate {
    /// A gate of so many slots.
    #[must_use]
    pub fn new(slots: u32) -> Self {
        let share = slots - slots / 4;
        let each = |places: u32, waiting: u32| Bounds {
            places: slots.saturating_mul(places),
            share: share.saturating_mul(places),
            waiting: waiting.max(QUEUE_LEAST),
        };
        let calm = each(PLACES_PER_SLOT, slots.saturating_mul(QUEUE_PER_SLOT));
        // Fewer under way, so that each of them takes less time.
        let short = each(1, slots / SLOTS_PER_SHORT_QUEUE);
        // Who has a place may wait for a slot.
        let running = each(1, u32::MAX);
        Self { places: Room::of(calm, short), slots: Room::of(running, running), slots_max: slots }
    }

    /// Waits for a place until the deadline.
    pub async fn enter(&self, tenant: Option<TenantId>, deadline: Instant) -> Result<Place, Overloaded> {
        Ok(Place(self.places.take(tenant, deadline).await?))
    }

    /// Waits for a slot until the deadline.
    pub async fn run(&self, place: &Place, deadline: Instant) -> Result<Slot, Overloaded> {
        Ok(Slot { _taken: self.slots.take(place.0.whose, deadline).await? })
    }

    /// Whether more came than can be done, just now.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.places.is_short.load(Ordering::Relaxed)
    }

    /// Whether a call of that tenant that comes now is refused.
    #[must_use]
    pub fn refuses(&self, tenant: Option<TenantId>) -> bool {
        let mut queue = self.places.queue();
        let refused = queue.refuses(tenant, Instant::now());
        self.places.tell(&queue);
        refused
    }

    /// Calls that may run at once.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slots_max
    }

    /// Calls that run now.
    #[must_use]
    pub fn running(&self) -> u32 {
        self.slots.queue().taken()
    }
}

impl Room {
    fn of(calm: Bounds, short: Bounds) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::new(Queue::new(calm, short)), is_short: AtomicBool::new(false) })
    }

    fn queue(&self) -> MutexGuard<'_, Queue<oneshot::Sender<Taken>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those who do not lock it how the queue is now.
    fn tell(&self, queue: &Queue<oneshot::Sender<Taken>>) {
        if self.is_short.load(Ordering::Relaxed) != queue.is_short() {
            self.is_short.store(queue.is_short(), Ordering::Relaxed);
        }
    }

    fn taken(self: &Arc<Self>, whose: Whose) -> Taken {
        Taken { room: Arc::clone(self), whose }
    }

    async fn take(self: &Arc<Self>, whose: Whose, deadline: Instant) -> Result<Taken, Overloaded> {
        let (waiting, given) = {
            let mut queue = self.queue();
            if queue.take(whose) {
                return Ok(self.taken(whose));
            }
            let now = Instant::now();
            // Who has no time to wait drives nobody away.
            if now >= deadline {
                return Err(Overloaded);
            }
            let (waiter, given) = oneshot::channel();
            let (ticket, gone) = queue.wait(whose, waiter, now);
            self.tell(&queue);
            drop(queue);
            // Who has to go is woken without the lock.
            drop(gone);
            (Waiting { room: self, whose, ticket }, given)
        };
        let taken = tokio::time::timeout_at(deadline.into(), given).await;
        drop(waiting);
        taken.map_err(|_| Overloaded)?.map_err(|_| Overloaded)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut queue = self.room.queue();
        let next = queue.give_back(self.whose, Instant::now());
        self.room.tell(&queue);
        drop(queue);
        for (whose, waiter) in next {
            // Who left meanwhile gives it back in turn, without the lock.
            drop(waiter.send(self.room.taken(whose)));
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let waiter = self.room.queue().leave(self.whose, self.ticket);
        drop(waiter);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::join_all;
    use uuid::Uuid;

    use super::*;

    /// A place and a slot.
    async fn begin(gate: &Gate, tenant: Option<TenantId>, deadline: Instant) -> Result<(Place, Slot), Overloaded> {
        let place = gate.enter(tenant, deadline).await?;
        let slot = gate.run(&place, deadline).await?;
        Ok((place, slot))
    }

    /// Tenants by number; the first is nobody who is signed in.
    fn tenant(number: u128) -> Option<TenantId> {
        (number > 0).then(|| TenantId(Uuid::from_u128(number)))
    }

    fn after(milliseconds: u64) -> Instant {
        Instant::now() + Duration::from_millis(milliseconds)
    }

    #[tokio::test]
    async fn who_waits_for_a_commit_lets_others_run_but_not_for_ever() {
        let gate = Gate::new(4);
        let mut committing = Vec::new();
        while let Ok((place, slot)) = begin(&gate, None, after(10)).await {
            drop(slot);
            committing.push(place);
        }
        assert_eq!((committing.len(), gate.running()), (6, 0), "three of four slots, two places each");
        let again = gate.run(&committing[0], after(10)).await;
        assert!(again.is_ok(), "who has a place runs again without a queue");
        committing.pop();
        assert!(begin(&gate, None, after(10)).await.is_ok());
    }

    #[tokio::test]
    async fn a_tenant_leaves_slots_for_the_others() {
        let gate = Gate::new(8);
        let [flood, calm] = [tenant(1), tenant(2)];
        let mut running = Vec::new();
        while let Ok(slot) = begin(&gate, flood, after(10)).await {
            running.push(slot);
        }
        assert_eq!((running.len(), gate.running()), (6, 6));
        let others = [begin(&gate, calm, after(10)).await, begin(&gate, None, after(10)).await];
        assert!(others.iter().all(Result::is_ok));
        assert!(begin(&gate, calm, after(10)).await.is_err(), "now all slots are taken");
        running.pop();
        assert!(begin(&gate, calm, after(10)).await.is_ok());
        assert!(begin(&gate, flood, after(10)).await.is_ok());
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_who_waits_for_longest() {
        let gate = Gate::new(4);
        let running = [begin(&gate, None, after(10)).await, begin(&gate, None, after(10)).await];
        assert!(running.iter().all(Result::is_ok));
        // Four more have a place, twelve wait, and of thirteen five.
        let calls = (0..17).map(|_| gate.enter(None, after(400)));
        // Polled after all of them have asked.
        let look =
            async { (gate.is_short(), gate.refuses(None), gate.refuses(tenant(1)), gate.places.queue().waiting()) };
        let (calls, look) = tokio::join!(join_all(calls), look);
        assert_eq!(look, (true, true, false, 5));
        assert_eq!(calls.iter().filter(|outcome| outcome.is_ok()).count(), 4);
        drop((running, calls));
        assert!(gate.enter(None, after(10)).await.is_ok(), "who gave up waits no more");
        assert!(!gate.is_short(), "all of them ended");
    }

    #[tokio::test]
    async fn who_hangs_up_leaves_no_place_behind() {
        let gate = Arc::new(Gate::new(4));
        let mut taken = join_all((0..8).map(|number| gate.enter(tenant(number), after(10)))).await;
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..12 {
            let gate = Arc::clone(&gate);
            calls.spawn(async move { gate.enter(tenant(number % 5), after(1000)).await });
        }
        tokio::task::yield_now().await;
        // Some were given a place that they have not seen.
        taken.truncate(4);
        calls.shutdown().await;
        drop(taken);
        let all = join_all((0..8).map(|number| gate.enter(tenant(number), after(10)))).await;
        assert!(all.iter().all(Result::is_ok));
        assert_eq!(gate.places.queue().taken(), 8);
    }
}
