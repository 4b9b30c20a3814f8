//! A finished unit of work: everything that one request wants to change, and everything that it read to decide so. It is
//! plain data. The storage commits many at once, each wholly or not at all.

use bytes::Bytes;
use jiff::Timestamp;

use super::{Scan, StateKey, Version};
use crate::audit::AuditEntry;
use crate::event::Event;
use crate::id::TenantId;

/// One request's reads and changes.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    /// What must still be so at commit.
    pub reads: Vec<Read>,
    /// A commit that every read saw, and who looked for the stored reply; none when nobody can tell. Whoever knows all changes
    /// since then need not ask the database.
    pub as_of: Option<Version>,
    /// Changes of state; at most one for each key.
    pub writes: Vec<Write>,
    /// Events to be numbered in their tenant's log.
    pub events: Vec<Event>,
    /// Entries to be numbered in the audit log.
    pub audit: Vec<AuditEntry>,
    /// The reply kept for an idempotency key.
    pub reply: Option<StoredReply>,
}

impl Unit {
    /// Whether a commit would leave no trace.
    #[must_use]
    pub fn changes_nothing(&self) -> bool {
        self.writes.is_empty() && self.events.is_empty() && self.audit.is_empty() && self.reply.is_none()
    }

    /// The tenant that it is done for, as far as it says so.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        let audited = self.audit.first().map(|entry| entry.tenant_id);
        audited.or_else(|| self.writes.first().map(|write| write.key().space.tenant)).unwrap_or(TenantId::PLATFORM)
    }

    /// Roughly how many bytes a commit of it carries.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let writes = self.writes.iter().map(|write| match write {
            Write::Put(key, value) => key.key.len() + value.len(),
            Write::Delete(key) | Write::Add { key, .. } => key.key.len(),
        });
        let events = self.events.iter().map(|event| event.data.len());
        let reply = self.reply.iter().map(|reply| reply.body.len());
        let reads = self.reads.iter().map(|read| match read {
            Read::Key(key, _) | Read::AtLeast(key, _) => key.key.len(),
            Read::Range(scan, seen) => scan.prefix.len() + seen.iter().map(|(key, _)| key.len()).sum::<usize>(),
        });
        writes.chain(events).chain(reply).chain(reads).sum()
    }
}

/// Something that was read.
#[derive(Clone, Debug)]
pub enum Read {
    /// One key, at a version or absent.
    Key(StateKey, Option<Version>),
    /// A list, with the keys and versions that it showed.
    Range(Scan, Vec<(String, Version)>),
    /// A counter that was promised to be at least this, by an `add-bounded` whose addition itself was dropped.
    AtLeast(StateKey, i64),
}

/// A change of one key.
#[derive(Clone, Debug)]
pub enum Write {
    /// Set.
    Put(StateKey, Bytes),
    /// Remove.
    Delete(StateKey),
    /// Add to a counter, merged with the other additions of the batch.
    Add {
        /// The counter.
        key: StateKey,
        /// What is added.
        delta: i64,
        /// The smallest sum allowed; below it the unit conflicts.
        min: Option<i64>,
    },
}

impl Write {
    /// The key that changes.
    #[must_use]
    pub fn key(&self) -> &StateKey {
        match self {
            Self::Put(key, _) | Self::Delete(key) | Self::Add { key, .. } => key,
        }
    }
}

/// Whose key it is: the same key of another tenant, principal or route is another key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReplyKey {
    /// The tenant of the caller.
    pub tenant: TenantId,
    /// The principal, for example `user:0197…`.
    pub principal: String,
    /// The route's template.
    pub route: String,
    /// The `Idempotency-Key`.
    pub key: String,
}

/// The committed reply of an idempotent request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReply {
    /// Whose key.
    pub key: ReplyKey,
    /// SHA-256 of method, path, query and raw body.
    pub fingerprint: [u8; 32],
    /// HTTP status.
    pub status: u16,
    /// Headers in order.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Bytes,
    /// Present moment at the commit.
    pub created_at: Timestamp,
    /// When it may be forgotten.
    pub expires_at: Timestamp,
}

/// What became of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is durable.
    Committed(Receipt),
    /// Nothing of it happened; the request must be run again on fresh reads.
    Conflicted(Conflict),
}

/// The numbers that a committed unit was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// The commit sequence: the version of everything that it wrote.
    pub sequence: Version,
    /// Sequences of its events in the tenant's log, in order.
    pub events: Vec<i64>,
    /// Indexes of its audit entries, in order.
    pub audit: Vec<i64>,
}

/// Why a unit must be run again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Something that it read has changed.
    Read,
    /// An addition would fall below its bound, or its key holds no integer.
    Bound(StateKey),
    /// The idempotency key has a stored reply.
    Reply,
    /// An event with the id that the client chose exists.
    Event,
}
