//! Slows down guessing: after some failed sign-ins the next attempts for the same account, or from the same address, must
//! wait, twice as long each time up to a bound. Nobody is locked out for ever. In memory and bounded; a restart forgives.

use std::net::{IpAddr, Ipv6Addr};

use aws_lc_rs::digest::{Context, SHA256};
use jiff::{SignedDuration, Timestamp};
use moka::ops::compute::Op;
use moka::sync::Cache;

use crate::limit;

/// The attempt must wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many failed attempts; wait {retry_after_s} s")]
pub struct Throttled {
    /// How long, in seconds.
    pub retry_after_s: u64,
}

/// What attempts are counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The hash of a tenant's and a user's name as they were typed, whether they exist or not.
    Account([u8; 32]),
    /// A client; of an IPv6 address only the network, because a client has all of it.
    Address(IpAddr),
}

impl Subject {
    /// An account by its names.
    #[must_use]
    pub fn account(tenant: &str, name: &str) -> Self {
        let mut context = Context::new(&SHA256);
        for part in [tenant, name] {
            let part = part.trim().to_lowercase();
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Self::Account(hash)
    }

    /// A client by its address.
    #[must_use]
    pub fn address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        })
    }

    /// Failures that cost nothing, and the longest wait after more of them. An address may be that of a whole company.
    fn schedule(self) -> (u32, SignedDuration) {
        match self {
            Self::Account(_) => (limit::FAILURES_FREE_PER_ACCOUNT, SignedDuration::from_mins(15)),
            Self::Address(_) => (limit::FAILURES_FREE_PER_ADDRESS, SignedDuration::from_mins(1)),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last_at: Timestamp,
}

/// Counts failed attempts.
#[derive(Debug)]
pub struct Throttle {
    failures: Cache<Subject, Failures>,
}

impl Default for Throttle {
    fn default() -> Self {
        Self { failures: Cache::new(limit::THROTTLE_SUBJECTS_MAX) }
    }
}

impl Throttle {
    /// Refuses an attempt that comes too early.
    pub fn check(&self, subjects: &[Subject], now: Timestamp) -> Result<(), Throttled> {
        let waits = subjects.iter().filter_map(|subject| {
            let failures = self.failures.get(subject)?;
            let wait = wait(*subject, failures.count) - now.duration_since(failures.last_at);
            wait.is_positive().then_some(wait)
        });
        match waits.max() {
            None => Ok(()),
            Some(wait) => {
                let seconds = u64::try_from(wait.as_secs()).unwrap_or(0);
                Err(Throttled { retry_after_s: seconds + u64::from(wait.subsec_nanos() > 0) })
            }
        }
    }

    /// Counts a failure for each of the subjects.
    pub fn failed(&self, subjects: &[Subject], now: Timestamp) {
        for subject in subjects {
            self.failures.entry(*subject).and_compute_with(|present| {
                let count = present
                    .map(moka::Entry::into_value)
                    .filter(|known| now.duration_since(known.last_at) < limit::FAILURES_FORGOTTEN_AFTER)
                    .map_or(0, |known| known.count);
                Op::Put(Failures { count: count.saturating_add(1), last_at: now })
            });
        }
    }

    /// Forgets the failures of a subject that proved itself.
    pub fn succeeded(&self, subject: Subject) {
        self.failures.invalidate(&subject);
    }
}

/// One second after the free failures, then doubling up to the bound.
fn wait(subject: Subject, failures: u32) -> SignedDuration {
    let (free, longest) = subject.schedule();
    match failures.checked_sub(free) {
        None | Some(0) => SignedDuration::ZERO,
        Some(over) => SignedDuration::from_secs(1_i64 << (over - 1).min(20)).min(longest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_are_forgiven() {
        let throttle = Throttle::default();
        let subject = [Subject::account("acme", "a@b.c")];
        let mut now = Timestamp::UNIX_EPOCH;
        for _ in 0..limit::FAILURES_FREE_PER_ACCOUNT {
            throttle.failed(&subject, now);
            assert_eq!(throttle.check(&subject, now), Ok(()));
        }
        for seconds in [1, 2, 4] {
            throttle.failed(&subject, now);
            assert_eq!(throttle.check(&subject, now), Err(Throttled { retry_after_s: seconds }));
            now += SignedDuration::from_secs(seconds.cast_signed());
            assert_eq!(throttle.check(&subject, now), Ok(()));
        }
        for _ in 0..40 {
            throttle.failed(&subject, now);
        }
        assert_eq!(throttle.check(&subject, now), Err(Throttled { retry_after_s: 900 }));
        throttle.succeeded(subject[0]);
        assert_eq!(throttle.check(&subject, now), Ok(()));
    }

    #[test]
    fn long_ago_failures_do_not_add_up() {
        let throttle = Throttle::default();
        let subject = [Subject::account("acme", "a@b.c")];
        let mut now = Timestamp::UNIX_EPOCH;
        for _ in 0..100 {
            throttle.failed(&subject, now);
            now += limit::FAILURES_FORGOTTEN_AFTER;
            assert_eq!(throttle.check(&subject, now), Ok(()));
        }
    }

    #[test]
    fn subjects_are_told_apart() {
        assert_eq!(Subject::account("Acme", "A@b.c "), Subject::account("acme", "a@b.c"));
        assert_ne!(Subject::account("ac", "mea@b.c"), Subject::account("acme", "a@b.c"));
        let one = Subject::address("2001:db8::1".parse().unwrap());
        assert_eq!(one, Subject::address("2001:db8::2".parse().unwrap()));
        assert_eq!(Subject::address("::ffff:1.2.3.4".parse().unwrap()), Subject::address("1.2.3.4".parse().unwrap()));
    }
}
