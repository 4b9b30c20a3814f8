//! Who waits for a place in a cell, and whether that queue moves or stands.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::gate::Overloaded;

/// Calls that may wait for each slot before they have a place; more are refused at once instead of piling up.
const QUEUE_PER_SLOT: u32 = 5;

/// Calls that may wait in a queue that stands: the cell's, and a tenant's part of it.
const STANDING_QUEUE: u32 = 16;
const STANDING_LINE: u32 = 4;

/// A queue in which nobody got a place soon stands: more comes than is done. Hardly anybody may wait then behind those who
/// are under way, and of those who do already, who has waited for longer is refused (the idea of `CoDel`, RFC 8289). Soon is
/// twice what a call usually takes, and no less than this.
pub(super) const SOON: Duration = Duration::from_millis(150);

/// How often who waits looks whether it is in vain.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// A queue no longer stands when nobody asked in vain for as long as is soon, and after this in any case: clients that ask
/// again as soon as they are refused would otherwise keep it standing, even those that it could serve.
pub(super) const STANDS_MOST: Duration = Duration::from_secs(4);

/// Those who wait for a place.
#[derive(Debug)]
pub(super) struct Queue {
    /// How many may wait, and how many when it stands.
    most: u32,
    most_standing: u32,
    /// See [`SOON`].
    soon_least: Duration,
    pub(super) waiting: AtomicU32,
    flow: Mutex<Flow>,
    /// How long a call of the cell is under way, in milliseconds; 0 when none has ended.
    pub(super) usual: Arc<AtomicU64>,
}

/// Whether a queue moves or stands.
#[derive(Debug)]
pub(super) struct Flow {
    /// When somebody last found no place.
    asked_at: Instant,
    /// When the queue was last empty, or somebody got a place soon.
    moved_at: Instant,
    pub(super) stands_since: Option<Instant>,
}

/// A place in the queue, given back also when the waiting call is dropped.
pub(super) struct Queued<'a>(&'a AtomicU32);

impl Queue {
    /// The queue of so many slots, in which nobody waits; `soon_least` is [`SOON`], but in tests.
    pub(super) fn new(slots: u32, soon_least: Duration) -> Self {
        Self::of(slots, STANDING_QUEUE, soon_least, Arc::default())
    }

    fn of(slots: u32, most_standing: u32, soon_least: Duration, usual: Arc<AtomicU64>) -> Self {
        let now = Instant::now();
        Self {
            most: slots.saturating_mul(QUEUE_PER_SLOT).max(most_standing),
            most_standing,
            soon_least,
            waiting: AtomicU32::new(0),
            flow: Mutex::new(Flow { asked_at: now, moved_at: now, stands_since: None }),
            usual,
        }
    }

    /// A part of this queue, for so many of its slots.
    pub(super) fn part(&self, slots: u32) -> Self {
        Self::of(slots, STANDING_LINE, self.soon_least, Arc::clone(&self.usual))
    }

    /// How long somebody waits who gets a place soon. Before a call has ended, nobody knows.
    pub(super) fn soon(&self) -> Duration {
        match self.usual.load(Ordering::Relaxed) {
            0 => Duration::MAX,
            usual => self.soon_least.max(Duration::from_millis(usual.saturating_mul(2))),
        }
    }

    pub(super) fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stands(&self) -> bool {
        let (soon, now, mut flow) = (self.soon(), Instant::now(), self.flow());
        if flow.stands_since.is_some_and(|since| now.saturating_duration_since(since) > STANDS_MOST) {
            (flow.stands_since, flow.moved_at) = (None, now);
        } else if flow.stands_since.is_none() && now.saturating_duration_since(flow.moved_at) > soon {
            flow.stands_since = Some(now);
        }
        flow.stands_since.is_some()
    }

    /// A call of the cell is over that was under way for so long.
    pub(super) fn took(&self, time: Duration) {
        let time = milliseconds(time).max(1);
        // An average of the newest ones; two at once may count as one.
        let usual = match self.usual.load(Ordering::Relaxed) {
            0 => time,
            usual => usual.saturating_mul(7).saturating_add(time).div_ceil(8),
        };
        self.usual.store(usual, Ordering::Relaxed);
    }

    /// Whether more wait than may when it stands.
    pub(super) fn is_long(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > self.most_standing
    }

    /// How many may wait.
    fn most(&self, standing: bool) -> u32 {
        if self.stands() || standing { self.most_standing } else { self.most }
    }

    pub(super) fn is_full(&self) -> bool {
        // On a calm day nobody waits, and no clock is read.
        let waiting = self.waiting.load(Ordering::Relaxed);
        waiting >= self.most_standing && waiting >= self.most(false)
    }

    /// Joins it; as one that stands, when the queue of which it is a part does.
    pub(super) fn join(&self, standing: bool) -> Result<Queued<'_>, Overloaded> {
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
        if before < self.most(standing) { Ok(place) } else { Err(Overloaded) }
    }

    /// Somebody got a place after waiting for so long.
    pub(super) fn moved(&self, after: Duration) {
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

pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
