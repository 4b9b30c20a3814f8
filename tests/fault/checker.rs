//! The offline checker: what must hold of the journals and the database together, whatever was killed meanwhile. It shares
//! no code with the kernel but the hash of a leaf, and its own test feeds it every violation that it claims to find.

mod books;
mod requests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use serde_json::Value;
use uuid::Uuid;

use super::data::{Data, Entry, Event, Row};
use super::journal::Journal;

pub(super) use books::trial_balance;

/// What is wrong, in sentences; empty when all is well.
pub(super) fn check(journal: &Journal, data: &Data) -> Vec<String> {
    let mut findings = Findings::default();
    let facts = Facts::of(data);
    logs(data, &mut findings);
    one_unit(&facts, &mut findings);
    books::check(&facts, &mut findings);
    requests::check(journal, &facts, &mut findings);
    findings.0
}

/// What was there before a fault must be there after it, unchanged and in its place.
pub(super) fn check_kept(before: &Data, after: &Data) -> Vec<String> {
    let mut findings = Findings::default();
    let kept = after.audit.get(..before.audit.len()) == Some(&before.audit[..]);
    findings.claim(kept, || "the audit log does not begin with what it was before the fault".into());
    let known: HashMap<_, _> = after.events.iter().map(|event| ((event.tenant, event.sequence), event)).collect();
    for event in &before.events {
        let kept = known.get(&(event.tenant, event.sequence)) == Some(&event);
        findings.claim(kept, || format!("event {} changed, moved or vanished", event.sequence));
    }
    let rows: HashMap<_, _> = after.state.iter().map(|row| ((row.tenant, &row.space, &row.key), row)).collect();
    for row in before.state.iter().filter(|row| is_final(row)) {
        let kept = rows.get(&(row.tenant, &row.space, &row.key)) == Some(&row);
        findings.claim(kept, || format!("{} of the ledger was edited or removed", row.key));
    }
    findings.claim(after.head >= before.head, || "the head went back".into());
    findings.0
}

/// What is posted is never edited.
fn is_final(row: &Row) -> bool {
    row.space == "ledger" && (row.key.starts_with("transaction/") || row.key.starts_with("entry/"))
}

#[derive(Debug, Default)]
struct Findings(Vec<String>);

impl Findings {
    fn claim(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.0.push(otherwise());
        }
    }
}

/// The data, by what they are looked up by.
struct Facts<'a> {
    data: &'a Data,
    /// Values of cells and users by tenant, space and key.
    state: BTreeMap<(Uuid, &'a str, &'a str), &'a Row>,
    /// Events by tenant and subject.
    events: HashMap<(Uuid, &'a str), Vec<&'a Event>>,
    /// Audit entries of success by commit.
    successes: HashMap<i64, Vec<(&'a Entry, Value)>>,
}

impl<'a> Facts<'a> {
    fn of(data: &'a Data) -> Self {
        let mut events = HashMap::<_, Vec<_>>::new();
        for event in &data.events {
            events.entry((event.tenant, event.subject.as_deref().unwrap_or_default())).or_default().push(event);
        }
        let mut successes = HashMap::<_, Vec<_>>::new();
        for entry in &data.audit {
            let body: Value = serde_json::from_str(&entry.body).unwrap_or_default();
            if body["outcome"] == "success" {
                successes.entry(entry.commit).or_default().push((entry, body));
            }
        }
        let state = data.state.iter().map(|row| ((row.tenant, &*row.space, &*row.key), row)).collect();
        Self { data, state, events, successes }
    }

    fn row(&self, tenant: Uuid, space: &str, key: &str) -> Option<&'a Row> {
        self.state.get(&(tenant, space, key)).copied()
    }

    /// The rows of a space whose keys begin so, with the rest of the key.
    fn under(&self, space: &'a str, prefix: &'a str) -> impl Iterator<Item = (&'a Row, &'a str)> {
        let rows = self.data.state.iter().filter(move |row| row.space == space);
        rows.filter_map(move |row| Some((row, row.key.strip_prefix(prefix)?)))
    }

    fn events<'b>(&'b self, tenant: Uuid, subject: &'b str) -> &'b [&'a Event] {
        self.events.get(&(tenant, subject)).map_or(&[], Vec::as_slice)
    }

    /// The entries of success of an action.
    fn done<'b>(&'b self, action: &'b str) -> impl Iterator<Item = &'b (&'a Entry, Value)> {
        self.successes.values().flatten().filter(move |(_, body)| body["action"] == action)
    }
}

/// Numbers without gaps, in the order of commits, and hashes that fit.
fn logs(data: &Data, findings: &mut Findings) {
    let mut last: BTreeMap<Uuid, (i64, i64)> = BTreeMap::new();
    for event in &data.events {
        let (sequence, commit) = last.entry(event.tenant).or_default();
        let follows = event.sequence == *sequence + 1;
        findings.claim(follows, || format!("event {} follows {sequence} of its tenant", event.sequence));
        findings.claim(event.commit >= *commit, || format!("event {} is out of the order of commits", event.sequence));
        (*sequence, *commit) = (event.sequence, event.commit);
    }
    let numbered: BTreeMap<_, _> = last.iter().map(|(tenant, (sequence, _))| (*tenant, *sequence)).collect();
    findings.claim(numbered == data.tenants, || "the last event of a tenant is not the last that was numbered".into());
    let mut commit = 0;
    for (index, entry) in data.audit.iter().enumerate() {
        let follows = usize::try_from(entry.index) == Ok(index);
        findings.claim(follows, || format!("audit entry {} stands at {index}", entry.index));
        findings.claim(entry.commit >= commit, || format!("audit entry {} is out of order", entry.index));
        let leaf = aibos::audit::leaf_hash(&entry.body);
        findings.claim(entry.leaf == leaf, || format!("the leaf of audit entry {} is not its hash", entry.index));
        let body: Value = serde_json::from_str(&entry.body).unwrap_or_default();
        let same =
            body["correlation_id"] == entry.correlation.to_string() && body["tenant_id"] == entry.tenant.to_string();
        findings.claim(same, || format!("the columns of audit entry {} are not those of its text", entry.index));
        commit = entry.commit;
    }
    let last = data.audit.last().map_or(-1, |entry| entry.index);
    findings.claim(data.head.1 == last, || format!("the head says audit index {}, the log {last}", data.head.1));
    let newest = data.state.iter().map(|row| row.version).chain(data.events.iter().map(|event| event.commit));
    let newest = newest.chain([commit]).max().unwrap_or_default();
    findings.claim(data.head.0 >= newest, || format!("commit {newest} is newer than the head, {}", data.head.0));
}

/// What a cell changed, what it published and what the auditor reads came in one commit.
fn one_unit(facts: &Facts<'_>, findings: &mut Findings) {
    let entry_of = |commit: i64| match facts.successes.get(&commit).map(Vec::as_slice) {
        Some([(entry, _)]) => Ok(*entry),
        other => Err(other.map_or(0, <[_]>::len)),
    };
    for event in &facts.data.events {
        match entry_of(event.commit) {
            Ok(entry) => {
                let same = entry.correlation == event.correlation && entry.tenant == event.tenant;
                findings.claim(same, || format!("event {} and its audit entry are of two requests", event.sequence));
            }
            Err(count) => {
                let mut text = String::new();
                let _infallible = write!(text, "event {} ({}) has {count} audit entries", event.sequence, event.kind);
                findings.0.push(text);
            }
        }
    }
    for row in facts.data.state.iter().filter(|row| row.space != "kernel") {
        match entry_of(row.version) {
            Ok(entry) => findings.claim(entry.tenant == row.tenant, || format!("{} is of another tenant", row.key)),
            Err(count) => findings.0.push(format!("{} of {} has {count} audit entries", row.key, row.space)),
        }
    }
}
