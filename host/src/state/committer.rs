//! Group commit. One task takes the waiting units of work and commits them together: one fsync for all of them. While a
//! commit is under way the next batch gathers by itself, so nothing is delayed when the kernel is idle.
//!
//! The committer outlives the requests: a client that hangs up never cancels a statement. A unit that was handed over is
//! answered truly, also when the connection broke during COMMIT: the batch's own id is then looked up before going on.

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

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

type Answer = Result<Verdict, CommitError>;

struct Waiting {
    unit: Unit,
    answer: oneshot::Sender<Answer>,
}

/// Hands units of work to the committing task.
#[derive(Clone, Debug)]
pub struct Committer {
    queue: mpsc::Sender<Waiting>,
}

impl Committer {
    /// Starts the committing task. It ends after the last `Committer` is dropped and the queue is empty.
    #[must_use]
    pub fn start(storage: Storage, clock: Clock) -> (Self, JoinHandle<()>) {
        let (queue, waiting) = mpsc::channel(limit::COMMIT_QUEUE_MAX);
        let node = NodeId::new(&clock);
        #[expect(clippy::disallowed_methods, reason = "the handle is returned and awaited at shutdown")]
        let task = tokio::spawn(run(storage, clock, node, waiting));
        (Self { queue }, task)
    }

    /// Commits a unit and waits for its verdict. Dropping the future does not undo the commit.
    pub async fn commit(&self, unit: Unit) -> Answer {
        let (answer, verdict) = oneshot::channel();
        self.queue.try_send(Waiting { unit, answer }).map_err(|refused| match refused {
            TrySendError::Full(_) => CommitError::Full,
            TrySendError::Closed(_) => CommitError::Unavailable,
        })?;
        verdict.await.unwrap_or(Err(CommitError::Unknown))
    }

    /// Units that wait, against the limit. Where the task is gone, none will ever be taken: that is a full queue, too.
    #[must_use]
    pub fn backlog(&self) -> (usize, usize) {
        if self.queue.is_closed() {
            return (limit::COMMIT_QUEUE_MAX, limit::COMMIT_QUEUE_MAX);
        }
        (limit::COMMIT_QUEUE_MAX - self.queue.capacity(), limit::COMMIT_QUEUE_MAX)
    }
}

async fn run(storage: Storage, clock: Clock, node: NodeId, mut queue: mpsc::Receiver<Waiting>) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, limit::COMMIT_BATCH_MAX).await > 0 {
        while !batch.is_empty() {
            let next = batch.split_off(fitting(&batch));
            let (units, answers): (Vec<_>, Vec<_>) =
                std::mem::replace(&mut batch, next).into_iter().map(|waiting| (waiting.unit, waiting.answer)).unzip();
            #[expect(clippy::cast_precision_loss, reason = "a batch has a few hundred units")]
            metrics::histogram!("commit_batch_size").record(units.len() as f64);
            let verdicts = commit(&storage, &clock, node, &units).await;
            for (answer, verdict) in answers.into_iter().zip(verdicts) {
                // The request may be gone; its unit is committed all the same.
                let _gone = answer.send(verdict);
            }
        }
    }
}

/// How many units from the front fit into one commit by their size; at least one.
fn fitting(batch: &[Waiting]) -> usize {
    let mut bytes = 0_usize;
    let fits = batch.iter().take_while(|waiting| {
        bytes = bytes.saturating_add(waiting.unit.bytes());
        bytes <= limit::COMMIT_BYTES_MAX
    });
    fits.count().max(1)
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
