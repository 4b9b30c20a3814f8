//! Group reading, the counterpart of group commit: while a few statements are under way the next questions of the same kind
//! gather, and go to the database together as one statement. An idle kernel asks at once; a busy one asks for many
//! requests with the work of one.
//!
//! A question is always asked after it came, so an answer is never older than its question. One that nobody waits for any
//! more is asked all the same; a dropped request interrupts no statement.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::record::ReplyRow;
use super::{StorageError, in_time, work};
use crate::limit;
use crate::state::unit::ReplyKey;
use crate::state::{StateKey, Versioned};

/// Statements of one kind that are under way at once. One alone would let a slow question hold up all others; with many,
/// nothing gathers.
const LANES: usize = 2;

/// How much of a statement a question takes.
pub(super) trait Weigh {
    /// In keys.
    fn weight(&self) -> usize;
}

/// The kinds of questions that gather.
#[derive(Clone, Debug)]
pub(super) struct Gathered {
    /// Values of keys.
    pub(super) reads: Gather<Vec<StateKey>, Vec<Option<Versioned>>>,
    /// Stored replies.
    pub(super) replies: Gather<ReplyKey, Option<ReplyRow>>,
}

impl Gathered {
    /// Nothing waits yet.
    pub(super) fn new() -> Self {
        Self { reads: Gather::new(), replies: Gather::new() }
    }
}

impl Weigh for Vec<StateKey> {
    fn weight(&self) -> usize {
        self.len()
    }
}

impl Weigh for ReplyKey {
    fn weight(&self) -> usize {
        1
    }
}

/// Questions of one kind on their way to the database. Clones share it.
#[derive(Debug)]
pub(super) struct Gather<Q, A> {
    waiting: Arc<Mutex<Waiting<Q, A>>>,
    /// Where statements run: a caller may live on threads that step back behind all others.
    runtime: Handle,
}

#[derive(Debug)]
struct Waiting<Q, A> {
    questions: Vec<(Q, oneshot::Sender<Result<A, StorageError>>)>,
    lanes: usize,
}

/// A lane that is taken, until it ends or is dropped.
struct Lane<Q, A> {
    waiting: Arc<Mutex<Waiting<Q, A>>>,
    ended: bool,
}

impl<Q, A> Clone for Gather<Q, A> {
    fn clone(&self) -> Self {
        Self { waiting: Arc::clone(&self.waiting), runtime: self.runtime.clone() }
    }
}

impl<Q: Weigh + Send + 'static, A: Send + 'static> Gather<Q, A> {
    /// Nothing waits yet. Statements run on the present runtime.
    pub(super) fn new() -> Self {
        let waiting = Waiting { questions: Vec::new(), lanes: 0 };
        Self { waiting: Arc::new(Mutex::new(waiting)), runtime: Handle::current() }
    }

    /// The answer to a question. `together` asks several at once and answers as many, in their order.
    pub(super) async fn ask<F>(
        &self,
        question: Q,
        together: impl Fn(Vec<Q>) -> F + Send + 'static,
    ) -> Result<A, StorageError>
    where
        F: Future<Output = Result<Vec<A>, StorageError>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let lane = {
            let mut waiting = lock(&self.waiting);
            waiting.questions.push((question, answer));
            (waiting.lanes < LANES).then(|| {
                waiting.lanes += 1;
                Lane { waiting: Arc::clone(&self.waiting), ended: false }
            })
        };
        if let Some(lane) = lane {
            // Ends with the last question; each statement has a time limit.
            self.runtime.spawn(lane.run(together));
        }
        answered.await.unwrap_or_else(|_| Err(work::timed_out().into()))
    }
}

impl<Q: Weigh, A> Lane<Q, A> {
    async fn run<F>(mut self, together: impl Fn(Vec<Q>) -> F)
    where
        F: Future<Output = Result<Vec<A>, StorageError>>,
    {
        loop {
            let (questions, askers): (Vec<_>, Vec<_>) = {
                let mut waiting = lock(&self.waiting);
                let some = waiting.next();
                if some.is_empty() {
                    // Under the same lock as the look: who comes now takes a lane of its own.
                    waiting.lanes -= 1;
                    self.ended = true;
                    return;
                }
                some.into_iter().unzip()
            };
            match in_time(limit::ANSWER_TIMEOUT, together(questions)).await {
                Ok(answers) => {
                    for (asker, answer) in askers.into_iter().zip(answers) {
                        let _gone = asker.send(Ok(answer));
                    }
                }
                Err(error) => {
                    for asker in askers {
                        let _gone = asker.send(Err(shared(&error)));
                    }
                }
            }
        }
    }
}

impl<Q, A> Drop for Lane<Q, A> {
    fn drop(&mut self) {
        if !self.ended {
            lock(&self.waiting).lanes -= 1;
        }
    }
}

impl<Q: Weigh, A> Waiting<Q, A> {
    /// The oldest questions that fit into one statement.
    fn next(&mut self) -> Vec<(Q, oneshot::Sender<Result<A, StorageError>>)> {
        let mut weight = 0_usize;
        let fits = self.questions.iter().position(|(question, _)| {
            let first = weight == 0;
            weight = weight.saturating_add(question.weight().max(1));
            weight > limit::GATHERED_KEYS_MAX && !first
        });
        let rest = self.questions.split_off(fits.unwrap_or(self.questions.len()));
        std::mem::replace(&mut self.questions, rest)
    }
}

/// Gives each question its part of what a statement answered to all their keys.
pub(super) fn cut(values: Vec<Option<Versioned>>, questions: &[Vec<StateKey>]) -> Vec<Vec<Option<Versioned>>> {
    let mut values = values.into_iter();
    questions.iter().map(|keys| values.by_ref().take(keys.len()).collect()).collect()
}

fn lock<Q, A>(waiting: &Mutex<Waiting<Q, A>>) -> MutexGuard<'_, Waiting<Q, A>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same failure for another of those who asked together.
fn shared(error: &StorageError) -> StorageError {
    match error {
        StorageError::Corrupt { table, what } => StorageError::Corrupt { table, what: what.clone() },
        StorageError::Refused(text) => StorageError::Refused(text.clone()),
        StorageError::Unavailable(cause) | StorageError::CommitUnknown { source: cause, .. } => {
            StorageError::Unavailable(sqlx::Error::Io(io::Error::other(cause.to_string())))
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    impl Weigh for usize {
        fn weight(&self) -> usize {
            *self
        }
    }

    /// Asks; each statement is remembered and waits for a permit.
    async fn ask(
        gather: &Gather<usize, usize>,
        statements: &Arc<Mutex<Vec<Vec<usize>>>>,
        go: &Arc<Semaphore>,
        question: usize,
    ) -> Result<usize, StorageError> {
        let (statements, go) = (Arc::clone(statements), Arc::clone(go));
        let together = move |questions: Vec<usize>| {
            let (statements, go) = (Arc::clone(&statements), Arc::clone(&go));
            async move {
                statements.lock().unwrap().push(questions.clone());
                go.acquire().await.unwrap().forget();
                if questions.contains(&13) {
                    return Err(sqlx::Error::PoolClosed.into());
                }
                Ok(questions)
            }
        };
        gather.ask(question, together).await
    }

    #[tokio::test]
    async fn questions_gather_while_others_are_under_way() {
        let (gather, statements, go) = (Gather::new(), Arc::default(), Arc::new(Semaphore::new(0)));
        let all = [1, 2, 3, 200, 100, 5].map(|question| ask(&gather, &statements, &go, question));
        let let_go = async {
            while statements.lock().unwrap().len() < 2 {
                tokio::task::yield_now().await;
            }
            go.add_permits(4);
        };
        let (answers, ()) = tokio::join!(futures_util::future::join_all(all), let_go);
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, [1, 2, 3, 200, 100, 5]);
        // What is too heavy together is cut; a lane takes all that fits.
        assert_eq!(statements.lock().unwrap().concat().len(), 6);
        let largest = statements.lock().unwrap().iter().map(|questions| questions.iter().sum::<usize>()).max();
        assert!(largest.is_some_and(|largest| largest <= limit::GATHERED_KEYS_MAX), "{statements:?}");
        assert!(statements.lock().unwrap().len() <= 4, "{statements:?}");
        assert_eq!(lock(&gather.waiting).lanes, 0, "lanes end");
    }

    #[tokio::test]
    async fn a_failure_is_told_to_all_who_asked_together_and_to_nobody_else() {
        let (gather, statements, go) = (Gather::new(), Arc::default(), Arc::new(Semaphore::new(0)));
        let all = [1, 2, 13, 4].map(|question| ask(&gather, &statements, &go, question));
        let let_go = async {
            while statements.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
            go.add_permits(3);
        };
        let (answers, ()) = tokio::join!(futures_util::future::join_all(all), let_go);
        let with_it = statements.lock().unwrap().iter().find(|questions| questions.contains(&13)).cloned().unwrap();
        for (answer, question) in answers.into_iter().zip([1, 2, 13, 4]) {
            assert_eq!(matches!(answer, Err(StorageError::Unavailable(_))), with_it.contains(&question));
        }
        go.add_permits(1);
        assert_eq!(ask(&gather, &statements, &go, 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_question_that_nobody_waits_for_holds_nobody_up() {
        let (gather, statements, go) = (Gather::new(), Arc::default(), Arc::new(Semaphore::new(0)));
        let gone = tokio::time::timeout(std::time::Duration::from_millis(5), ask(&gather, &statements, &go, 1));
        assert!(gone.await.is_err());
        go.add_permits(2);
        assert_eq!(ask(&gather, &statements, &go, 2).await.unwrap(), 2);
    }
}
