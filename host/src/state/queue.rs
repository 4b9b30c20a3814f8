//! The units of work that wait for the committer: bounded in number and bytes, and fair. Each tenant has a line of its own,
//! batches take from the lines in turn, and no tenant may fill the queue alone, so one that floods the kernel waits behind
//! itself.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::committer::Answer;
use super::unit::Unit;
use crate::id::TenantId;
use crate::limit;

/// A unit and who waits for its verdict.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) unit: Unit,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// Why a unit cannot wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// There is no room, for this tenant or for anybody.
    Full,
    /// Nobody takes any more.
    Abandoned,
}

/// The lines.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lines: Mutex<Lines>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Line {
    /// Each with its bytes.
    waiting: VecDeque<(usize, Waiting)>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Lines {
    by_tenant: HashMap<TenantId, Line>,
    /// Tenants with a line, the next to be served first.
    turns: VecDeque<TenantId>,
    units: usize,
    bytes: usize,
    /// Nobody comes any more.
    is_closed: bool,
    /// Nobody takes any more.
    is_abandoned: bool,
}

impl Queue {
    /// Joins the tenant's line.
    pub(super) fn push(&self, waiting: Waiting) -> Result<(), Refused> {
        let bytes = waiting.unit.bytes();
        let tenant = waiting.unit.tenant();
        let mut lines = self.lines();
        if lines.is_abandoned {
            return Err(Refused::Abandoned);
        }
        if lines.units >= limit::COMMIT_QUEUE_MAX
            || lines.units > 0 && lines.bytes.saturating_add(bytes) > limit::COMMIT_QUEUE_BYTES_MAX
        {
            return Err(Refused::Full);
        }
        if !lines.by_tenant.contains_key(&tenant) {
            lines.turns.push_back(tenant);
        }
        let line = lines.by_tenant.entry(tenant).or_default();
        if line.waiting.len() >= limit::COMMIT_QUEUE_PER_TENANT_MAX
            || !line.waiting.is_empty() && line.bytes.saturating_add(bytes) > limit::COMMIT_QUEUE_BYTES_MAX / 2
        {
            return Err(Refused::Full);
        }
        line.waiting.push_back((bytes, waiting));
        line.bytes += bytes;
        lines.units += 1;
        lines.bytes += bytes;
        drop(lines);
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits for the next batch of at most so many; none after the queue was closed and has run empty.
    pub(super) async fn next(&self, batch_max: usize) -> Option<Vec<Waiting>> {
        loop {
            {
                let mut lines = self.lines();
                let batch = lines.take(batch_max);
                if !batch.is_empty() {
                    return Some(batch);
                }
                if lines.is_closed {
                    return None;
                }
            }
            // One that arrives in between has left its permit.
            self.arrived.notified().await;
        }
    }

    /// Nobody will come any more.
    pub(super) fn close(&self) {
        self.lines().is_closed = true;
        self.arrived.notify_one();
    }

    /// Nobody takes any more. Whoever waits hears that there will be no verdict.
    pub(super) fn abandon(&self) {
        *self.lines() = Lines { is_abandoned: true, ..Lines::default() };
    }

    /// Units that wait; none when nobody takes them.
    pub(super) fn len(&self) -> Option<usize> {
        let lines = self.lines();
        (!lines.is_abandoned).then_some(lines.units)
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    /// One unit of each tenant in turn, until the batch is full; the first one whatever its size.
    fn take(&mut self, batch_max: usize) -> Vec<Waiting> {
        let mut batch = Vec::new();
        let mut bytes = 0_usize;
        while batch.len() < batch_max
            && let Some(tenant) = self.turns.pop_front()
        {
            let Some(line) = self.by_tenant.get_mut(&tenant) else { continue };
            let next = line.waiting.front().map_or(0, |(bytes, _)| *bytes);
            if !batch.is_empty() && bytes.saturating_add(next) > limit::COMMIT_BYTES_MAX {
                self.turns.push_front(tenant);
                break;
            }
            bytes = bytes.saturating_add(next);
            line.bytes = line.bytes.saturating_sub(next);
            batch.extend(line.waiting.pop_front().map(|(_, waiting)| waiting));
            if line.waiting.is_empty() {
                self.by_tenant.remove(&tenant);
            } else {
                self.turns.push_back(tenant);
            }
        }
        self.units -= batch.len();
        self.bytes = self.bytes.saturating_sub(bytes);
        batch
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::state::Space;
    use crate::state::unit::Write;

    fn waiting(tenant: u128, key: &str, bytes: usize) -> Waiting {
        let key = Space::kernel(TenantId(Uuid::from_u128(tenant))).key(key);
        let writes = vec![Write::Put(key, Bytes::from(vec![0; bytes]))];
        Waiting { unit: Unit { writes, ..Unit::default() }, answer: oneshot::channel().0 }
    }

    fn keys(batch: &[Waiting]) -> Vec<String> {
        batch.iter().flat_map(|waiting| &waiting.unit.writes).map(|write| write.key().key.clone()).collect()
    }

    #[tokio::test]
    async fn tenants_take_turns() {
        let queue = Queue::default();
        for (tenant, key) in [(1, "a1"), (1, "a2"), (1, "a3"), (2, "b1"), (3, "c1"), (2, "b2")] {
            queue.push(waiting(tenant, key, 1)).unwrap();
        }
        assert_eq!(keys(&queue.next(limit::COMMIT_BATCH_MAX).await.unwrap()), ["a1", "b1", "c1", "a2", "b2", "a3"]);
        assert_eq!(queue.len(), Some(0));
        queue.close();
        assert!(queue.next(limit::COMMIT_BATCH_MAX).await.is_none());
    }

    #[tokio::test]
    async fn a_batch_is_no_larger_than_asked() {
        let queue = Queue::default();
        for (tenant, key) in [(1, "a1"), (1, "a2"), (2, "b1")] {
            queue.push(waiting(tenant, key, 1)).unwrap();
        }
        for expected in [["a1", "b1"].as_slice(), &["a2"]] {
            assert_eq!(keys(&queue.next(2).await.unwrap()), expected);
        }
    }

    #[test]
    fn nobody_waits_for_a_committer_that_is_gone() {
        let queue = Queue::default();
        let (answer, mut verdict) = oneshot::channel();
        queue.push(Waiting { answer, ..waiting(1, "a", 1) }).unwrap();
        queue.abandon();
        assert_eq!(verdict.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(queue.push(waiting(1, "b", 1)), Err(Refused::Abandoned));
        assert_eq!(queue.len(), None);
    }

    #[tokio::test]
    async fn a_flood_leaves_room_for_the_others() {
        let queue = Queue::default();
        for _ in 0..limit::COMMIT_QUEUE_PER_TENANT_MAX {
            queue.push(waiting(1, "flood", 1)).unwrap();
        }
        assert_eq!(queue.push(waiting(1, "one too many", 1)), Err(Refused::Full));
        queue.push(waiting(2, "calm", 1)).unwrap();
        let batch = keys(&queue.next(limit::COMMIT_BATCH_MAX).await.unwrap());
        assert_eq!((batch.len(), batch[1].as_str()), (limit::COMMIT_BATCH_MAX, "calm"));
        queue.push(waiting(1, "again", 1)).unwrap();
    }

    #[tokio::test]
    async fn bytes_are_bounded() {
        let queue = Queue::default();
        queue.push(waiting(1, "huge", limit::COMMIT_QUEUE_BYTES_MAX + 1)).unwrap();
        assert_eq!(queue.push(waiting(2, "more", 1)), Err(Refused::Full), "what waits is the host's memory");
        assert_eq!(keys(&queue.next(limit::COMMIT_BATCH_MAX).await.unwrap()), ["huge"]);
        let half = limit::COMMIT_QUEUE_BYTES_MAX / 2;
        queue.push(waiting(1, "huge", half - 1000)).unwrap();
        assert_eq!(queue.push(waiting(1, "more", 1000)), Err(Refused::Full), "one tenant fills half of it");
        queue.push(waiting(2, "calm", 1000)).unwrap();
        assert_eq!(keys(&queue.next(limit::COMMIT_BATCH_MAX).await.unwrap()), ["huge"]);
        assert_eq!(keys(&queue.next(limit::COMMIT_BATCH_MAX).await.unwrap()), ["calm"]);
        queue.push(waiting(1, "huge", 1)).unwrap();
        assert_eq!(keys(&queue.next(limit::COMMIT_BATCH_MAX).await.unwrap()), ["huge"]);
        for key in ["one", "two", "three"] {
            queue.push(waiting(1, key, limit::COMMIT_BYTES_MAX / 2)).unwrap();
        }
        assert_eq!(
            keys(&queue.next(limit::COMMIT_BATCH_MAX).await.unwrap()).len(),
            1,
            "keys count, too: two halves are more than a whole"
        );
        assert_eq!(queue.len(), Some(2));
    }
}
