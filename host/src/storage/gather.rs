//! Group reading, the counterpart of group commit: while a few statements are under way the next questions of the same kind
//! gather, and go to the database together as one statement. An idle kernel asks at once; a busy one asks for many
//! requests with the work of one.
//!
//! A question is always asked after it came, so an answer is never older than its question. A dropped request interrupts no
//! statement; what it has not asked yet is not asked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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

/// Statements that are under way at once while questions wait for too long: behind slow ones, or connections that died.
const LANES_MAX: usize = 8;

/// How long a question may wait before a further lane is opened.
const PATIENCE: Duration = Duration::from_millis(50);

/// How much of a statement a question takes.
pub(super) trait Weigh {
    /// In keys.
    fn weight(&self) -> usize;
}

/// The kinds of questions that gather.
#[derive(Clone, Debug)]
pub(super) struct Gathered {
    /// Values of keys.
    reads: Gather<Vec<StateKey>, Vec<Option<Versioned>>>,
    /// Stored replies.
    pub(super) replies: Gather<ReplyKey, Option<ReplyRow>>,
}

impl Gathered {
    /// Nothing waits yet.
    pub(super) fn new() -> Self {
        Self { reads: Gather::new(), replies: Gather::new() }
    }

    /// Values of keys in their order; `read` reads the keys of many questions with one statement.
    pub(super) async fn read<F>(
        &self,
        keys: &[StateKey],
        read: impl Fn(Vec<StateKey>) -> F + Send + 'static,
    ) -> Result<Vec<Option<Versioned>>, StorageError>
    where
        F: Future<Output = Result<Vec<Option<Versioned>>, StorageError>> + Send + 'static,
    {
        let together = move |all: Vec<Vec<StateKey>>| {
            let reading = read(all.concat());
            async move { Ok(cut(reading.await?, &all)) }
        };
        self.reads.ask(keys.to_vec(), together).await
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
    /// Oldest first.
    questions: Vec<Asked<Q, A>>,
    lanes: usize,
}

#[derive(Debug)]
struct Asked<Q, A> {
    question: Q,
    asker: oneshot::Sender<Result<A, StorageError>>,
    at: Instant,
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
            waiting.questions.push(Asked { question, asker: answer, at: Instant::now() });
            let late = waiting.questions.first().is_some_and(|oldest| oldest.at.elapsed() > PATIENCE);
            (waiting.lanes < if late { LANES_MAX } else { LANES }).then(|| {
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
                some.into_iter().map(|asked| (asked.question, asked.asker)).unzip()
            };
            match in_time(limit::ANSWER_TIMEOUT, together(questions)).await {
                Ok(answers) => {
                    for (asker, answer) in askers.into_iter().zip(answers) {
                        let _gone = asker.send(Ok(answer));
                    }
                }
                Err(error) => {
                    for asker in askers {
                        let _gone = asker.send(Err(error.shared()));
                    }
                }
            }
        }
    }
}

impl<Q, A> Drop for Lane<Q, A> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut waiting = lock(&self.waiting);
        waiting.lanes -= 1;
        if waiting.lanes == 0 {
            // Nobody would ask these: their askers hear so at once.
            waiting.questions.clear();
        }
    }
}

impl<Q: Weigh, A> Waiting<Q, A> {
    /// The oldest questions that fit into one statement. Those that nobody waits for any more are forgotten.
    fn next(&mut self) -> Vec<Asked<Q, A>> {
        self.questions.retain(|asked| !asked.asker.is_closed());
        let mut weight = 0_usize;
        let fits = self.questions.iter().position(|asked| {
            let first = weight == 0;
            weight = weight.saturating_add(asked.question.weight().max(1));
            weight > limit::GATHERED_KEYS_MAX && !first
        });
        let rest = self.questions.split_off(fits.unwrap_or(self.questions.len()));
        std::mem::replace(&mut self.questions, rest)
    }
}

/// Gives each question its part of what a statement answered to all their keys.
fn cut(values: Vec<Option<Versioned>>, questions: &[Vec<StateKey>]) -> Vec<Vec<Option<Versioned>>> {
    let mut values = values.into_iter();
    questions.iter().map(|keys| values.by_ref().take(keys.len()).collect()).collect()
}

fn lock<Q, A>(waiting: &Mutex<Waiting<Q, A>>) -> MutexGuard<'_, Waiting<Q, A>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;
    use tokio::task::JoinSet;

    use super::*;

    impl Weigh for usize {
        fn weight(&self) -> usize {
            *self
        }
    }

    type Statements = Arc<Mutex<Vec<Vec<usize>>>>;

    /// A gathering whose statements are remembered and wait for a permit each.
    struct Subject {
        gather: Gather<usize, usize>,
        statements: Statements,
        go: Arc<Semaphore>,
        asking: JoinSet<(usize, Result<usize, StorageError>)>,
    }

    impl Subject {
        fn new() -> Self {
            let (statements, go) = (Arc::default(), Arc::new(Semaphore::new(0)));
            Self { gather: Gather::new(), statements, go, asking: JoinSet::new() }
        }

        /// Asks, without waiting for the answer.
        fn ask(&mut self, question: usize) -> tokio::task::AbortHandle {
            let (gather, statements, go) = (self.gather.clone(), Arc::clone(&self.statements), Arc::clone(&self.go));
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
            self.asking.spawn(async move { (question, gather.ask(question, together).await) })
        }

        /// Waits until so many statements were sent.
        async fn sent(&self, count: usize) -> Vec<Vec<usize>> {
            while self.statements.lock().unwrap().len() < count {
                tokio::task::yield_now().await;
            }
            self.statements.lock().unwrap().clone()
        }

        /// Both lanes have a statement under way.
        async fn busy() -> Self {
            let mut subject = Self::new();
            for question in [1, 2] {
                subject.ask(question);
                subject.sent(question).await;
            }
            subject
        }
    }

    #[tokio::test]
    async fn questions_gather_while_others_are_under_way() {
        let mut subject = Subject::busy().await;
        for question in [3, 4, 90, 60, 5] {
            subject.ask(question);
        }
        tokio::task::yield_now().await;
        assert_eq!(subject.sent(2).await, [[1], [2]]);
        subject.go.add_permits(4);
        let statements = subject.sent(4).await;
        assert_eq!(statements[2..], [vec![3, 4, 90], vec![60, 5]], "what is too heavy together is cut");
        for (question, answer) in subject.asking.join_all().await {
            assert_eq!(answer.unwrap(), question);
        }
        assert_eq!(lock(&subject.gather.waiting).lanes, 0, "lanes end");
    }

    #[tokio::test]
    async fn a_failure_is_told_to_all_who_asked_together_and_to_nobody_else() {
        let mut subject = Subject::busy().await;
        for question in [3, 13, 4] {
            subject.ask(question);
        }
        tokio::task::yield_now().await;
        subject.go.add_permits(3);
        while let Some(Ok((question, answer))) = subject.asking.join_next().await {
            assert_eq!(matches!(answer, Err(StorageError::Unavailable(_))), question > 2, "{question}");
        }
        subject.ask(7);
        subject.go.add_permits(1);
        assert_eq!(subject.asking.join_next().await.unwrap().unwrap().1.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_question_that_nobody_waits_for_is_not_asked() {
        let mut subject = Subject::busy().await;
        subject.ask(3).abort();
        let gone = subject.ask(4);
        tokio::task::yield_now().await;
        gone.abort();
        subject.ask(5);
        tokio::task::yield_now().await;
        subject.go.add_permits(3);
        assert_eq!(subject.sent(3).await, [[1], [2], [5]]);
    }

    #[tokio::test]
    async fn who_waits_for_long_gets_a_lane_of_its_own() {
        let mut subject = Subject::busy().await;
        subject.ask(3);
        tokio::time::sleep(2 * PATIENCE).await;
        assert_eq!(subject.sent(2).await.len(), 2);
        subject.ask(4);
        assert_eq!(subject.sent(3).await[2], [3, 4]);
        subject.go.add_permits(3);
        assert_eq!(subject.asking.join_all().await.len(), 4);
    }

    #[tokio::test]
    async fn a_lane_that_dies_leaves_nobody_waiting() {
        let gather = Gather::<usize, usize>::new();
        let lost = gather.ask(1, async |_| panic!("a bug"));
        assert!(lost.await.is_err());
        assert_eq!(gather.ask(2, async |questions: Vec<usize>| Ok(questions)).await.unwrap(), 2);
    }
}
