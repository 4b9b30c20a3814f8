//! What both backends share: the SQL that reads alike in both dialects, and what the columns of a row mean. Rows are
//! tuples, which sqlx reads from either database.

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use super::StorageError;
use crate::audit::{AuditEntry, StoredEntry};
use crate::event::{Event, StoredEvent};
use crate::id::{CorrelationId, TenantId};
use crate::limit;
use crate::state::unit::{ReplyKey, StoredReply};
use crate::state::{Entry, Scan, Version, Versioned};

pub(super) const PING: &str = "select sequence from head";

pub(super) const SCAN: &str = "select key, value, version from state
    where tenant = $1 and space = $2 and key >= $3 and key < $4 order by key limit $5";

pub(super) const EVENT: &str = "select sequence, id, source, kind, subject, time, data, tenant, actor, correlation,
    traceparent from event where tenant = $1 and source = $2 and id = $3";

pub(super) const AUDIT_ENTRY: &str = "select idx, body from audit where id = $1 and tenant = $2";

pub(super) const LAST_BATCH: &str = "select batch from node where id = $1";

/// The bounds of a scan as both databases need them: an index is searched only between two given bounds, so where the
/// range has no upper end, text above every key that [`crate::state::valid_key`] allows stands in for it.
pub(super) fn bounds(scan: &Scan) -> (String, String) {
    let (lower, upper) = scan.bounds();
    (lower, upper.unwrap_or_else(|| "\u{10ffff}".repeat(limit::STATE_KEY_BYTES_MAX / 4 + 1)))
}

/// Columns of [`SCAN`].
pub(super) type EntryRow = (String, Vec<u8>, Version);

pub(super) fn entry((key, value, version): EntryRow) -> Entry {
    Entry { key, versioned: versioned(value, version) }
}

pub(super) fn versioned(value: Vec<u8>, version: Version) -> Versioned {
    Versioned { value: Bytes::from(value), version }
}

/// A stored reply without its key: fingerprint, status, headers, body, and when it was made and expires.
pub(super) type ReplyRow = (Vec<u8>, i32, String, Vec<u8>, i64, i64);

/// The same after the position of the key among those that were asked for.
pub(super) type FoundReply = (i64, Vec<u8>, i32, String, Vec<u8>, i64, i64);

/// Puts what was found in the order of the keys; `first` is the position of the first one.
pub(super) fn replies_in_order(count: usize, first: i64, found: Vec<FoundReply>) -> Vec<Option<ReplyRow>> {
    let mut replies = vec![None; count];
    for (position, fingerprint, status, headers, body, created_at, expires_at) in found {
        if let Some(reply) = usize::try_from(position - first).ok().and_then(|position| replies.get_mut(position)) {
            *reply = Some((fingerprint, status, headers, body, created_at, expires_at));
        }
    }
    replies
}

pub(super) fn reply(key: &ReplyKey, row: ReplyRow) -> Result<StoredReply, StorageError> {
    let (fingerprint, status, headers, body, created_at, expires_at) = row;
    let corrupt = |what: String| StorageError::Corrupt { table: "idempotency", what };
    Ok(StoredReply {
        key: key.clone(),
        fingerprint: fingerprint.try_into().map_err(|_| corrupt("a fingerprint is not 32 bytes long".into()))?,
        status: u16::try_from(status).map_err(|_| corrupt(format!("{status} is no HTTP status")))?,
        headers: serde_json::from_str(&headers).map_err(|error| corrupt(format!("headers: {error}")))?,
        body: Bytes::from(body),
        created_at: timestamp("idempotency", created_at)?,
        expires_at: timestamp("idempotency", expires_at)?,
    })
}

/// The text in which the headers of a reply are stored.
pub(super) fn headers(reply: &StoredReply) -> String {
    // Serializing strings into memory has no way to fail.
    serde_json::to_string(&reply.headers).unwrap_or_default()
}

/// Columns of [`EVENT`] and of a page of events.
pub(super) type EventRow =
    (i64, String, String, String, Option<String>, i64, String, Uuid, String, Uuid, Option<String>);

/// Whether the id was chosen mattered only when the event was new; it is not stored.
pub(super) fn event(row: EventRow) -> Result<StoredEvent, StorageError> {
    let (sequence, id, source, kind, subject, time, data, tenant, actor, correlation, traceparent) = row;
    let event = Event {
        id,
        id_chosen: false,
        source,
        kind,
        subject,
        time: timestamp("event", time)?,
        data,
        tenant: TenantId(tenant),
        actor,
        correlation: CorrelationId(correlation),
        traceparent,
    };
    Ok(StoredEvent { sequence, event })
}

/// Columns of [`AUDIT_ENTRY`] and of a page of the audit log.
pub(super) type AuditRow = (i64, String);

pub(super) fn audit((index, body): AuditRow) -> Result<StoredEntry, StorageError> {
    let entry: AuditEntry = serde_json::from_str(&body)
        .map_err(|error| StorageError::Corrupt { table: "audit", what: format!("entry {index}: {error}") })?;
    Ok(StoredEntry { index, entry })
}

pub(super) fn timestamp(table: &'static str, milliseconds: i64) -> Result<Timestamp, StorageError> {
    Timestamp::from_millisecond(milliseconds)
        .map_err(|_| StorageError::Corrupt { table, what: format!("{milliseconds} is no time") })
}
