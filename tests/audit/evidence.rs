//! What an auditor gets from a running kernel, and checks without believing it.

use aibos::audit::checkpoint::Checkpoint;
use aibos::audit::note::VerifierKey;
use aibos::audit::proof::{ConsistencyProof, InclusionProof};
use aibos::command::{Arguments, Failure, run};
use aibos::id::TenantId;
use aibos::state::unit::Unit;
use aibos::storage::Storage;
use clap::Parser;
use jiff::SignedDuration;
use serde_json::{Value, json};
use suite::actor::Actor;
use suite::database::Backend;
use suite::kernel::{TestKernel, text};

use super::{entry, grow, keep, newest_note, verify};

on_both_kernels!(
    an_entry_is_proved_against_a_signed_checkpoint,
    a_later_log_is_proved_to_continue_an_earlier_one,
    the_log_is_verified_and_exported_from_the_command_line,
    reading_the_log_is_audited_and_a_storm_of_it_counted,
    without_audit_there_is_no_change_and_no_reading,
    what_was_signed_is_never_changed,
);

const AUDIT: &str = "/api/v1/audit";

async fn key(anyone: &Actor) -> VerifierKey {
    let published = anyone.get("/.well-known/audit-key").await.expect(200);
    assert_eq!(published["origin"], "kernel.test/audit");
    text(&published["key"]).parse().expect("a verifier key")
}

async fn an_entry_is_proved_against_a_signed_checkpoint(test: TestKernel) {
    let olga = test.owner().await;
    let anna = test.tenant("acme").await;
    let key = key(&test.anonymous()).await;
    test.kernel.seal_audit().await;
    let old = keep(&test.kernel).await;
    let entry = test.audit(&anna, "auth.login").await.remove(0);
    grow(&test.kernel, [TenantId::PLATFORM; 2], 300).await;
    let path = format!("{AUDIT}/{}/proof", text(&entry["id"]));
    olga.get(&path).await.refused(404, "NOT_FOUND");
    anna.get(&format!("{path}?size=100000")).await.invalid("/query/size");
    anna.get(&format!("{path}?size=0")).await.invalid("/query/size");
    anna.get(&format!("{path}?size=-1")).await.invalid("/query/size");
    for (size, query) in [(None, String::new()), (Some(old.size), format!("?size={}", old.size))] {
        let reply = anna.get(&format!("{path}{query}")).await.expect(200);
        let proof: InclusionProof = serde_json::from_value(reply).unwrap();
        let note = proof.checkpoint.clone().expect("it was signed at this size");
        let checkpoint = Checkpoint::open(&note, &key).unwrap();
        assert!(proof.holds(&checkpoint) && size.is_none_or(|size| size == checkpoint.size), "{proof:?}");
        assert_eq!(entry["index"], proof.index);
        let stored: Value = serde_json::from_str(&proof.text).unwrap();
        assert_eq!(stored["id"], entry["id"]);
        let mut other = proof.clone();
        other.text = proof.text.replace("auth.login", "auth.logout");
        assert!(!other.holds(&checkpoint));
        let other = InclusionProof { id: aibos::id::AuditId::new(&test.kernel.clock), ..proof.clone() };
        assert!(!other.holds(&checkpoint));
        assert!(!proof.holds(&Checkpoint { size: checkpoint.size + 1, ..checkpoint }));
    }
    // Between two checkpoints there is a proof, but nothing signed to hold it against.
    let between = anna.get(&format!("{path}?size={}", old.size + 7)).await.expect(200);
    assert!(between["checkpoint"].is_null() && between["hashes"].as_array().is_some_and(|path| !path.is_empty()));

    anna.post("/api/v1/roles", &json!({ "name": "clerk" })).await.done(201);
    let new = test.audit(&anna, "role.create").await.remove(0);
    let path = format!("{AUDIT}/{}/proof", text(&new["id"]));
    let reply = anna.get(&path).await;
    // The kernel's own second may have passed.
    if reply.status != 200 {
        assert_eq!(reply.header("retry-after"), "1");
        reply.refused(409, "AUDIT_NOT_SEALED");
    }
    test.kernel.seal_audit().await;
    anna.get(&path).await.done(200);
}

async fn a_later_log_is_proved_to_continue_an_earlier_one(test: TestKernel) {
    let olga = test.owner().await;
    let key = key(&test.anonymous()).await;
    let latest = format!("{AUDIT}/checkpoints/latest");
    let mut kept: Vec<Checkpoint> = Vec::new();
    for count in [3, 1, 250, 90] {
        grow(&test.kernel, [TenantId::PLATFORM; 2], count).await;
        let reply = olga.get(&latest).await.expect(200);
        let checkpoint = Checkpoint::open(text(&reply["checkpoint"]), &key).unwrap();
        assert_eq!((reply["size"].clone(), &reply["root"]), (json!(checkpoint.size), &json!(checkpoint.root)));
        assert_eq!(text(&reply["key"]), key.to_string());
        kept.push(checkpoint);
    }
    for (number, old) in kept.iter().enumerate() {
        for new in &kept[number..] {
            let path = format!("{AUDIT}/consistency?from={}&to={}", old.size, new.size);
            let proof: ConsistencyProof = serde_json::from_value(olga.get(&path).await.expect(200)).unwrap();
            assert_eq!(Checkpoint::open(proof.checkpoint.as_deref().unwrap(), &key).as_ref(), Ok(new));
            assert!(proof.holds(old, new), "{proof:?}");
            let mut forged = old.clone();
            forged.root.0[7] ^= 1;
            assert!(!proof.holds(&forged, new));
            for (from, to) in [(proof.from + 1, proof.to), (proof.from, proof.to + 1)] {
                let other = ConsistencyProof { from, to, ..proof.clone() };
                assert!(!other.holds(old, new), "it says that it proves something else");
            }
        }
    }
    olga.get(&format!("{AUDIT}/consistency?from=9&to=100000")).await.invalid("/query/to");
    olga.get(&format!("{AUDIT}/consistency?from=9&to=8")).await.invalid("/query/from");
    let report = olga.post(&format!("{AUDIT}/verify"), &json!({})).await.expect(200);
    assert!(report["ok"] == true && report["checked"].as_u64() >= Some(344), "{report}");
    let note = json!({ "checkpoints": ["no note"] });
    olga.post(&format!("{AUDIT}/verify"), &note).await.invalid("/checkpoints/0");
    let metrics = test.anonymous().get("/metrics").await;
    assert!(metrics.status == 200);
}

async fn the_log_is_verified_and_exported_from_the_command_line(test: TestKernel) {
    let anna = test.tenant("acme").await;
    grow(&test.kernel, [anna.tenant_id.parse().unwrap(), TenantId::PLATFORM], 30).await;
    let directory = std::env::temp_dir().join(format!("aibos-audit-{}", anna.id));
    std::fs::create_dir_all(&directory).unwrap();
    let (url, token) = (test.url(), anna.token.clone().unwrap());
    let file = |name: &str| directory.join(name).display().to_string();
    let (log, kept) = (file("log.ndjson"), file("kept.txt"));
    let aibos = async |words: &[&str]| -> Result<(), Failure> {
        let signed_in = ["--url", url.as_str(), "--token", token.as_str()];
        let words = ["aibos", "audit"].iter().chain(words).chain(&signed_in);
        run(Arguments::try_parse_from(words).expect("the words are a command")).await
    };
    aibos(&["checkpoint", &kept]).await.unwrap();
    aibos(&["export", &log]).await.unwrap();
    grow(&test.kernel, [TenantId::PLATFORM; 2], 5).await;
    for words in [
        &["verify"][..],
        &["verify", "--json", "--checkpoint", &kept],
        &["verify", "--export", &log],
        &["verify", "--export", &log, "--checkpoint", &kept],
    ] {
        aibos(words).await.unwrap();
    }
    // What was kept lies between entries of others.
    let middle = file("middle.txt");
    grow(&test.kernel, [TenantId::PLATFORM; 2], 7).await;
    std::fs::write(&middle, newest_note(&test.kernel).await).unwrap();
    grow(&test.kernel, [TenantId::PLATFORM; 2], 7).await;
    aibos(&["checkpoint", &kept]).await.expect_err("what is kept is not overwritten");
    aibos(&["checkpoint", "--key", &test.kernel.sealer.key().to_string(), &file("later.txt")]).await.unwrap();
    aibos(&["export", &log]).await.unwrap();
    let told = aibos(&["verify", "--export", &log, "--checkpoint", &middle]).await.expect_err("it is not shown").0;
    assert!(told.contains("cannot be compared") && !told.contains("does not hold"), "{told}");
    aibos(&["export", "--checkpoint", &kept, "--checkpoint", &middle, &log]).await.unwrap();
    aibos(&["verify", "--export", &log, "--checkpoint", &kept, "--checkpoint", &middle]).await.unwrap();
    anna.get(&format!("{AUDIT}/export?at=1,x")).await.invalid("/query/at");
    anna.get(&format!("{AUDIT}/export?at=100000")).await.invalid("/query/at");
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 4, "no part of a download is left");
    let good = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, good.replacen("payment.create", "payment.cancel", 1)).unwrap();
    let told = aibos(&["verify", "--export", &log]).await.expect_err("it is found").0;
    assert!(told.starts_with("the audit log does not hold: entry "), "{told}");
    let note = std::fs::read_to_string(&kept).unwrap();
    std::fs::write(&kept, note.replacen('\n', "\n1", 1)).unwrap();
    let told = aibos(&["verify", "--checkpoint", &kept]).await.expect_err("nobody signed this").0;
    assert!(told.contains("kept.txt: the signature of kernel.test/audit"), "{told}");
    let stranger = ["aibos", "audit", "verify", "--key", "stranger"];
    assert!(Arguments::try_parse_from(stranger).is_err(), "a wrong key is a wrong usage");
    std::fs::remove_dir_all(&directory).unwrap();
}

async fn reading_the_log_is_audited_and_a_storm_of_it_counted(test: TestKernel) {
    let anna = test.tenant("acme").await;
    let ada = test.user(&anna, "ada", &["kernel.audit.read"]).await;
    ada.get("/api/v1/roles").await.refused(403, "FORBIDDEN");
    test.kernel.seal_audit().await;
    let entry = ada.get(&format!("{AUDIT}?limit=1")).await.expect(200)["data"][0].clone();
    for path in
        ["export".into(), "checkpoints/latest".into(), "consistency?from=1".into(), text(&entry["id"]).to_owned()]
    {
        ada.get(&format!("{AUDIT}/{path}")).await.done(200);
    }
    ada.post(&format!("{AUDIT}/verify"), &Value::Null).await.done(200);
    let read = async |reader: &Actor| -> Vec<Value> {
        let entries = test.audit(reader, "audit.read").await.into_iter();
        entries.filter(|entry| entry["actor"]["id"] == ada.id.as_str()).collect()
    };
    let entries = read(&anna).await;
    let targets: Vec<&str> = entries.iter().rev().map(|entry| text(&entry["target"]["id"])).collect();
    let expected =
        ["audit.list", "audit.export", "audit.checkpoint", "audit.consistency", "audit.read", "audit.verify"];
    assert_eq!(targets, expected);
    assert!(entries.iter().all(|entry| entry["outcome"] == "success"));
    let details = |name: &str| &entries.iter().find(|read| read["target"]["id"] == name).unwrap()["details"];
    assert_eq!(details("audit.read")["entry_id"], entry["id"]);
    assert_eq!(details("audit.list")["filter"], json!({}));
    assert!(details("audit.export")["to"].is_u64() && details("audit.consistency")["from"] == 1);
    for _ in 0..7 {
        ada.get(&format!("{AUDIT}/export")).await.done(200);
    }
    let entries = read(&anna).await;
    let exports = entries.iter().filter(|entry| entry["target"]["id"] == "audit.export");
    assert_eq!(exports.count(), 8, "an export is never held back");
    for _ in 0..20 {
        ada.get(AUDIT).await.done(200);
    }
    assert_eq!(read(&anna).await.len(), 6 + 7 + 4, "five of a kind are written, the others counted");
    test.pass(SignedDuration::from_mins(2));
    ada.get(AUDIT).await.done(200);
    test.kernel.write_storms(aibos::audit::storm::Ending::All).await;
    let counted: Vec<Value> =
        read(&anna).await.into_iter().filter(|entry| entry["details"]["count"].is_u64()).collect();
    assert!(counted.len() == 1 && counted[0]["details"]["count"] == 16, "{counted:?}");
}

async fn without_audit_there_is_no_change_and_no_reading(test: TestKernel) {
    let anna = test.tenant("acme").await;
    let refuse = match test.kernel.storage {
        Storage::Sqlite(_) => {
            "create trigger disk_full before insert on audit begin select raise(abort, 'the disk is full'); end"
        }
        Storage::Postgres(_) => {
            "create trigger disk_full before insert on audit for each row execute function refuse_change()"
        }
    };
    test.database.execute(refuse).await.unwrap();
    let role = json!({ "name": "clerk" });
    anna.post("/api/v1/roles", &role).await.refused(503, "STORAGE_UNAVAILABLE");
    anna.get(AUDIT).await.refused(503, "STORAGE_UNAVAILABLE");
    let roles = anna.get("/api/v1/roles").await.expect(200);
    assert!(!roles.to_string().contains("clerk"), "{roles}");
    let mended = match test.kernel.storage {
        Storage::Sqlite(_) => "drop trigger disk_full",
        Storage::Postgres(_) => "drop trigger disk_full on audit",
    };
    test.database.execute(mended).await.unwrap();
    anna.post("/api/v1/roles", &role).await.done(201);
    assert_eq!(test.audit(&anna, "role.create").await.len(), 1);
}

async fn what_was_signed_is_never_changed(mut test: TestKernel) {
    grow(&test.kernel, [TenantId::PLATFORM; 2], 300).await;
    for table in ["audit_tile", "audit_checkpoint"] {
        let column = if table == "audit_tile" { "position" } else { "size" };
        for (operation, sql) in [
            ("UPDATE", format!("update {table} set {column} = {column} + 1")),
            ("DELETE", format!("delete from {table}")),
        ] {
            let told = test.database.execute(&sql).await.expect_err(&sql).to_string();
            assert!(told.contains(&format!("table {table} is append-only: {operation} is refused")), "{told}");
        }
        if let Storage::Postgres(_) = test.kernel.storage {
            let told =
                test.database.execute(&format!("truncate {table}")).await.expect_err("it is refused").to_string();
            assert!(told.contains("TRUNCATE is refused"), "{told}");
        }
    }
    // Sizes never shrink and every state continues the one before, also across restarts.
    let mut kept = vec![keep(&test.kernel).await];
    for count in [1, 260, 7] {
        test.restart().await;
        grow(&test.kernel, [TenantId::PLATFORM; 2], count).await;
        kept.push(keep(&test.kernel).await);
    }
    assert!(kept.is_sorted_by_key(|checkpoint| checkpoint.size));
    let report = verify(&test.kernel, &kept).await;
    assert!(report.ok && report.sealed == report.checked, "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_kernels_on_one_database_sign_one_history() {
    let test = TestKernel::start(Backend::Postgres).await;
    let other = test.try_start(test.config()).await.expect("a second kernel starts");
    assert_eq!(test.kernel.sealer.key(), other.sealer.key());
    let mut kept = Vec::new();
    for count in [40, 230, 300, 3, 90] {
        tokio::join!(
            grow(&test.kernel, [TenantId::PLATFORM; 2], count),
            grow(&other, [TenantId::PLATFORM; 2], count + 11)
        );
        // Each leaves the next signature to the other when that one has signed since.
        for kernel in [&test.kernel, &other, &test.kernel, &other] {
            kernel.seal_audit().await;
        }
        kept.push(keep(&other).await);
    }
    // The one that leaves the signature to the other knows that it is given.
    for _ in 0..9 {
        let audit = |count| std::iter::repeat_with(|| entry(&other, TenantId::PLATFORM, "a")).take(count).collect();
        grow(&other, [TenantId::PLATFORM; 2], 2).await;
        other.seal_audit().await;
        other.commit(Unit { audit: audit(2), ..Unit::default() }).await.unwrap();
        test.kernel.seal_audit().await;
        test.pass(SignedDuration::from_secs(10));
    }
    let age = test.kernel.sealer.age_seconds(&test.clock);
    assert!(age <= 30, "{age}");
    for kernel in [&test.kernel, &other, &test.kernel, &other] {
        kernel.seal_audit().await;
    }
    let report = verify(&other, &kept).await;
    assert!(report.ok && report.sealed == report.checked && report.checked > 1300, "{report:?}");
    other.stop().await;
}
