//! Where a call computes. It begins among the short requests; one that has computed for a slice goes on in the background,
//! so that its neighbours do not wait behind it however many such calls there are. The next calls of that cell for that
//! tenant then begin there, until enough of them were short.

use std::array;
use std::panic;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::background;
use crate::id::TenantId;

/// Time that a call may compute among the short ones, counted from the first tick that meets it each time it is set going: a
/// call that ends before a tick is not timed at all. Waiting for a host call does not count.
const SLICE: Duration = Duration::from_millis(4);

/// No tick has met the call since it was last set going.
const NOT_MET: u64 = u64::MAX;

/// Short calls in a row after which a cell's calls begin among the short ones again.
const SHORT_AGAIN: u8 = 16;

/// Tenants of a cell are told apart by so many places; two in one share their habit.
const PLACES: u128 = 64;

/// How long the calls of a cell were lately, by tenant.
#[derive(Debug)]
pub struct Habits([AtomicU8; PLACES as usize]);

impl Default for Habits {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU8::new(0)))
    }
}

impl Habits {
    fn of(&self, tenant: Option<TenantId>) -> Option<&AtomicU8> {
        let place = tenant.map_or(0, |tenant| tenant.0.as_u128() % PLACES);
        self.0.get(usize::try_from(place).unwrap_or(0))
    }

    fn are_long(&self, tenant: Option<TenantId>) -> bool {
        self.of(tenant).is_some_and(|habit| habit.load(Ordering::Relaxed) > 0)
    }

    fn note_long(&self, tenant: Option<TenantId>) {
        if let Some(habit) = self.of(tenant) {
            habit.store(SHORT_AGAIN, Ordering::Relaxed);
        }
    }

    fn note_short(&self, tenant: Option<TenantId>) {
        // Two at once may count as one: it is only a habit.
        if let Some(habit) = self.of(tenant)
            && let count @ 1.. = habit.load(Ordering::Relaxed)
        {
            habit.store(count - 1, Ordering::Relaxed);
        }
    }
}

/// How long a call has computed. Shared by the call, whose engine asks at each tick, and by who runs it.
#[derive(Debug)]
pub struct Course {
    epoch: Instant,
    /// What [`thread_time`] said at the first tick since it was set going, in nanoseconds.
    going_since: AtomicU64,
    /// Nanoseconds that it computed before.
    computed: AtomicU64,
    is_long: AtomicBool,
}

impl Course {
    /// The course of a call that has not begun.
    #[must_use]
    pub fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            going_since: AtomicU64::new(NOT_MET),
            computed: AtomicU64::new(0),
            is_long: AtomicBool::new(false),
        }
    }

    /// Whether the call that asks, at a tick, has used up its slice. It then gives its thread away.
    #[must_use]
    pub fn is_over(&self) -> bool {
        if self.going_since.load(Ordering::Relaxed) == NOT_MET {
            self.going_since.store(nanoseconds(thread_time(self.epoch)), Ordering::Relaxed);
        }
        let computed = self.computed.load(Ordering::Relaxed) + self.going();
        let over = u128::from(computed) >= SLICE.as_nanos();
        if over {
            self.is_long.store(true, Ordering::Relaxed);
        }
        over
    }

    fn is_long(&self) -> bool {
        self.is_long.load(Ordering::Relaxed)
    }

    /// Nanoseconds that it computed since a tick met it; asked on the thread that runs it.
    fn going(&self) -> u64 {
        match self.going_since.load(Ordering::Relaxed) {
            NOT_MET => 0,
            since => nanoseconds(thread_time(self.epoch)).saturating_sub(since),
        }
    }

    /// It waits, or has ended.
    fn pause(&self) {
        self.computed.fetch_add(self.going(), Ordering::Relaxed);
        self.going_since.store(NOT_MET, Ordering::Relaxed);
    }
}

/// Runs a call: here, and from the end of its slice in the background.
pub async fn follow<F>(course: Arc<Course>, habits: &Habits, tenant: Option<TenantId>, call: F) -> F::Output
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    let mut call = Timed { course: Arc::clone(&course), call: Box::pin(call) };
    if !habits.are_long(tenant) {
        let short = std::future::poll_fn(|context| match Pin::new(&mut call).poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if course.is_long() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        if let Some(value) = short.await {
            return value;
        }
        habits.note_long(tenant);
    }
    let value = background::run(call).await.unwrap_or_else(|stopped| match stopped.try_into_panic() {
        Ok(cause) => panic::resume_unwind(cause),
        Err(cancelled) => panic::resume_unwind(Box::new(cancelled.to_string())),
    });
    if course.is_long() {
        habits.note_long(tenant);
    } else {
        habits.note_short(tenant);
    }
    value
}

/// A call whose course knows for how long it was polled.
struct Timed<F> {
    course: Arc<Course>,
    call: Pin<Box<F>>,
}

impl<F: Future> Future for Timed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { course, call } = &mut *self;
        let polled = call.as_mut().poll(context);
        course.pause();
        polled
    }
}

/// Time that this thread had a core. On a busy machine a call that computes for a tenth of a millisecond may take several:
/// by the clock on the wall every call would be long, and do the work of a payment where other processes go first.
#[cfg(target_os = "linux")]
fn thread_time(_epoch: Instant) -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), nanoseconds)
}

/// Elsewhere the clock on the wall has to do.
#[cfg(not(target_os = "linux"))]
fn thread_time(epoch: Instant) -> Duration {
    epoch.elapsed()
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn here() -> Option<String> {
        thread::current().name().map(str::to_owned)
    }

    /// Runs a call that computes for so long; answers the name of the thread on which it ended.
    async fn call(habits: &Habits, time: Duration) -> Option<String> {
        let course = Arc::new(Course::new(Instant::now()));
        let own = Arc::clone(&course);
        let computing = async move {
            let (epoch, mut computed) = (Instant::now(), Duration::ZERO);
            while computed < time {
                let begun = thread_time(epoch);
                std::hint::black_box((0..1000).sum::<u64>());
                let over = own.is_over();
                computed += thread_time(epoch).saturating_sub(begun);
                if over {
                    tokio::task::yield_now().await;
                }
            }
            here()
        };
        follow(course, habits, None, computing).await
    }

    #[tokio::test]
    async fn a_long_call_goes_on_in_the_background() {
        let (habits, background) = (Habits::default(), Some("background".to_owned()));
        assert_eq!(call(&habits, Duration::ZERO).await, here());
        assert_eq!(call(&habits, 3 * SLICE).await, background);
        for _ in 0..SHORT_AGAIN {
            assert_eq!(call(&habits, Duration::ZERO).await, background, "its cell is known for long calls");
        }
        assert_eq!(call(&habits, Duration::ZERO).await, here());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn waiting_for_a_core_is_not_computing() {
        let course = Arc::new(Course::new(Instant::now()));
        let own = Arc::clone(&course);
        let preempted = async move {
            // The thread sleeps within its poll, as one does whose core the system gave to another.
            thread::sleep(3 * SLICE);
            (own.is_over(), here())
        };
        assert_eq!(follow(course, &Habits::default(), None, preempted).await, (false, here()));
    }

    #[tokio::test]
    async fn waiting_is_not_computing() {
        let course = Arc::new(Course::new(Instant::now()));
        let own = Arc::clone(&course);
        let waiting = async move {
            tokio::time::sleep(3 * SLICE).await;
            (own.is_over(), here())
        };
        assert_eq!(follow(course, &Habits::default(), None, waiting).await, (false, here()));
    }
}
