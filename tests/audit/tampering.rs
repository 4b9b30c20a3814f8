//! Somebody with every right on the database changes the log behind the kernel's back. Each change is found, and the place
//! is named. Triggers are dropped first, as a superuser would.

use std::fmt::Write;

use aibos::audit::check::Report;
use aibos::audit::export;
use aibos::id::TenantId;
use aibos::storage::Storage;
use aibos::storage::audit_tree::RawEntry;
use suite::kernel::TestKernel;

use super::{entry, grow, keep, verify};

on_both_kernels!(
    a_changed_bit_of_an_entry_is_found,
    a_changed_tree_or_checkpoint_is_found,
    a_removed_moved_or_rewritten_entry_is_found,
    a_cut_off_tail_is_found_by_a_kept_checkpoint,
    a_log_that_was_cut_off_under_a_kernel_is_never_signed_again,
    a_lost_key_is_not_replaced,
    a_tenant_is_not_told_the_ids_of_others,
    a_changed_export_is_found,
);

/// A log of some 700 entries of two tenants under eight checkpoints, without its triggers.
async fn log(test: &TestKernel) -> [TenantId; 2] {
    let kernel = &test.kernel;
    let tenants = [TenantId::new(&kernel.clock), TenantId::new(&kernel.clock)];
    kernel.seal_audit().await;
    for _ in 0..7 {
        grow(kernel, tenants, 100).await;
    }
    for table in ["audit", "audit_tile", "audit_checkpoint"] {
        let sql = match kernel.storage {
            Storage::Sqlite(_) => format!("drop trigger {table}_refuses_update; drop trigger {table}_refuses_delete"),
            Storage::Postgres(_) => format!("alter table {table} disable trigger {table}_append_only"),
        };
        test.database.execute(&sql).await.expect("a superuser drops triggers");
    }
    let report = verify(kernel, &[keep(kernel).await]).await;
    assert!(report.ok && report.sealed == report.checked && report.checked >= 700, "{report:?}");
    tenants
}

/// Changes something, verifies, changes it back.
async fn tampered(test: &TestKernel, change: &str, back: &str) -> Report {
    test.database.execute(change).await.unwrap_or_else(|cause| panic!("{change}: {cause}"));
    let report = verify(&test.kernel, &[]).await;
    test.database.execute(back).await.unwrap_or_else(|cause| panic!("{back}: {cause}"));
    report
}

#[track_caller]
fn assert_names(report: &Report, index: u64, words: &str) {
    let problem = report.problem.as_deref().unwrap_or("nothing was found");
    assert!(
        !report.ok && report.first_bad_index == Some(index) && problem.contains(words),
        "{index} {words}: {report:?}"
    );
}

/// What a column holds.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Bytes,
    Uuid,
}

fn literal(storage: &Storage, kind: Kind, bytes: &[u8]) -> String {
    let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a string takes everything");
        hex
    });
    match (storage, kind) {
        (Storage::Sqlite(_), Kind::Text) => format!("cast(x'{hex}' as text)"),
        (Storage::Sqlite(_), Kind::Bytes | Kind::Uuid) => format!("x'{hex}'"),
        (Storage::Postgres(_), Kind::Text) => format!("convert_from('\\x{hex}', 'UTF8')"),
        (Storage::Postgres(_), Kind::Bytes) => format!("'\\x{hex}'::bytea"),
        (Storage::Postgres(_), Kind::Uuid) => format!("'{hex}'::uuid"),
    }
}

/// The bytes with one bit changed; which one follows from the seed. A text stays ASCII without U+0000.
fn flipped(bytes: &[u8], seed: usize) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    let at = seed % bytes.len();
    let bit = (0..7).map(|step| (seed / bytes.len() + step) % 7).find(|bit| bytes[at] != 1 << bit).unwrap();
    changed[at] ^= 1 << bit;
    changed
}

async fn a_changed_bit_of_an_entry_is_found(test: TestKernel) {
    log(&test).await;
    let storage = &test.kernel.storage;
    for (seed, index) in [0, 255, 256, 400, 511, 512, 699].into_iter().enumerate() {
        let row: RawEntry = storage.audit_rows(index, index + 1).await.unwrap().remove(0);
        let columns = [
            ("body", Kind::Text, &row.1),
            ("leaf", Kind::Bytes, &row.2),
            ("id", Kind::Uuid, &row.3),
            ("tenant", Kind::Uuid, &row.4),
            ("actor", Kind::Text, &row.6),
            ("action", Kind::Text, &row.7),
            ("outcome", Kind::Text, &row.8),
            ("correlation", Kind::Uuid, &row.9),
        ];
        for (number, (column, kind, bytes)) in columns.into_iter().enumerate() {
            let set = |bytes: &[u8]| {
                format!("update audit set {column} = {} where idx = {index}", literal(storage, kind, bytes))
            };
            let changed = flipped(bytes, seed * 7919 + number * 104_729);
            let report = tampered(&test, &set(&changed), &set(bytes)).await;
            assert_names(&report, u64::try_from(index).unwrap(), &format!("entry {index}"));
        }
        let at = |delta: &str| format!("update audit set at = at {delta} where idx = {index}");
        let report = tampered(&test, &at("+ 1"), &at("- 1")).await;
        assert_names(&report, u64::try_from(index).unwrap(), "column at");
    }
    let order = |number: i64| format!("update audit set commit_sequence = {number} where idx = 300");
    let commit = storage.audit_rows(300, 301).await.unwrap()[0].10;
    assert_names(&tampered(&test, &order(0), &order(commit)).await, 300, "earlier commit");
    assert!(verify(&test.kernel, &[]).await.ok);
}

async fn a_changed_tree_or_checkpoint_is_found(test: TestKernel) {
    log(&test).await;
    let storage = &test.kernel.storage;
    for position in 0..2 {
        let tile = storage.audit_tile(0, position).await.unwrap().expect("it is full");
        for (column, bytes) in [("root", &tile.root), ("hashes", &tile.hashes)] {
            for seed in [0, 5003, 70_001] {
                let set = |bytes: &[u8]| {
                    let value = literal(storage, Kind::Bytes, bytes);
                    format!("update audit_tile set {column} = {value} where position = {position}")
                };
                let report = tampered(&test, &set(&flipped(bytes, seed)), &set(bytes)).await;
                let begin = u64::try_from(position).unwrap() * 256;
                let inside = if column == "hashes" { u64::try_from(seed % bytes.len() / 32).unwrap() } else { 0 };
                assert_names(&report, begin + inside, &format!("tile {position} of level 0"));
            }
        }
    }
    let place = |from: i64, to: i64| format!("update audit_tile set position = {to} where position = {from}");
    assert_names(&tampered(&test, &place(1, 3), &place(3, 1)).await, 256, "tile 1 of level 0 is missing");
    let (entries, newest) = storage.audit_end().await.unwrap();
    let checkpoints = storage.audit_checkpoints(0, entries, 100).await.unwrap();
    assert!(checkpoints.len() >= 8 && newest == Some(entries));
    for (number, (size, note)) in checkpoints.iter().enumerate() {
        let set = |bytes: &[u8]| {
            format!("update audit_checkpoint set note = {} where size = {size}", literal(storage, Kind::Bytes, bytes))
        };
        for seed in (0..10).map(|step| number * 31 + step * 1009) {
            let report = tampered(&test, &set(&flipped(note, seed)), &set(note)).await;
            let problem = report.problem.expect("it is found");
            assert!(problem.starts_with(&format!("checkpoint {size}: ")), "{problem}");
        }
        let line = note.split_inclusive(|byte| *byte == b'\n').next_back().unwrap();
        let report = tampered(&test, &set(&[&note[..], line].concat()), &set(note)).await;
        assert!(report.problem.is_some_and(|problem| problem.contains("more than the one signature")));
        let other = |from: i64, to: i64| format!("update audit_checkpoint set size = {to} where size = {from}");
        let report = tampered(&test, &other(*size, size ^ 1), &other(size ^ 1, *size)).await;
        assert!(!report.ok, "{size}");
    }
    assert!(verify(&test.kernel, &[]).await.ok);
}

/// SQL that writes an entry with another action, so that its text, leaf hash and copies agree.
fn rewriting(storage: &Storage, row: &RawEntry, action: &str) -> String {
    let text = String::from_utf8(row.1.clone()).unwrap().replace("payment.create", action);
    let leaf = aibos::audit::leaf_hash(&text);
    let (body, leaf) = (literal(storage, Kind::Text, text.as_bytes()), literal(storage, Kind::Bytes, &leaf));
    format!("update audit set body = {body}, leaf = {leaf}, action = '{action}' where idx = {}", row.0)
}

async fn a_removed_moved_or_rewritten_entry_is_found(mut test: TestKernel) {
    log(&test).await;
    let storage = test.kernel.storage.clone();
    let newest = storage.audit_end().await.unwrap().1.unwrap();
    let early = storage.audit_rows(100, 101).await.unwrap().remove(0);
    let (change, back) = (rewriting(&storage, &early, "payment.cancel"), rewriting(&storage, &early, "payment.create"));
    assert_names(&tampered(&test, &change, &back).await, 100, "entry 100 and tile 0 of level 0");
    let swap = "update audit set idx = -1 where idx = 10; update audit set idx = 10 where idx = 20;
        update audit set idx = 20 where idx = -1";
    assert_names(&tampered(&test, swap, swap).await, 10, "entry 10");
    let (gone, again) = ("update audit set idx = -400 where idx = 400", "update audit set idx = 400 where idx = -400");
    assert_names(&tampered(&test, gone, again).await, 400, "entry 400 is missing");
    let (more, less) =
        ("update head set audit_index = audit_index - 1", "update head set audit_index = audit_index + 1");
    assert!(!tampered(&test, more, less).await.ok);

    // In no full tile yet: the checkpoints say between which two it was.
    let late = storage.audit_rows(newest - 30, newest - 29).await.unwrap().remove(0);
    let (change, back) = (rewriting(&storage, &late, "payment.cancel"), rewriting(&storage, &late, "payment.create"));
    let before = u64::try_from(newest - 100).unwrap();
    assert_names(&tampered(&test, &change, &back).await, before, "the log was rewritten");
    assert!(verify(&test.kernel, &[]).await.ok);

    // A kernel that starts on a rewritten log signs nothing more.
    test.stop().await;
    let newest = test.database.open().await;
    let (_, last) = newest.audit_end().await.unwrap();
    newest.close().await;
    test.database.execute(&change).await.unwrap();
    test.start_again(|_| ()).await;
    let tenant = TenantId::new(&test.clock);
    grow(&test.kernel, [tenant, tenant], 2).await;
    let (entries, signed) = test.kernel.storage.audit_end().await.unwrap();
    assert!(signed == last && entries > last.unwrap(), "{entries} {signed:?} {last:?}");
    test.database.execute(&back).await.unwrap();
    test.kernel.seal_audit().await;
    assert_eq!(test.kernel.storage.audit_end().await.unwrap(), (entries, Some(entries)));
}

async fn a_cut_off_tail_is_found_by_a_kept_checkpoint(test: TestKernel) {
    log(&test).await;
    let kernel = &test.kernel;
    let early = keep(kernel).await;
    grow(kernel, [TenantId::PLATFORM; 2], 60).await;
    let kept = keep(kernel).await;
    let size = kept.size;
    test.database
        .execute(&format!("delete from audit where idx >= {}; update head set audit_index = {}", size - 20, size - 21))
        .await
        .unwrap();
    assert_names(&verify(kernel, &[]).await, size - 20, "a stored checkpoint");
    test.database.execute(&format!("delete from audit_checkpoint where size > {}", size - 20)).await.unwrap();
    assert!(verify(kernel, &[]).await.ok, "nothing in the database tells it any more");
    assert_names(
        &verify(kernel, &[early.clone(), kept.clone()]).await,
        size - 20,
        "the kept checkpoint was signed for",
    );

    // Everything that could tell is removed, and the history is another one.
    let row = kernel.storage.audit_rows(300, 301).await.unwrap().remove(0);
    test.database.execute(&rewriting(&kernel.storage, &row, "payment.cancel")).await.unwrap();
    test.database.execute("delete from audit_checkpoint; delete from audit_tile").await.unwrap();
    assert!(verify(kernel, &[]).await.ok);
    assert_names(&verify(kernel, &[early]).await, 0, "not what the kept checkpoint");
}

/// SQL that takes the last entries away, with every tile and checkpoint over them.
fn cutting(storage: &Storage, size: i64) -> String {
    let tables = ["audit", "audit_tile", "audit_checkpoint"];
    let free = tables.map(|table| match storage {
        Storage::Sqlite(_) => format!("drop trigger {table}_refuses_delete"),
        Storage::Postgres(_) => format!("alter table {table} disable trigger {table}_append_only"),
    });
    format!(
        "{}; delete from audit where idx >= {size}; delete from audit_checkpoint where size > {size};
        delete from audit_tile where position >= {}; update head set audit_index = {}",
        free.join("; "),
        size / 256,
        size - 1
    )
}

async fn a_log_that_was_cut_off_under_a_kernel_is_never_signed_again(mut test: TestKernel) {
    let tenant = TenantId::new(&test.clock);
    grow(&test.kernel, [tenant; 2], 300).await;
    let kept = keep(&test.kernel).await;
    let size = i64::try_from(kept.size).unwrap() - 20;
    test.database.execute(&cutting(&test.kernel.storage, size)).await.unwrap();
    let signed = test.kernel.storage.audit_end().await.unwrap().1;
    // One look while it is shorter, or none: it grows past what it was, over a full tile.
    for count in [5, 300, 3] {
        grow(&test.kernel, [tenant; 2], count).await;
        assert_eq!(test.kernel.storage.audit_end().await.unwrap().1, signed);
    }
    assert_eq!(test.kernel.storage.last_audit_tile(0).await.unwrap(), Some(0));
    assert!(!verify(&test.kernel, std::slice::from_ref(&kept)).await.ok);

    // Between two looks of another kernel.
    test.restart().await;
    grow(&test.kernel, [tenant; 2], 3).await;
    let (entries, newest) = test.kernel.storage.audit_end().await.unwrap();
    assert_eq!(newest, Some(entries));
    let audit = std::iter::repeat_with(|| entry(&test.kernel, tenant, "payment.create")).take(30).collect();
    let cut = format!(
        "delete from audit where idx >= {0}; delete from audit_checkpoint where size > {0};
        update head set audit_index = {1}",
        entries - 10,
        entries - 11
    );
    test.database.execute(&cut).await.unwrap();
    test.kernel.commit(aibos::state::unit::Unit { audit, ..Default::default() }).await.unwrap();
    let newest = test.kernel.storage.audit_end().await.unwrap().1;
    test.kernel.seal_audit().await;
    assert_eq!(test.kernel.storage.audit_end().await.unwrap().1, newest);
}

async fn a_lost_key_is_not_replaced(mut test: TestKernel) {
    grow(&test.kernel, [TenantId::PLATFORM; 2], 3).await;
    test.stop().await;
    let lost = test.database.execute("delete from state where cast(key as text) like '%checkpoint-key%'").await;
    lost.expect("a superuser deletes");
    let told = test.try_start(test.config()).await.expect_err("it does not start").to_string();
    assert!(told.contains("identity"), "{told}");
}

async fn a_tenant_is_not_told_the_ids_of_others(test: TestKernel) {
    let olga = test.owner().await;
    let anna = test.tenant("acme").await;
    log(&test).await;
    let row = test.kernel.storage.audit_rows(300, 301).await.unwrap().remove(0);
    test.database.execute(&rewriting(&test.kernel.storage, &row, "payment.cancel")).await.unwrap();
    test.database.execute("update audit set action = 'odd' where idx = 200").await.unwrap();
    let told = async |reader: &suite::actor::Actor| {
        let report = reader.post("/api/v1/audit/verify", &serde_json::json!({})).await.expect(200);
        assert!(report["ok"] == false && report["first_bad_index"] == 200, "{report}");
        suite::kernel::text(&report["problem"]).to_owned()
    };
    assert!(told(&olga).await.starts_with("entry 200 (id "));
    assert!(told(&anna).await.starts_with("entry 200: "));
}

async fn a_changed_export_is_found(test: TestKernel) {
    let anna = test.tenant("acme").await;
    let rival = TenantId::new(&test.clock);
    let own: TenantId = anna.tenant_id.parse().unwrap();
    for _ in 0..3 {
        grow(&test.kernel, [rival, rival], 7).await;
        grow(&test.kernel, [own, rival], 9).await;
    }
    let kept = keep(&test.kernel).await;
    let good = anna.get("/api/v1/audit/export").await.text.into_bytes();
    let key = test.kernel.sealer.key();
    let proved = |bytes: &[u8]| export::verify(bytes, Some(key), std::slice::from_ref(&kept)).unwrap();
    let report = proved(&good);
    assert!(report.ok && report.checked >= 15 && report.sealed == kept.size, "{report:?}");
    assert!(!String::from_utf8(good.clone()).unwrap().contains(&rival.to_string()));
    let found = |bytes: &[u8], what: &str| {
        let problem = proved(bytes).problem.unwrap_or_else(|| panic!("{what} is not found"));
        assert!(problem.contains("line ") || problem.contains("entry "), "{what}: {problem}");
    };
    for step in 0..1500 {
        let bit = step * 7919 % (good.len() * 8);
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        found(&bad, &format!("bit {bit}"));
    }
    let lines: Vec<&[u8]> = good.split_inclusive(|byte| *byte == b'\n').collect();
    for number in 0..lines.len() {
        found(&[&lines[..number], &lines[number + 1..]].concat().concat(), &format!("the missing line {number}"));
        let mut swapped = lines.clone();
        swapped.swap(number, (number + 1) % lines.len());
        found(&swapped.concat(), &format!("the moved line {number}"));
    }
    found(&good[..good.len() - 1], "the missing last byte");
    found(&[&good[..], b"\n"].concat(), "the added line");
    // A forger without the key can only make another log.
    let other = TestKernel::start(suite::database::Backend::Sqlite).await;
    other
        .kernel
        .commit(aibos::state::unit::Unit {
            audit: vec![entry(&other.kernel, own, "payment.create")],
            ..Default::default()
        })
        .await
        .unwrap();
    other.kernel.seal_audit().await;
    let olga = other.owner().await;
    let forged = olga.get("/api/v1/audit/export").await.text;
    let report = export::verify(forged.as_bytes(), Some(key), &[]).unwrap();
    assert!(report.problem.is_some_and(|problem| problem.contains("the key is not")));
}
