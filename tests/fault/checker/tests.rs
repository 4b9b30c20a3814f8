//! The checker finds what it claims to find: sound books pass, and each planted violation is named.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{check, check_kept, trial_balance};
use crate::fault::data::{Data, Entry, Event, Reply, Row};
use crate::fault::journal::{Attempt, Heard, Intent, Journal};
use crate::fault::operation::Operation;

const TENANT: Uuid = Uuid::from_u128(1);
const STRANGER: Uuid = Uuid::from_u128(2);
const PAID: Uuid = Uuid::from_u128(11);
const NOTED: Uuid = Uuid::from_u128(12);
const MADE: Uuid = Uuid::from_u128(13);
const AGAIN: Uuid = Uuid::from_u128(14);

/// A payment, an event and a user, each in a commit of its own, with the payment sent twice.
fn sound() -> (Journal, Data) {
    let mut data = Data { head: (3, 2), tenants: [(TENANT, 3)].into(), ..Data::default() };
    let payment = json!({
        "transaction_id": "p1", "status": "succeeded", "amount": 700, "currency": "EUR", "source": "tok_ok",
        "destination": "shop", "reference": "pay-1",
    });
    let line = |account: &str, direction: &str| json!({ "account": account, "direction": direction, "amount": 700, "currency": "EUR", "transaction_id": "p1" });
    let posted = |account: &str, direction: &str| json!({ "account": account, "direction": direction, "amount": 700, "currency": "EUR" });
    let entries = json!([posted("processor-receivable", "debit"), posted("shop", "credit")]);
    put(&mut data, "payment-hub", "payment/p1", 1, &payment);
    put(&mut data, "processor", "charge/p1", 1, &json!({ "amount": 700, "currency": "EUR" }));
    put(&mut data, "ledger", "transaction/p1", 1, &json!({ "id": "p1", "entries": entries }));
    put(&mut data, "ledger", "entry/processor-receivable/0-p1/000", 1, &line("processor-receivable", "debit"));
    put(&mut data, "ledger", "entry/shop/0-p1/001", 1, &line("shop", "credit"));
    put(&mut data, "ledger", "account/shop/EUR/posted-credits/low", 1, &json!(700));
    put(&mut data, "ledger", "account/processor-receivable/EUR/posted-debits/low", 1, &json!(700));
    put(&mut data, "ledger", "total/EUR/debits/low", 1, &json!(700));
    put(&mut data, "ledger", "total/EUR/credits/low", 1, &json!(700));
    put(&mut data, "kernel", "user/u1", 3, &json!({ "id": "u1", "email": "create-user-1@crash.test" }));
    publish(&mut data, 1, "/cells/ledger", "ledger.transaction.posted", ("e1", "p1"), (PAID, 1));
    publish(&mut data, 2, "/cells/payment-hub", "payment.succeeded", ("e2", "p1"), (PAID, 1));
    publish(&mut data, 3, "/users/u0", "crash.noted", ("publish-1", "crash"), (NOTED, 2));
    audit(&mut data, PAID, 1, &json!({ "action": "cell.call", "details": { "route": "/payments/process" } }));
    audit(&mut data, NOTED, 2, &json!({ "action": "event.publish", "target": { "id": "publish-1" } }));
    audit(&mut data, MADE, 3, &json!({ "action": "user.create", "target": { "id": "u1" } }));
    let (route, key) = ("/payments/process".to_owned(), "pay-1".to_owned());
    data.replies.push(Reply { tenant: TENANT, route, key, status: 201, body: payment.to_string().into() });

    let mut journal = Journal::default();
    let heard = |status, replayed, body: &Value| Some(Heard { status, replayed, body: body.to_string() });
    let first = Attempt { correlation: PAID.to_string(), heard: heard(201, false, &payment) };
    let second = Attempt { correlation: AGAIN.to_string(), heard: heard(201, true, &payment) };
    let asked = json!({ "amount": 700, "currency": "EUR", "source": "tok_ok", "destination": "shop" });
    meant(&mut journal, Operation::Pay, "pay-1", &asked, vec![first, second]);
    let noted = Attempt { correlation: NOTED.to_string(), heard: heard(201, false, &json!({ "id": "publish-1" })) };
    meant(&mut journal, Operation::Publish, "publish-1", &json!({}), vec![noted]);
    let made = Attempt { correlation: MADE.to_string(), heard: heard(201, false, &json!({ "id": "u1" })) };
    meant(&mut journal, Operation::CreateUser, "create-user-1", &json!({}), vec![made]);
    (journal, data)
}

fn put(data: &mut Data, space: &str, key: &str, version: i64, value: &Value) {
    let (space, key, value) = (space.to_owned(), key.to_owned(), value.to_string().into());
    data.state.push(Row { tenant: TENANT, space, key, version, value });
}

fn publish(data: &mut Data, sequence: i64, source: &str, kind: &str, (id, subject): (&str, &str), by: (Uuid, i64)) {
    let [source, kind, id] = [source, kind, id].map(str::to_owned);
    let (subject, (correlation, commit)) = (Some(subject.to_owned()), by);
    let data_of = "{}".to_owned();
    data.events.push(Event { tenant: TENANT, sequence, id, source, kind, subject, data: data_of, correlation, commit });
}

fn audit(data: &mut Data, correlation: Uuid, commit: i64, what: &Value) {
    let mut body = what.clone();
    body["outcome"] = "success".into();
    body["correlation_id"] = correlation.to_string().into();
    body["tenant_id"] = TENANT.to_string().into();
    let body = body.to_string();
    let (index, leaf) = (i64::try_from(data.audit.len()).unwrap(), aibos::audit::leaf_hash(&body).to_vec());
    data.audit.push(Entry { index, body, leaf, tenant: TENANT, correlation, commit });
}

fn meant(journal: &mut Journal, operation: Operation, id: &str, body: &Value, attempts: Vec<Attempt>) {
    let (path, tenant) = (String::new(), TENANT.to_string());
    let intent = Intent { id: id.to_owned(), tenant, operation, path, body: body.to_string(), about: None };
    journal.intents.insert(id.to_owned(), (intent, attempts));
}

fn attempts<'a>(journal: &'a mut Journal, id: &str) -> &'a mut Vec<Attempt> {
    &mut journal.intents.get_mut(id).unwrap().1
}

fn row<'a>(data: &'a mut Data, key: &str) -> &'a mut Row {
    data.state.iter_mut().find(|row| row.key == key).unwrap()
}

/// Changes a field of a row's JSON.
fn edit(data: &mut Data, key: &str, change: impl FnOnce(&mut Value)) {
    let row = row(data, key);
    let mut value = row.json();
    change(&mut value);
    row.value = value.to_string().into();
}

fn remove(data: &mut Data, key: &str) {
    data.state.retain(|row| row.key != key);
}

#[test]
fn sound_books_pass() {
    let (journal, data) = sound();
    assert_eq!(check(&journal, &data), [""; 0]);
    assert_eq!(check_kept(&Data::default(), &data), [""; 0]);
    assert_eq!(check_kept(&data, &data), [""; 0]);
    let expected = json!({ "data": [{ "currency": "EUR", "debits": 700, "credits": 700 }] });
    assert_eq!(trial_balance(&data, TENANT), expected);
    assert_eq!(trial_balance(&data, STRANGER), json!({ "data": [] }));
}

type Plant = fn(&mut Journal, &mut Data);

/// What is planted in the data, and a part of the sentence that must name it.
const IN_DATA: [(&str, Plant); 29] = [
    ("event 3 follows 1", |_, data| drop(data.events.remove(1))),
    ("event 2 is out of the order of commits", |_, data| data.events[0].commit = 2),
    ("not the last that was numbered", |_, data| data.tenants = [(TENANT, 4)].into()),
    ("audit entry 2 stands at 1", |_, data| drop(data.audit.remove(1))),
    ("audit entry 1 is out of order", |_, data| data.audit[0].commit = 3),
    ("the leaf of audit entry 1", |_, data| data.audit[1].leaf[0] ^= 1),
    ("the columns of audit entry 0", |_, data| data.audit[0].correlation = AGAIN),
    ("the head says audit index 3", |_, data| data.head.1 = 3),
    ("commit 3 is newer than the head", |_, data| data.head.0 = 2),
    ("event 1 and its audit entry are of two requests", |_, data| data.events[0].correlation = AGAIN),
    ("event 3 (crash.noted) has 0 audit entries", |_, data| data.events[2].commit = 7),
    ("charge/p1 of processor has 0 audit entries", |_, data| row(data, "charge/p1").version = 7),
    ("payment/p1 is of another tenant", |_, data| row(data, "payment/p1").tenant = STRANGER),
    ("transaction p1 does not balance", |_, data| {
        edit(data, "transaction/p1", |value| value["entries"][0]["amount"] = 701.into());
    }),
    ("has an amount that is not positive", |_, data| {
        edit(data, "transaction/p1", |value| value["entries"][0]["amount"] = 0.into());
    }),
    ("has fewer than two entries", |_, data| edit(data, "transaction/p1", |value| value["entries"] = json!([]))),
    ("line 1 of transaction p1 is not in its account", |_, data| remove(data, "entry/shop/0-p1/001")),
    ("line 0 of transaction p1 belongs to none", |_, data| remove(data, "transaction/p1")),
    (r#"("shop", "EUR") holds Some((0, 699))"#, |_, data| {
        edit(data, "account/shop/EUR/posted-credits/low", |value| *value = 699.into());
    }),
    ("the books do not balance in EUR", |_, data| remove(data, "total/EUR/debits/low")),
    ("payment p1 left the events", |_, data| data.events[1].kind = "payment.failed".into()),
    ("which it cannot be", |_, data| edit(data, "payment/p1", |value| value["status"] = "lost".into())),
    ("is \"succeeded\" with 0 transactions", |_, data| remove(data, "transaction/p1")),
    ("payment p1 was posted in another commit", |_, data| row(data, "transaction/p1").version = 2),
    ("payment p1 was posted as another", |_, data| {
        edit(data, "payment/p1", |value| value["destination"] = "pocket".into());
    }),
    ("payment p1 was charged otherwise", |_, data| remove(data, "charge/p1")),
    ("transaction/p1 has no payment", |_, data| remove(data, "payment/p1")),
    ("payment p1 has no stored reply", |_, data| data.replies.clear()),
    ("/payments/process has 2 stored replies and 1 audit entries", |_, data| {
        let mut other = data.replies[0].clone();
        other.key = "pay-2".into();
        data.replies.push(other);
    }),
];

/// What is planted between the journals and the data.
const IN_REQUESTS: [(&str, Plant); 15] = [
    ("the reply of key pay-2 has no effect", |_, data| data.replies[0].key = "pay-2".into()),
    ("was 402, not so its payment", |_, data| data.replies[0].status = 402),
    ("pay-1 was acknowledged and its payment is not there", |_, data| remove(data, "payment/p1")),
    ("pay-1 made 2 payments", |_, data| {
        let mut twin = row(data, "payment/p1").clone();
        twin.key = "payment/p2".into();
        data.state.push(twin);
    }),
    ("pay-1 was answered in 2 ways", |journal, _| {
        attempts(journal, "pay-1")[1].heard.as_mut().unwrap().body = r#"{"transaction_id":"p9"}"#.into();
    }),
    ("pay-1 was answered 2 times as if it were new", |journal, _| {
        attempts(journal, "pay-1")[1].heard.as_mut().unwrap().replayed = false;
    }),
    ("pay-1 was answered 201 by what it did 0 times", |journal, _| {
        attempts(journal, "pay-1")[0].correlation = Uuid::from_u128(99).to_string();
    }),
    ("pay-1 was refused with 503 STORAGE_UNAVAILABLE and done all the same", |journal, _| {
        let heard = attempts(journal, "pay-1")[0].heard.as_mut().unwrap();
        (heard.status, heard.body) = (503, r#"{"code":"STORAGE_UNAVAILABLE"}"#.into());
    }),
    ("pay-1 was answered 500", |journal, _| attempts(journal, "pay-1")[0].heard.as_mut().unwrap().status = 500),
    ("pay-1 asked for", |journal, _| {
        let intent = &mut journal.intents.get_mut("pay-1").unwrap().0;
        intent.body = r#"{"amount":7,"currency":"EUR","source":"tok_ok","destination":"shop"}"#.into();
    }),
    ("the stored reply of pay-1 is not what was answered", |_, data| data.replies[0].body.push(b' ')),
    ("publish-1 was published 0 times", |_, data| data.events[2].id = "other".into()),
    ("create-user-1 is 0 users", |_, data| remove(data, "user/u1")),
    ("create-user-1 was answered with another user", |_, data| row(data, "user/u1").key = "user/u2".into()),
    ("user.create of u2 has 0 audit entries", |_, data| row(data, "user/u1").key = "user/u2".into()),
];

#[test]
fn planted_violations_are_found() {
    for (sentence, plant) in IN_DATA.into_iter().chain(IN_REQUESTS) {
        let (mut journal, mut data) = sound();
        plant(&mut journal, &mut data);
        let findings = check(&journal, &data);
        assert!(findings.iter().any(|finding| finding.contains(sentence)), "{sentence:?} is not in {findings:#?}");
    }
}

#[test]
fn an_open_outcome_may_have_happened() {
    let (mut journal, data) = sound();
    let sent = attempts(&mut journal, "pay-1");
    sent[0].heard = Some(Heard { status: 503, replayed: false, body: r#"{"code":"COMMIT_UNKNOWN"}"#.into() });
    assert_eq!(check(&journal, &data), [""; 0]);
    attempts(&mut journal, "pay-1")[0].heard = None;
    assert_eq!(check(&journal, &data), [""; 0]);
}

#[test]
fn planted_changes_of_what_was_kept_are_found() {
    let plants: [(&str, Plant); 5] = [
        ("the audit log does not begin", |_, data| data.audit[0].body.push(' ')),
        ("the audit log does not begin", |_, data| drop(data.audit.pop())),
        ("event 1 changed", |_, data| data.events[0].data = "{}{}".into()),
        ("entry/shop/0-p1/001 of the ledger was edited", |_, data| row(data, "entry/shop/0-p1/001").version = 2),
        ("the head went back", |_, data| data.head.0 = 2),
    ];
    for (sentence, plant) in plants {
        let (mut journal, before) = sound();
        let mut after = before.clone();
        plant(&mut journal, &mut after);
        let findings = check_kept(&before, &after);
        assert!(findings.iter().any(|finding| finding.contains(sentence)), "{sentence:?} is not in {findings:#?}");
    }
}
