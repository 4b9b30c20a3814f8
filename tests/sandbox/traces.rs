//! What calls leave behind for a tenant: state, events, notes, stored replies, audit entries and reports.

use aibos::state::unit::ReplyKey;
use aibos::state::{Scan, Space};
use serde_json::Value;
use suite::actor::{Actor, Reply};
use suite::kernel::{TestKernel, text};

/// Everything that some cells keep for a tenant, except the audit entries of their calls.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Traces {
    /// `CELL/KEY` and value, in key order.
    pub(crate) state: Vec<(String, String)>,
    /// `SOURCE TYPE SUBJECT`, in order.
    pub(crate) events: Vec<String>,
    /// Actions of notes, newest first.
    pub(crate) notes: Vec<String>,
}

impl Traces {
    /// What is there now.
    pub(crate) async fn of(test: &TestKernel, owner: &Actor, cells: &[&str]) -> Self {
        let mut traces = Self::default();
        for cell in cells {
            let space = Space { tenant: owner.tenant_id.parse().unwrap(), name: (*cell).into() };
            let all = Scan { space, prefix: String::new(), after: None, limit: 10_000 };
            for entry in test.kernel.storage.scan(&all).await.unwrap() {
                let value = String::from_utf8_lossy(&entry.versioned.value).into_owned();
                traces.state.push((format!("{cell}/{}", entry.key), value));
            }
            let notes = test.audit(owner, &format!("cell.{cell}.staged")).await;
            traces.notes.extend(notes.iter().map(|note| text(&note["action"]).to_owned()));
        }
        let log = owner.get("/api/v1/events?limit=200").await.expect(200);
        let line =
            |event: &Value| format!("{} {} {}", text(&event["source"]), text(&event["type"]), text(&event["subject"]));
        traces.events = log["data"].as_array().unwrap().iter().map(line).collect();
        traces
    }
}

/// Whether a reply is stored for a user's key at a route.
pub(crate) async fn is_stored(test: &TestKernel, user: &Actor, route: &str, key: &str) -> bool {
    let key = ReplyKey {
        tenant: user.tenant_id.parse().unwrap(),
        principal: format!("user:{}", user.id),
        route: route.to_owned(),
        key: key.to_owned(),
    };
    test.kernel.storage.reply(&key).await.unwrap().is_some()
}

/// The audit entries of the request that got this reply, newest first.
pub(crate) async fn audited(reader: &Actor, reply: &Reply) -> Vec<Value> {
    let path = format!("/api/v1/audit?correlation_id={}&limit=200", reply.header("x-correlation-id"));
    reader.get(&path).await.expect(200)["data"].as_array().unwrap().clone()
}

/// The report of the request that got this reply; exactly one must be there.
#[track_caller]
pub(crate) fn report_of(traps: &Value, reply: &Reply) -> Value {
    let of_reply = |report: &&Value| report["correlation_id"] == reply.header("x-correlation-id");
    let mut reports = traps["data"].as_array().unwrap().iter().filter(of_reply);
    let report = reports.next().expect("the failure has a report").clone();
    assert_eq!(reports.next(), None, "a failure is reported once");
    report
}
