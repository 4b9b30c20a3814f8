//! Changed logs: events, the audit log, the head, and stored replies.

use suite::kernel::TestKernel;

use super::corrupt::Intruder;

async fn a_changed_event_log_is_found(test: TestKernel) {
    let intruder = Intruder::begin(test).await;
    let own = format!("tenant = {}", intruder.id());
    let place = |from: i64, to: i64| format!("update event set sequence = {to} where {own} and sequence = {from}");
    intruder.changes(&place(7, 9000), &place(9000, 7), &["event 7: expected it after event 6"]).await;
    let swap = [place(1, -1), place(4, 1), place(-1, 4)].join(";");
    let back = [place(4, -1), place(1, 4), place(-1, 1)].join(";");
    intruder.changes(&swap, &back, &["event 2: expected a commit from"]).await;
    let last = format!("(select max(sequence) from event where {own})");
    let move_last = |by: &str| format!("update event set sequence = sequence {by} where {own} and sequence = {last}");
    intruder.changes(&move_last("+ 1"), &move_last("- 1"), &["expected it after event"]).await;
    let given = |change: &str| format!("update tenant_sequence set sequence = sequence {change} where {own}");
    intruder.changes(&given("+ 1"), &given("- 1"), &["expected the log to end at event"]).await;
    let kind = |from: &str, to: &str| format!("update event set kind = '{to}' where {own} and kind = '{from}'");
    let words = ["refund ", "expected one event refund.failed about it, found 0"];
    intruder.changes(&kind("refund.failed", "refund.lost"), &kind("refund.lost", "refund.failed"), &words).await;
    let commit = |change: &str| {
        format!("update event set commit_sequence = commit_sequence {change} where {own} and sequence = 1")
    };
    intruder.changes(&commit("- 1"), &commit("+ 1"), &["event 1 (", "expected an audit entry of success"]).await;
}

async fn a_changed_head_or_audit_log_is_found(test: TestKernel) {
    let intruder = Intruder::begin(test).await;
    let head = |column: &str, change: &str| format!("update head set {column} = {column} {change}");
    intruder.changes(&head("sequence", "- 50"), &head("sequence", "+ 50"), &["record ", "expected a version"]).await;
    intruder.changes(&head("audit_index", "+ 1"), &head("audit_index", "- 1"), &["audit index", "missing"]).await;
    intruder.changes(&head("audit_index", "- 1"), &head("audit_index", "+ 1"), &["audit index", "cut off"]).await;
    let outcome = |to: &str| format!("update audit set outcome = '{to}' where idx = 5");
    intruder.changes(&outcome("denied"), &outcome("success"), &["audit index 5", "column outcome"]).await;
    let place = |from: i64, to: i64| format!("update audit set idx = {to} where idx = {from}");
    let swap = [place(5, -1), place(6, 5), place(-1, 6)].join(";");
    intruder.changes(&swap, &swap, &["audit index"]).await;
}

async fn a_changed_reply_is_found(test: TestKernel) {
    let intruder = Intruder::begin(test).await;
    let status = |to: u16, key: &str| format!("update idempotency set status = {to} where idempotency_key = '{key}'");
    intruder.changes(&status(200, "late"), &status(201, "late"), &["idempotency key \"late\"", "audit entry"]).await;
    let (_, record) = intruder.find("payment-hub", "payment/", "\"succeeded\"").await;
    let id: serde_json::Value = serde_json::from_str(&record).unwrap();
    let id = id["transaction_id"].as_str().unwrap();
    let copy = "insert into idempotency select tenant, principal, route, 'twice', fingerprint, status, headers, body,
        created_at, expires_at from idempotency where idempotency_key = 'late'";
    let remove = "delete from idempotency where idempotency_key = 'twice'";
    intruder.changes(copy, remove, &["idempotency key \"twice\"", "which another key made"]).await;
    let (before, after) = (intruder.reply("late").await, "0".repeat(id.len()));
    let body = |text: &str| {
        format!("update idempotency set body = {} where idempotency_key = 'late'", intruder.bytes(text.as_bytes()))
    };
    let told = serde_json::from_str::<serde_json::Value>(&before).unwrap()["transaction_id"].clone();
    let other = before.replace(told.as_str().unwrap(), &after);
    intruder.changes(&body(&other), &body(&before), &["idempotency key \"late\"", &after, "found none"]).await;
}

on_both_kernels!(a_changed_event_log_is_found, a_changed_head_or_audit_log_is_found, a_changed_reply_is_found);
