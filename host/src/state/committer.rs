//! Group commit. One task takes the waiting units of work and commits them together: one fsync for all of them. While a
//! commit is under way the next batch gathers by itself, so nothing is delayed when the kernel is idle.
//!
//! The committer outlives the requests: a client that hangs up never cancels a statement. A unit that was handed over is
//! answered truly, also when the connection broke during COMMIT: the batch's own id is then looked up before going on.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::queue::{Queue, Refused, Waiting};
use super::unit::{Unit, Verdict};
use crate::clock::Clock;
use crate::id::{BatchId, NodeId};
use crate::limit;
use crate::storage::{Storage, StorageError};

/// Why there is no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Too many units are waiting; nothing happened.
    #[error("the commit queue is full")]
    Full,
    /// The database is away; nothing happened.
    #[error("the database is unavailable; nothing was committed")]
    Unavailable,
    /// The connection broke during COMMIT and the database cannot be asked what became of it.
    #[error("the outcome of the commit is unknown")]
    Unknown,
}

/// A verdict, or why there is none.
pub(super) type Answer = Result<Verdict, CommitError>;

/// Hands units of work to the committing task.
#[derive(Clone, Debug)]
pub struct Committer(Arc<Door>);

/// Closes the queue when the last committer is dropped.
#[derive(Debug)]
struct Door(Arc<Queue>);

impl Drop for Door {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Committer {
    /// Starts the committing task. It ends after the last `Committer` is dropped and the queue is empty.
    #[must_use]
    pub fn start(storage: Storage, clock: Clock) -> (Self, JoinHandle<()>) {
        Self::start_with(storage, clock, limit::COMMIT_BATCH_MAX)
    }

    /// The same with at most so many units in one commit; one is a commit for each request.
    #[must_use]
    pub fn start_with(storage: Storage, clock: Clock, batch_max: usize) -> (Self, JoinHandle<()>) {
        let queue = Arc::<Queue>::default();
        let node = NodeId::new(&clock);
        #[expect(clippy::disallowed_methods, reason = "the handle is returned and awaited at shutdown")]
        let task = tokio::spawn(run(storage, clock, node, Arc::clone(&queue), batch_max.max(1)));
        (Self(Arc::new(Door(queue))), task)
    }

    /// Commits a unit and waits for its verdict. Dropping the future does not undo the commit.
    pub async fn commit(&self, unit: Unit) -> Answer {
        let (answer, verdict) = oneshot::channel();
        self.0.0.push(Waiting { unit, answer }).map_err(|refused| match refused {
            Refused::Full => CommitError::Full,
            Refused::Abandoned => CommitError::Unavailable,
        })?;
        verdict.await.unwrap_or(Err(CommitError::Unknown))
    }

    /// Units that wait, against the limit. Where the task is gone, none will ever be taken: that is a full queue, too.
    #[must_use]
    pub fn backlog(&self) -> (usize, usize) {
        (self.0.0.len().unwrap_or(limit::COMMIT_QUEUE_MAX), limit::COMMIT_QUEUE_MAX)
    }
}

/// Lets nobody wait for a task that has ended, however it did.
struct Taker(Arc<Queue>);

impl Drop for Taker {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

async fn run(storage: Storage, clock: Clock, node: NodeId, queue: Arc<Queue>, batch_max: usize) {
    let taker = Taker(queue);
    while let Some(batch) = taker.0.next(batch_max).await {
        let (units, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.unit, waiting.answer)).unzip();
        #[expect(clippy::cast_precision_loss, reason = "a batch has a few hundred units")]
        metrics::histogram!("commit_batch_size").record(units.len() as f64);
        let verdicts = commit(&storage, &clock, node, &units).await;
        for (answer, verdict) in answers.into_iter().zip(verdicts) {
            // The request may be gone; its unit is committed all the same.
            let _gone = answer.send(verdict);
        }
    }
}

/// Commits a batch. A statement that the database refuses because of its data is traced to its unit by halving, so that one
/// bad unit does not fail the others.
async fn commit(storage: &Storage, clock: &Clock, node: NodeId, units: &[Unit]) -> Vec<Answer> {
    for _ in 0..limit::COMMIT_ATTEMPTS_MAX {
        let batch = BatchId::new(clock);
        match storage.commit(node, batch, units).await {
            Ok(verdicts) => return verdicts.into_iter().map(Ok).collect(),
            Err(StorageError::CommitUnknown { source: cause, verdicts }) => {
                tracing::warn!(%cause, units = units.len(), "a commit broke off; asking what became of it");
                match storage.last_batch(node).await {
                    Ok(last) if last == Some(batch) => return verdicts.into_iter().map(Ok).collect(),
                    Ok(_) => {}
                    Err(cause) => {
                        tracing::error!(
                            error = &cause as &dyn std::error::Error,
                            "the outcome of a commit stays unknown"
                        );
                        return vec![Err(CommitError::Unknown); units.len()];
                    }
                }
            }
            Err(StorageError::Unavailable(cause)) if units.len() > 1 && blames_data(&cause) => {
                tracing::warn!(%cause, units = units.len(), "a statement of the batch was refused; halving it");
                let (first, second) = units.split_at(units.len() / 2);
                let mut answers = Box::pin(commit(storage, clock, node, first)).await;
                answers.extend(Box::pin(commit(storage, clock, node, second)).await);
                return answers;
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, units = units.len(), "commit failed");
                return vec![Err(CommitError::Unavailable); units.len()];
            }
        }
    }
    tracing::error!(units = units.len(), "the database does not finish a commit");
    vec![Err(CommitError::Unavailable); units.len()]
}

/// Whether the database refused what it was given, rather than being busy, full or away.
fn blames_data(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(cause) = error else { return matches!(error, sqlx::Error::Encode(_)) };
    let Some(code) = cause.code() else { return false };
    match code.parse::<u32>() {
        // SQLite: TOOBIG, CONSTRAINT, MISMATCH, RANGE, in the low byte of the extended code.
        Ok(number) if code.len() < 5 => matches!(number & 0xff, 18 | 19 | 20 | 25),
        // PostgreSQL: data exception, integrity constraint violation, program limit exceeded.
        Ok(_) | Err(_) => ["22", "23", "54"].iter().any(|class| code.starts_with(class)),
    }
}
