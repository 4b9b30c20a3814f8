//! The two logs: events of a tenant, and the audit log.

use std::fmt::Write;

use aibos::audit::{self, AuditQuery, Outcome, Party};
use aibos::event::EventQuery;
use aibos::id::{AuditId, BatchId, NodeId, TenantId};
use aibos::state::unit::Unit;
use aibos::storage::StorageError;
use jiff::SignedDuration;
use serde_json::json;

use super::{Subject, receipt, writing};

on_both_backends! {
    an_event_is_read_as_it_was_published,
    events_are_numbered_for_each_tenant_without_gaps,
    events_are_found_by_type_and_subject,
    an_audit_entry_is_read_as_it_was_written,
    audit_is_searched_newest_first,
    the_stored_text_is_what_the_leaf_covers,
    a_corrupt_entry_is_reported,
    the_last_batch_of_a_node_is_remembered,
}

fn all_of(tenant: TenantId) -> EventQuery {
    EventQuery { tenant, kind: None, subject: None, after: 0, limit: 1000 }
}

async fn an_event_is_read_as_it_was_published(subject: Subject) {
    let mut event = subject.chosen_event("order-1");
    event.subject = Some("payment/\u{1f600}".into());
    event.data = r#"{ "amount" : 1.50, "note":"\u0000 kept as text" }"#.into();
    event.traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into());
    subject.accept(Unit { events: vec![event.clone()], ..Unit::default() }).await;
    let found = subject.storage.event(subject.tenant, &event.source, "order-1").await.unwrap().unwrap();
    assert_eq!(found.sequence, 1);
    event.id_chosen = false;
    assert_eq!(format!("{:?}", found.event), format!("{event:?}"));
    assert!(subject.storage.event(TenantId::PLATFORM, &event.source, "order-1").await.unwrap().is_none());
}

async fn events_are_numbered_for_each_tenant_without_gaps(subject: Subject) {
    let other = TenantId::new(&subject.clock);
    let unit = |tenants: &[TenantId]| Unit {
        events: tenants
            .iter()
            .map(|tenant| aibos::event::Event { tenant: *tenant, ..subject.event("payment.created") })
            .collect(),
        ..Unit::default()
    };
    let own = subject.tenant;
    let verdicts = subject.commit(&[unit(&[own, other, own]), unit(&[other]), unit(&[own])]).await;
    let numbers: Vec<_> = verdicts.iter().map(|verdict| receipt(verdict).events.clone()).collect();
    assert_eq!(numbers, [vec![1, 1, 2], vec![2], vec![3]]);
    assert_eq!(subject.accept(unit(&[other, own])).await.events, [3, 4]);
    for (tenant, last) in [(own, 4), (other, 3)] {
        let found = subject.storage.events(&all_of(tenant)).await.unwrap();
        let sequences: Vec<i64> = found.iter().map(|event| event.sequence).collect();
        assert_eq!(sequences, (1..=last).collect::<Vec<_>>());
    }
}

async fn events_are_found_by_type_and_subject(subject: Subject) {
    let kinds = ["payment.created", "payment.failed", "refund.succeeded", "payment_x.created", "payment.created"];
    let mut events: Vec<_> = kinds.iter().map(|kind| subject.event(kind)).collect();
    events[4].subject = Some("p-5".into());
    subject.accept(Unit { events, ..Unit::default() }).await;
    let found = async |query: EventQuery| -> Vec<i64> {
        subject.storage.events(&query).await.unwrap().iter().map(|event| event.sequence).collect()
    };
    let kind = |kind: &str| EventQuery { kind: Some(kind.into()), ..all_of(subject.tenant) };
    assert_eq!(found(kind("payment.created")).await, [1, 5]);
    assert_eq!(found(kind("payment.*")).await, [1, 2, 5]);
    assert_eq!(found(kind("*")).await, [1, 2, 3, 4, 5]);
    assert_eq!(found(kind("payment.c%")).await, [0; 0]);
    assert_eq!(found(EventQuery { after: 1, limit: 2, ..kind("payment.*") }).await, [2, 5]);
    assert_eq!(found(EventQuery { subject: Some("p-5".into()), ..all_of(subject.tenant) }).await, [5]);
    assert_eq!(found(EventQuery { limit: 2, ..all_of(subject.tenant) }).await, [1, 2]);
}

async fn an_audit_entry_is_read_as_it_was_written(subject: Subject) {
    let mut entry = subject.entry("payment.create");
    let details = json!({"amount": 100, "note": "\u{0} \u{1f600} \"", "z": {"b": 1, "a": null}});
    entry.details = serde_json::from_value(details).unwrap();
    subject.accept(Unit { audit: vec![subject.entry("first"), entry.clone()], ..Unit::default() }).await;
    let found = subject.storage.audit_entry(subject.tenant, entry.id).await.unwrap().unwrap();
    assert_eq!((found.index, found.entry.text()), (1, entry.text()));
    assert!(subject.storage.audit_entry(TenantId::PLATFORM, entry.id).await.unwrap().is_none(), "another tenant");
    assert!(subject.storage.audit_entry(subject.tenant, AuditId::new(&subject.clock)).await.unwrap().is_none());
}

async fn audit_is_searched_newest_first(subject: Subject) {
    let mut entries: Vec<_> = ["user.create", "authz.deny", "user.create", "cell.call"]
        .into_iter()
        .map(|action| {
            subject.clock.advance(SignedDuration::from_secs(1));
            subject.entry(action)
        })
        .collect();
    entries[1].outcome = Outcome::Denied;
    entries[2].actor = Party::new("user", "bob");
    entries[3].tenant_id = TenantId::PLATFORM;
    subject.accept(Unit { audit: entries.clone(), ..Unit::default() }).await;
    let found = async |query: AuditQuery| -> Vec<i64> {
        subject.storage.audit(&query).await.unwrap().iter().map(|entry| entry.index).collect()
    };
    let any = AuditQuery { limit: 10, ..AuditQuery::default() };
    let own = AuditQuery { tenant: Some(subject.tenant), ..any.clone() };
    assert_eq!(found(any.clone()).await, [3, 2, 1, 0]);
    assert_eq!(found(own.clone()).await, [2, 1, 0]);
    assert_eq!(found(AuditQuery { limit: 2, ..own.clone() }).await, [2, 1]);
    assert_eq!(found(AuditQuery { before: Some(1), ..own.clone() }).await, [0]);
    assert_eq!(found(AuditQuery { actor: Some("bob".into()), ..own.clone() }).await, [2]);
    assert_eq!(found(AuditQuery { action: Some("user.create".into()), ..own.clone() }).await, [2, 0]);
    assert_eq!(found(AuditQuery { outcome: Some("denied".into()), ..own.clone() }).await, [1]);
    let correlation_id = Some(entries[0].correlation_id);
    assert_eq!(found(AuditQuery { correlation_id, ..own.clone() }).await, [0]);
    assert_eq!(found(AuditQuery { correlation_id, ..any }).await, [0]);
    assert_eq!(found(AuditQuery { to: Some(entries[1].at), ..own.clone() }).await, [0]);
    let since = AuditQuery { from: Some(entries[1].at), ..own };
    assert_eq!(found(since.clone()).await, [2, 1]);
    assert_eq!(found(AuditQuery { limit: 1, before: Some(2), ..since.clone() }).await, [1]);
    assert_eq!(found(AuditQuery { to: Some(entries[2].at), ..since.clone() }).await, [1]);
    let of_bob = AuditQuery { actor: Some("bob".into()), action: Some("user.create".into()), ..since.clone() };
    assert_eq!(found(AuditQuery { outcome: Some("success".into()), ..of_bob }).await, [2]);
    let correlation_id = Some(entries[2].correlation_id);
    assert_eq!(found(AuditQuery { correlation_id, actor: Some("bob".into()), ..since.clone() }).await, [2]);
    assert_eq!(found(AuditQuery { correlation_id, actor: Some("ada".into()), ..since }).await, [0; 0]);
}

async fn the_stored_text_is_what_the_leaf_covers(subject: Subject) {
    let entry = subject.entry("payment.create");
    subject.accept(Unit { audit: vec![entry.clone()], ..Unit::default() }).await;
    let mut leaf = String::new();
    for byte in audit::leaf_hash(&entry.text()) {
        write!(leaf, "{byte:02X}").unwrap();
    }
    // The condition is checked by the database itself: a division by zero tells that a row differs.
    let text = entry.text().replace('\'', "''");
    let (hex, failure) = match subject.storage {
        aibos::storage::Storage::Sqlite(_) => ("hex(leaf)", "json('wrong')"),
        aibos::storage::Storage::Postgres(_) => ("upper(encode(leaf, 'hex'))", "(1 / (idx - idx))::text"),
    };
    let check = format!("select case when body = '{text}' and {hex} = '{leaf}' then '' else {failure} end from audit");
    subject.database.execute(&check).await.expect("text and leaf are stored exactly");
    let wrong = check.replace(&leaf, "00");
    assert!(subject.database.execute(&wrong).await.is_err(), "the check can fail");
}

async fn a_corrupt_entry_is_reported(subject: Subject) {
    let blob = |length: usize| match subject.storage {
        aibos::storage::Storage::Sqlite(_) => format!("x'{}'", "00".repeat(length)),
        aibos::storage::Storage::Postgres(_) if length == 16 => "'00000000-0000-0000-0000-000000000000'".into(),
        aibos::storage::Storage::Postgres(_) => format!("'\\x{}'", "00".repeat(length)),
    };
    let (id, leaf) = (blob(16), blob(32));
    let row = format!("insert into audit values (0, '{{', {leaf}, {id}, {id}, 0, '', '', '', {id}, 1)");
    subject.database.execute(&row).await.unwrap();
    match subject.storage.audit(&AuditQuery { limit: 1, ..AuditQuery::default() }).await {
        Err(StorageError::Corrupt { table: "audit", what }) => assert!(what.starts_with("entry 0: "), "{what}"),
        other => panic!("{other:?}"),
    }
}

async fn the_last_batch_of_a_node_is_remembered(subject: Subject) {
    let (other, batch) = (NodeId::new(&subject.clock), BatchId::new(&subject.clock));
    assert_eq!(subject.storage.last_batch(subject.node).await.unwrap(), None);
    subject.storage.commit(subject.node, batch, &[writing([subject.put("a", "1")])]).await.unwrap();
    assert_eq!(subject.storage.last_batch(subject.node).await.unwrap(), Some(batch));
    assert_eq!(subject.storage.last_batch(other).await.unwrap(), None);
    let later = BatchId::new(&subject.clock);
    subject.storage.commit(subject.node, later, &[writing([subject.put("a", "2")])]).await.unwrap();
    assert_eq!(subject.storage.last_batch(subject.node).await.unwrap(), Some(later));
}
