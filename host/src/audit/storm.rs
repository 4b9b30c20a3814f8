//! Storms of failures and denials. The first few of a kind within a window are written as they are; the others are counted
//! in memory and written as one entry when the window closes, or when the kernel stops. What succeeded is never held back.
//!
//! A kernel that crashes loses the counts of its open windows, never the first entries of a storm.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::Value;

use super::{AuditEntry, Outcome, Party};
use crate::clock::Clock;
use crate::id::{AuditId, TenantId};
use crate::limit;

/// What makes two entries the same kind: all that an auditor would count by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    tenant: TenantId,
    actor: Party,
    action: String,
    target: Party,
    outcome: Outcome,
    /// How a call ended, why a sign-in was refused and whence it came, where the entry says so.
    ended: Option<String>,
    reason: Option<String>,
    client: Option<String>,
    /// Which entry of the log was read.
    entry: Option<String>,
}

impl Kind {
    fn of(entry: &AuditEntry) -> Self {
        let detail = |name: &str| entry.details.get(name).and_then(Value::as_str).map(str::to_owned);
        Self {
            tenant: entry.tenant_id,
            actor: entry.actor.clone(),
            action: entry.action.clone(),
            target: entry.target.clone(),
            outcome: entry.outcome,
            ended: detail("outcome"),
            reason: detail("reason"),
            client: detail("client"),
            entry: detail("entry_id"),
        }
    }
}

/// One kind since its window opened.
#[derive(Debug)]
struct Window {
    opened_at: Timestamp,
    written: u32,
    held: Option<Held>,
}

impl Window {
    fn new(opened_at: Timestamp) -> Self {
        Self { opened_at, written: 0, held: None }
    }

    fn closed(&self, now: Timestamp) -> bool {
        now.duration_since(self.opened_at) >= limit::AUDIT_STORM_WINDOW
    }
}

/// Entries that were counted instead of written.
#[derive(Debug)]
struct Held {
    newest: AuditEntry,
    count: u64,
    first_at: Timestamp,
}

impl Held {
    /// The one entry that stands for all of them.
    fn summary(self, clock: &Clock) -> AuditEntry {
        let Self { newest: mut entry, count, first_at } = self;
        entry.id = AuditId::new(clock);
        entry.details.insert("count".into(), count.into());
        entry.details.insert("first_at".into(), first_at.to_string().into());
        entry.details.insert("last_at".into(), entry.at.to_string().into());
        entry
    }
}

/// The open windows, and the summaries that wait to be written.
#[derive(Debug, Default)]
struct Windows {
    open: HashMap<Kind, Window>,
    waiting: Vec<AuditEntry>,
}

/// What is counted now.
#[derive(Debug, Default)]
pub struct Storm(Mutex<Windows>);

/// Which windows end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Those whose time is over.
    Closed,
    /// All of them: the kernel stops.
    All,
}

impl Storm {
    /// Whether an entry is written as it is; otherwise it was counted. When too many kinds are open at once, everything
    /// new is written: an entry more is better than one less.
    #[must_use]
    pub fn admits(&self, entry: &AuditEntry, clock: &Clock) -> bool {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Windows { open, waiting } = &mut *windows;
        let (kind, now) = (Kind::of(entry), clock.now());
        if open.len() >= limit::AUDIT_STORMS_MAX && !open.contains_key(&kind) {
            return true;
        }
        let window = open.entry(kind).or_insert_with(|| Window::new(now));
        if window.closed(now) {
            let over = std::mem::replace(window, Window::new(now));
            waiting.extend(over.held.map(|held| held.summary(clock)));
        }
        if window.written < limit::AUDIT_STORM_FREE {
            window.written += 1;
            return true;
        }
        let held = window.held.get_or_insert_with(|| Held { newest: entry.clone(), count: 0, first_at: entry.at });
        held.count += 1;
        held.first_at = held.first_at.min(entry.at);
        if entry.at >= held.newest.at {
            held.newest = entry.clone();
        }
        false
    }

    /// The summaries that are due. They are given once: [`Storm::put_back`] takes what could not be written.
    #[must_use]
    pub fn due(&self, ending: Ending, clock: &Clock) -> Vec<AuditEntry> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Windows { open, waiting } = &mut *windows;
        let now = clock.now();
        for (_, window) in open.extract_if(|_, window| ending == Ending::All || window.closed(now)) {
            waiting.extend(window.held.map(|held| held.summary(clock)));
        }
        std::mem::take(waiting)
    }

    /// Keeps summaries for the next time, within bounds.
    pub fn put_back(&self, entries: Vec<AuditEntry>) {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = limit::AUDIT_STORMS_MAX.saturating_sub(windows.waiting.len());
        let lost = entries.len().saturating_sub(room);
        if lost > 0 {
            tracing::error!(lost, "the database is away for too long: summaries of audited storms are lost");
        }
        windows.waiting.extend(entries.into_iter().take(room));
    }
}
