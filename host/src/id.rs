//! Typed ids. One generator makes them all (UUIDv7, RFC 9562) from the kernel's clock, so that tests with a manual clock
//! see ids of that time; an id of one kind cannot be passed for another.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::{NoContext, Uuid};

use crate::clock::Clock;

macro_rules! typed_id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id of the present moment.
            #[must_use]
            pub fn new(clock: &Clock) -> Self {
                Self(uuid(clock))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )+};
}

typed_id! {
    /// A tenant. The nil UUID is the platform itself: it owns what belongs to no tenant.
    TenantId,
    /// A user of one tenant.
    UserId,
    /// A role of one tenant.
    RoleId,
    /// A sign-in, from login to its end.
    SessionId,
    /// One request and everything that it led to.
    CorrelationId,
    /// An entry of the audit log.
    AuditId,
    /// A batch of units of work that were committed together.
    BatchId,
    /// A running kernel process.
    NodeId,
    /// A route that an operator added.
    RouteId,
    /// An injected fault.
    FaultId,
}

impl TenantId {
    /// The owner of cells, routes and whatever else belongs to no tenant.
    pub const PLATFORM: Self = Self(Uuid::nil());
}

/// A new UUIDv7 of the present moment.
#[must_use]
pub fn uuid(clock: &Clock) -> Uuid {
    let now = clock.now();
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let nanoseconds = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanoseconds))
}
