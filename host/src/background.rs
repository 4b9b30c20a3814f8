//! Guests that compute for long: short requests must not feel them. They run on threads of their own. On Linux the operating
//! system gives those a tenth of the time that a serving thread gets while both want a core, and all of it while nobody else
//! does. Password hashes are not here: they map memory, and a thread that steps back while it holds the lock of the process's
//! memory map makes every other one wait. Compilations have a process of their own.

use std::sync::LazyLock;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{AbortHandle, JoinError};

use crate::limit;

/// Weight of these threads beside the serving ones: `nice` 10 is 110 to 1024 (Linux, `sched_prio_to_weight`).
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Threads that block at once; more work waits. More than the look-ups of names that cells can have under way, so that
/// silent name servers keep no other call waiting.
const BLOCKING_THREADS_MAX: usize = 2 * limit::OUTBOUND_LOOKUPS_MAX;

static RUNTIME: LazyLock<Option<Runtime>> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    builder
        .enable_all()
        .thread_name("background")
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .on_thread_start(step_back);
    builder
        .build()
        .map_err(
            |cause| tracing::warn!(%cause, "there are no background threads; long calls will slow down short ones"),
        )
        .ok()
});

/// The threads, or the serving ones where the system gives no others.
fn handle() -> Handle {
    RUNTIME.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
}

/// Lets this thread have what the others leave.
pub fn step_back() {
    // Linux counts by thread, although POSIX says by process (setpriority(2)); elsewhere all of the kernel would step back.
    #[cfg(target_os = "linux")]
    if let Err(cause) = rustix::process::setpriority_process(None, NICE) {
        tracing::warn!(%cause, "background threads keep their priority; long calls will slow down short ones");
    }
}

/// Runs a future there to its end; dropped with the caller. The error is a panic of the future.
pub async fn run<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, JoinError> {
    struct Abort(AbortHandle);
    impl Drop for Abort {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    let task = handle().spawn(work);
    let _abort = Abort(task.abort_handle());
    task.await
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn nice() -> Option<i32> {
        rustix::process::getpriority_process(None).ok()
    }

    #[tokio::test]
    async fn only_background_threads_step_back() {
        let before = nice();
        assert_eq!(run(async { nice() }).await.unwrap(), Some(NICE));
        assert_eq!(nice(), before);
    }
}
