//! What tenants used of which cell on which day. Counted in memory and written once a second and at a stop, in units that
//! never conflict: a kernel that is killed loses at most the last second of it, and nothing is ever counted twice. The
//! receipts in the audit log lose nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::cell::spent::Spent;
use crate::id::TenantId;
use crate::state::unit::Write;
use crate::state::{Space, StateKey};

/// Of whom, of which cell, on which day (UTC).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Account {
    /// The tenant; the platform for calls without a token.
    pub tenant: TenantId,
    /// The cell.
    pub cell: Arc<str>,
    /// The day.
    pub day: Date,
}

/// How much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Calls, those by other cells included.
    pub invocations: i64,
    /// Fuel charged to the cell itself, without the cells that it called.
    pub fuel: i64,
    /// Bodies of requests, in bytes.
    pub bytes_in: i64,
    /// Bodies of replies, in bytes.
    pub bytes_out: i64,
}

/// The names of the counters, in key order.
pub const COUNTERS: [&str; 4] = ["bytes-in", "bytes-out", "fuel", "invocations"];

/// Counts until it is written.
#[derive(Debug, Default)]
pub struct Meter {
    pending: Mutex<HashMap<Account, Used>>,
}

/// The prefix of the counters of a tenant's cell, or of all.
#[must_use]
pub fn prefix(cell: Option<&str>) -> String {
    cell.map_or_else(|| "usage/".to_owned(), |cell| format!("usage/{cell}/"))
}

impl Meter {
    /// Counts the invocations of a request.
    pub fn count(&self, tenant: TenantId, now: Timestamp, all: &[Spent]) {
        let day = now.to_zoned(TimeZone::UTC).date();
        for (place, spent) in all.iter().enumerate() {
            // Its callees ended just before it, one level below; their fuel is theirs.
            let before = all.get(..place).unwrap_or_default();
            let below = before.iter().rev().take_while(|other| other.depth > spent.depth);
            let callees: u64 = below.filter(|other| other.depth == spent.depth + 1).map(|other| other.fuel_used).sum();
            let fuel = spent.fuel_charged.saturating_sub(callees);
            spent.version.measures.consumed(&spent.version.name, fuel);
            let used = Used {
                invocations: 1,
                fuel: whole(fuel),
                bytes_in: whole(spent.bytes_in),
                bytes_out: whole(spent.bytes_out),
            };
            let account = Account { tenant, cell: Arc::clone(&spent.version.name), day };
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            pending.entry(account).or_default().add(used);
        }
    }

    /// Takes what is to be written.
    #[must_use]
    pub fn take(&self) -> Vec<(Account, Used)> {
        std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner)).into_iter().collect()
    }

    /// Puts back what was certainly not written.
    pub fn put_back(&self, counted: &[(Account, Used)]) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        for (account, used) in counted {
            pending.entry(account.clone()).or_default().add(*used);
        }
    }
}

impl Used {
    fn add(&mut self, other: Self) {
        self.invocations = self.invocations.saturating_add(other.invocations);
        self.fuel = self.fuel.saturating_add(other.fuel);
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
    }

    fn values(self) -> [i64; 4] {
        [self.bytes_in, self.bytes_out, self.fuel, self.invocations]
    }
}

/// The additions to an account's counters.
pub fn writes(account: &Account, used: Used) -> impl Iterator<Item = Write> {
    let space = Space::kernel(account.tenant);
    let (cell, day) = (Arc::clone(&account.cell), account.day);
    COUNTERS.into_iter().zip(used.values()).map(move |(name, delta)| {
        let key: StateKey = space.key(format!("{}{day}/{name}", prefix(Some(&cell))));
        Write::Add { key, delta, min: None }
    })
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
