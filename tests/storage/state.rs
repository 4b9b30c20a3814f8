//! Keys, values, versions and lists.

use aibos::state::unit::{Conflict, Read, Verdict, Write};
use aibos::state::{Entry, Space};
use bytes::Bytes;

use super::{Subject, writing};

on_both_backends! {
    a_bound_holds_on_what_the_unit_itself_wrote,
    what_was_put_is_read_with_the_version_of_its_commit,
    a_read_keeps_the_order_of_its_keys,
    spaces_and_tenants_do_not_see_each_other,
    a_deleted_key_is_absent,
    values_of_any_bytes_and_the_longest_survive,
    a_list_is_in_byte_order_within_its_bounds,
    more_keys_than_a_statement_can_bind,
    validate_sees_every_kind_of_change,
    nothing_read_is_always_valid,
    an_id_of_its_own_is_taken_for_absent_and_checked,
    many_read_at_once,
}

async fn what_was_put_is_read_with_the_version_of_its_commit(subject: Subject) {
    let first = subject.accept(writing([subject.put("a", "1"), subject.put("b", "2")])).await;
    let second = subject.accept(writing([subject.put("b", "3")])).await;
    assert_eq!((first.sequence, second.sequence), (1, 2));
    assert_eq!(subject.read("a").await, Some(("1".into(), 1)));
    assert_eq!(subject.read("b").await, Some(("3".into(), 2)));
}

async fn a_read_keeps_the_order_of_its_keys(subject: Subject) {
    subject.accept(writing([subject.put("a", "1"), subject.put("z", "2"), subject.put("\u{e9}/%_", "3")])).await;
    let keys = ["z", "missing", "\u{e9}/%_", "a", "z"].map(|key| subject.key(key));
    let found = subject.storage.read(&keys).await.unwrap();
    let values: Vec<_> = found.into_iter().map(|found| found.map(|found| found.value)).collect();
    let [one, two, three] = ["1", "2", "3"].map(|value| Some(Bytes::from(value)));
    assert_eq!(values, [two.clone(), None, three, one, two]);
    assert_eq!(subject.storage.read(&[]).await.unwrap(), []);
}

async fn spaces_and_tenants_do_not_see_each_other(subject: Subject) {
    let other_space = Space { tenant: subject.tenant, name: "hub".into() };
    let other_tenant = Space { tenant: aibos::id::TenantId::PLATFORM, name: "ledger".into() };
    let puts = [(&other_space, "hub"), (&other_tenant, "platform"), (&subject.space(), "ledger")]
        .map(|(space, value)| Write::Put(space.key("same"), Bytes::from_static(value.as_bytes())));
    subject.accept(writing(puts)).await;
    let keys = [other_tenant.key("same"), subject.key("same"), other_space.key("same")];
    let found = subject.storage.read(&keys).await.unwrap();
    let values: Vec<_> = found.into_iter().map(|found| found.unwrap().value).collect();
    assert_eq!(values, ["platform", "ledger", "hub"]);
    assert_eq!(subject.storage.scan(&subject.scan("", None, 10)).await.unwrap().len(), 1);
}

async fn a_deleted_key_is_absent(subject: Subject) {
    subject.accept(writing([subject.put("a", "1"), subject.put("b", "1")])).await;
    subject.accept(writing([Write::Delete(subject.key("a")), Write::Delete(subject.key("never"))])).await;
    assert_eq!(subject.read("a").await, None);
    assert_eq!(subject.read("b").await, Some(("1".into(), 1)));
}

async fn values_of_any_bytes_and_the_longest_survive(subject: Subject) {
    let all: Bytes = (0..=255_u8).collect();
    let longest = Bytes::from(vec![0xa5; aibos::limit::STATE_VALUE_BYTES_MAX]);
    let key = "k".repeat(aibos::limit::STATE_KEY_BYTES_MAX);
    subject
        .accept(writing([
            Write::Put(subject.key("all"), all.clone()),
            Write::Put(subject.key("empty"), Bytes::new()),
            Write::Put(subject.key(&key), longest.clone()),
        ]))
        .await;
    let keys = ["all", "empty", key.as_str()].map(|key| subject.key(key));
    let found = subject.storage.read(&keys).await.unwrap();
    let values: Vec<_> = found.into_iter().map(|found| found.unwrap().value).collect();
    assert_eq!(values, [all, Bytes::new(), longest]);
}

/// Sorted by bytes, which differs from the order of most languages and of UTF-16.
const ODD: [&str; 14] = [
    "A",
    "a",
    "a%",
    "a/",
    "a/Z",
    "a/_",
    "a/a",
    "a/z",
    "a/\u{df}",
    "a/\u{e9}",
    "a/\u{ffff}",
    "a/\u{10000}",
    "a/\u{10ffff}",
    "a0",
];

async fn a_list_is_in_byte_order_within_its_bounds(subject: Subject) {
    let shuffled = [7, 0, 12, 3, 9, 1, 13, 5, 11, 2, 8, 4, 10, 6];
    subject.accept(writing(shuffled.map(|index: usize| subject.put(ODD[index], ODD[index])))).await;
    let afters = ODD.iter().copied().map(Some).chain([None, Some(""), Some("a/m")]);
    for after in afters {
        for prefix in ["", "a", "a/", "a%", "a/\u{10ffff}", "\u{10ffff}", "b", "a/\u{ffff}"] {
            for limit in [1, 3, 100] {
                let expected: Vec<&str> = ODD
                    .into_iter()
                    .filter(|key| key.starts_with(prefix) && after.is_none_or(|after| *key > after))
                    .take(limit)
                    .collect();
                let scan = subject.scan(prefix, after, u32::try_from(limit).unwrap());
                let found = subject.storage.scan(&scan).await.unwrap();
                let keys: Vec<&str> = found.iter().map(|entry| entry.key.as_str()).collect();
                assert_eq!(keys, expected, "{scan:?}");
                assert!(found.iter().all(|entry| entry.versioned.value == entry.key.as_bytes()));
            }
        }
    }
}

async fn more_keys_than_a_statement_can_bind(subject: Subject) {
    let keys: Vec<String> = (0..12_000).map(|number| format!("entry/{number:05}")).collect();
    let units: Vec<_> = keys.chunks(1000).map(|keys| writing(keys.iter().map(|key| subject.put(key, key)))).collect();
    subject.commit(&units).await;
    let wanted: Vec<_> = keys.iter().map(|key| subject.key(key)).collect();
    let found = subject.storage.read(&wanted).await.unwrap();
    assert!(found.iter().zip(&keys).all(|(found, key)| found.as_ref().unwrap().value == key.as_bytes()));
    subject.accept(writing(wanted.into_iter().map(Write::Delete))).await;
    assert_eq!(subject.storage.scan(&subject.scan("", None, 1)).await.unwrap(), Vec::<Entry>::new());
}

async fn validate_sees_every_kind_of_change(subject: Subject) {
    subject.accept(writing(["a", "b", "d"].map(|key| subject.put(key, "1")))).await;
    let listed = |limit| {
        let seen: Vec<_> = ["a", "b", "d"].iter().take(limit).map(|key| ((*key).to_owned(), 1)).collect();
        Read::Range(subject.scan("", None, u32::try_from(limit).unwrap()), seen)
    };
    let reads = [
        Read::Key(subject.key("a"), Some(1)),
        Read::Key(subject.key("x"), None),
        Read::Key(subject.key("d"), Some(1)),
        listed(2),
        listed(10),
    ];
    let valid = async |reads: &[Read]| subject.storage.validate(reads).await.unwrap();
    assert!(valid(&reads).await);
    assert!(!valid(&[Read::Key(subject.key("a"), Some(2))]).await, "another version");
    assert!(!valid(&[Read::Key(subject.key("a"), None)]).await, "present, seen absent");
    assert!(!valid(&[Read::Key(subject.key("x"), Some(1))]).await, "absent, seen present");

    subject.accept(writing([subject.put("c", "1")])).await;
    assert!(valid(&reads[..4]).await, "the new key is behind the end of the short list");
    assert!(!valid(&reads).await, "the new key is in the long list");
    subject.accept(writing([Write::Delete(subject.key("b"))])).await;
    assert!(!valid(&reads[3..4]).await, "a listed key is gone");
}

async fn nothing_read_is_always_valid(subject: Subject) {
    subject.storage.close().await;
    assert!(subject.storage.validate(&[]).await.unwrap(), "the database is not even asked");
}

async fn a_bound_holds_on_what_the_unit_itself_wrote(subject: Subject) {
    let work = aibos::state::work::Work::new(subject.storage.clone());
    let key = Space::kernel(subject.tenant).key("counter");
    work.put(key.clone(), Bytes::from_static(b"5")).unwrap();
    assert!(work.add_bounded(key.clone(), -5, 0).await.unwrap());
    assert!(!work.add_bounded(key.clone(), -1, 0).await.unwrap());
    assert_eq!(work.read(&key).await.unwrap(), Some(Bytes::from_static(b"0")));
}

async fn an_id_of_its_own_is_taken_for_absent_and_checked(subject: Subject) {
    let id = "01a20036-c7d4-7166-a18f-f23148427e25";
    let [own, longer] = [format!("payment/{id}/1"), format!("payment/{id}1")].map(|key| subject.key(&key));
    let work = aibos::state::work::Work::new(subject.storage.clone());
    work.issue(id);
    assert_eq!(work.read(&own).await.unwrap(), None);
    assert!(work.still_valid().await.unwrap());
    work.put(own.clone(), Bytes::from_static(b"mine")).unwrap();
    assert_eq!(work.read(&own).await.unwrap(), Some(Bytes::from_static(b"mine")));

    // It cannot happen to an id that is new. If it did, nothing would rest on it.
    let theirs = |key: &aibos::state::StateKey| Write::Put(key.clone(), Bytes::from_static(b"theirs"));
    subject.accept(writing([theirs(&own), theirs(&longer)])).await;
    assert_eq!(work.read(&longer).await.unwrap(), Some(Bytes::from_static(b"theirs")), "only whole parts are ids");
    assert!(!work.still_valid().await.unwrap());
    assert_eq!(subject.commit(&[work.finish()]).await, [Verdict::Conflicted(Conflict::Read)]);

    // Who reads one state of the database reads it there.
    let pinned = aibos::state::work::Work::new(subject.storage.clone()).pinned().await.unwrap();
    pinned.issue(id);
    assert_eq!(pinned.read(&own).await.unwrap(), Some(Bytes::from_static(b"theirs")));
    pinned.unpin().await;
}

/// More than two at once gather in common statements; each is told its own.
async fn many_read_at_once(subject: Subject) {
    let keys: Vec<_> = (0..100).map(|number| subject.key(&format!("k{number:03}"))).collect();
    let puts = keys.iter().step_by(2).map(|key| Write::Put(key.clone(), Bytes::from(key.key.clone())));
    subject.accept(writing(puts)).await;
    let mut asked = tokio::task::JoinSet::new();
    for first in 0..100 {
        let (storage, some) = (subject.storage.clone(), keys[first..100.min(first + first % 5)].to_vec());
        asked.spawn(async move { (storage.read_gathered(&some).await.unwrap(), some) });
    }
    for (found, some) in asked.join_all().await {
        let values: Vec<_> = found.into_iter().map(|found| found.map(|found| found.value)).collect();
        let stored = |key: &aibos::state::StateKey| key.key[1..].parse::<usize>().unwrap().is_multiple_of(2);
        let expected: Vec<_> = some.iter().map(|key| stored(key).then(|| Bytes::from(key.key.clone()))).collect();
        assert_eq!(values, expected);
    }
}
