//! What a verification says: what it looked at, and the first violation with its place.

use std::fmt;

use serde::Serialize;

use crate::command::Failure;
use crate::id::TenantId;

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether everything holds.
    pub ok: bool,
    /// What was looked at, up to the violation if there is one.
    pub checked: Counts,
    /// The first violation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub violation: Option<Violation>,
}

/// How much was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// The last commit.
    pub commits: i64,
    /// Tenants.
    pub tenants: u64,
    /// Keys of state, of all cells and of the kernel.
    pub records: u64,
    /// Audit entries.
    pub audit_entries: u64,
    /// Those of them that a checkpoint covers.
    pub audit_sealed: u64,
    /// Events.
    pub events: u64,
    /// Transactions of the ledger.
    pub transactions: u64,
    /// Their entries.
    pub entries: u64,
    /// Holds.
    pub holds: u64,
    /// Accounts.
    pub accounts: u64,
    /// Payments.
    pub payments: u64,
    /// Refunds.
    pub refunds: u64,
    /// Stored replies of idempotency keys.
    pub replies: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { commits, tenants, records, audit_entries, audit_sealed, events, .. } = self;
        let Self { transactions, entries, holds, accounts, payments, refunds, replies, .. } = self;
        write!(
            f,
            "{commits} commits of {tenants} tenants with {records} records; {payments} payments, {refunds} refunds; \
             {transactions} transactions with {entries} entries on {accounts} accounts, {holds} holds; {events} events; \
             {audit_entries} audit entries, {audit_sealed} under a checkpoint; {replies} stored replies"
        )
    }
}

/// What does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Whose data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// Which record, event, entry or reply.
    pub place: String,
    /// What was expected there and what was found.
    pub problem: String,
}

impl Violation {
    pub(super) fn new(tenant: Option<TenantId>, place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { tenant, place: place.into(), problem: problem.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tenant {
            Some(tenant) => write!(f, "tenant {tenant}, {}: {}", self.place, self.problem),
            None => write!(f, "{}: {}", self.place, self.problem),
        }
    }
}

/// What ends a verification early.
pub(super) enum Stop {
    Violation(Violation),
    Failure(Failure),
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl<E: std::error::Error> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failure(error.into())
    }
}

/// Stops unless something holds; otherwise its place and what is wrong.
pub(super) fn claim(holds: bool, tenant: TenantId, otherwise: impl FnOnce() -> (String, String)) -> Result<(), Stop> {
    if holds {
        return Ok(());
    }
    let (place, problem) = otherwise();
    Err(Violation::new(Some(tenant), place, problem).into())
}
