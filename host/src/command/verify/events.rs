//! The tenants' event logs: sequences without a gap, in the order of commits, each event beside the audit entry of its
//! request. What the finance cells published is counted here, and compared with what their records ask for.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use super::reader::{HUB, LEDGER, Reader};
use super::report::{Counts, Stop};
use crate::id::TenantId;
use crate::limit;
use crate::storage::Storage;
use crate::storage::whole::{AuditMark, RawEvent};

/// Every tenant that has events, or is said to, with the last sequence that it was given; 0 for none.
pub(super) async fn tenants(storage: &Storage) -> Result<BTreeMap<TenantId, i64>, Stop> {
    let given = storage.event_sequences().await?.into_iter();
    let mut tenants: BTreeMap<_, _> = given.map(|(tenant, last)| (TenantId(tenant), last)).collect();
    let mut after = TenantId::PLATFORM;
    while let Some(tenant) = storage.next_event_tenant(after).await? {
        tenants.entry(tenant).or_insert(0);
        after = tenant;
    }
    Ok(tenants)
}

/// What the finance cells published, or should have, counted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) posted: u64,
    pub(super) pending: u64,
    pub(super) released: u64,
    pub(super) payments: u64,
}

impl Published {
    /// Counts an event; answers where the record is that it is about, when a finance cell published it.
    fn count(&mut self, event: &RawEvent) -> Option<(&'static str, String)> {
        let (_, _, source, kind, subject, data, ..) = event;
        let subject = subject.as_deref().unwrap_or_default();
        let (space, counter, key) = match source.strip_prefix("/cells/").zip(kind.split_once('.'))? {
            (LEDGER, ("ledger", "transaction.posted")) => (LEDGER, &mut self.posted, format!("transaction/{subject}")),
            (LEDGER, ("ledger", "transaction.pending")) => (LEDGER, &mut self.pending, format!("hold/{subject}")),
            (LEDGER, ("ledger", "transaction.voided" | "transaction.expired")) => {
                (LEDGER, &mut self.released, format!("hold-end/{subject}"))
            }
            (HUB, ("payment", _)) => (HUB, &mut self.payments, format!("payment/{subject}")),
            (HUB, ("refund", _)) => {
                let refund: Value = serde_json::from_str(data).unwrap_or_default();
                let payment = refund.get("transaction_id").and_then(Value::as_str).unwrap_or_default();
                (HUB, &mut self.payments, format!("refund/{payment}/{subject}"))
            }
            _ => return None,
        };
        *counter += 1;
        Some((space, key))
    }
}

/// Compares what was published with what the records ask for. Each record was found to have its own events, so when there
/// are more, one is about a record that is not there.
pub(super) async fn compare(reader: &Reader<'_>, published: &Published, wanted: &Published) -> Result<(), Stop> {
    if published == wanted {
        return Ok(());
    }
    let mut after = 0;
    loop {
        let page = reader.storage.raw_events(reader.tenant, after, limit::VERIFY_PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.0;
        for event in &page {
            let Some((space, key)) = Published::default().count(event) else { continue };
            let found = reader.read(space, vec![key.clone()]).await?;
            reader.claim(found.iter().any(Option::is_some), || {
                let problem = format!("expected the record {key} of {space}, which it is about, found none");
                (format!("event {} ({})", event.0, event.3), problem)
            })?;
        }
    }
    let problem = format!("expected {wanted:?} as the records say, found {published:?}");
    Err(reader.violation("events of the finance cells", problem))
}

/// Checks a tenant's log, whose last event was `given` its sequence.
pub(super) async fn check(reader: &Reader<'_>, head: i64, given: i64, counts: &mut Counts) -> Result<Published, Stop> {
    let mut published = Published::default();
    let mut marks = Marks { reader, after: -1, ready: VecDeque::new(), group: Vec::new() };
    let (mut last, mut commit) = (0, 0);
    loop {
        let page = reader.storage.raw_events(reader.tenant, last, limit::VERIFY_PAGE).await?;
        if page.is_empty() {
            break;
        }
        for event in page {
            let place = || format!("event {}", event.0);
            reader.claim(event.0 == last + 1, || {
                (format!("event {}", last + 1), format!("expected it after event {last}, found event {}", event.0))
            })?;
            reader.claim((commit.max(1)..=head).contains(&event.7), || {
                let problem = format!("expected a commit from {commit} to the head, {head}, found {}", event.7);
                (place(), problem)
            })?;
            reader.claim(serde_json::from_str::<serde::de::IgnoredAny>(&event.5).is_ok(), || {
                (place(), "expected JSON as its data, found another text".to_owned())
            })?;
            marks.covers(&event).await?;
            let _place = published.count(&event);
            (last, commit) = (event.0, event.7);
            counts.events += 1;
        }
    }
    reader.claim(last == given, || {
        (format!("event {}", last + 1), format!("expected the log to end at event {given}, found its end at {last}"))
    })?;
    Ok(published)
}

/// The tenant's audit entries, beside the events.
struct Marks<'a> {
    reader: &'a Reader<'a>,
    after: i64,
    ready: VecDeque<AuditMark>,
    /// The entries of one commit.
    group: Vec<AuditMark>,
}

impl Marks<'_> {
    async fn covers(&mut self, event: &RawEvent) -> Result<(), Stop> {
        let (commit, correlation) = (event.7, event.6);
        if self.group.first().is_none_or(|mark| mark.3 != commit) {
            self.group.clear();
            while let Some(mark) = self.next(commit).await? {
                if mark.3 == commit {
                    self.group.push(mark);
                }
            }
        }
        let covered = self.group.iter().any(|mark| mark.2 == "success" && mark.1 == correlation);
        self.reader.claim(covered, || {
            let found =
                self.group.iter().map(|(index, of, outcome, _)| format!("audit index {index} ({outcome}, {of})"));
            let found = found.collect::<Vec<_>>().join(", ");
            let found = if found.is_empty() { "none".to_owned() } else { found };
            let expected =
                format!("expected an audit entry of success with correlation {correlation} in commit {commit}");
            (format!("event {} ({})", event.0, event.3), format!("{expected}, found {found}"))
        })
    }

    /// The next entry up to a commit.
    async fn next(&mut self, commit: i64) -> Result<Option<AuditMark>, Stop> {
        if self.ready.is_empty() {
            let page = self.reader.storage.audit_marks(self.reader.tenant, self.after, limit::VERIFY_PAGE * 10).await?;
            self.after = page.last().map_or(i64::MAX, |mark| mark.0);
            self.ready = page.into();
        }
        Ok(self.ready.pop_front_if(|mark| mark.3 <= commit))
    }
}
