//! The only place that reads the time. Time decides expiry and is shown to people; it never decides order, which comes
//! from the commit sequence.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};

/// The system's clock, or one that a test moves by hand.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The operating system's wall clock.
    System,
    /// Milliseconds since the Unix epoch, moved with [`Clock::advance`].
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands still at `start` until it is advanced.
    #[must_use]
    pub fn manual(start: Timestamp) -> Self {
        Self::Manual(Arc::new(AtomicI64::new(start.as_millisecond())))
    }

    /// The present moment, cut to whole milliseconds so that it survives storage unchanged.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let milliseconds = match self {
            #[expect(clippy::disallowed_methods, reason = "the one reading of the system clock")]
            Self::System => Timestamp::now().as_millisecond(),
            Self::Manual(milliseconds) => milliseconds.load(Ordering::SeqCst),
        };
        Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Moves a manual clock forward; the system's clock is left alone.
    pub fn advance(&self, by: SignedDuration) {
        if let Self::Manual(milliseconds) = self {
            let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
            milliseconds.fetch_add(by, Ordering::SeqCst);
        }
    }
}
