//! A backup of a running kernel, made as `docs/operations.md` says, is restored into an empty place, verified, and gone on
//! with: sequences continue, old keys are answered as before.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use aibos::command::verify::verify;
use aibos::storage::{SqliteStorage, Storage};
use serde_json::json;
use suite::database::{Backend, Database};
use suite::kernel::{PASSWORD, TestKernel};

use super::{act, assert_holds, merchant, mixed, pay};

async fn a_backup_is_restored_and_gone_on_with(mut test: TestKernel) {
    let acme = merchant(&test).await;
    let acme = mixed(&test, &acme).await;
    let before = pay(&acme, "before", "tok_ok", false).await.expect(201);
    test.kernel.seal_audit().await;
    let kept = acme.get("/api/v1/audit/checkpoints/latest").await.expect(200)["checkpoint"].clone();
    let kept = [kept.as_str().expect("a note").to_owned()];

    // Somebody pays all the time while the backup is made.
    let paying = acme.clone();
    #[expect(clippy::disallowed_methods, reason = "awaited below")]
    let load = tokio::spawn(async move {
        for number in 0..20 {
            pay(&paying, &format!("during-{number}"), "tok_ok", true).await.done(201);
        }
    });
    let backup = test.config().data_dir.join("backup");
    fs::create_dir_all(&test.config().data_dir).expect("a directory can be made");
    back_up(&test, &backup).await;
    load.await.expect("the load ends well");
    let lost = pay(&acme, "after", "tok_ok", false).await.expect(201);
    test.stop().await;

    let restored = restore(&test, &backup).await;
    let report = verify(restored.url(), None, &kept).await.expect("the restored database can be read");
    assert_holds(&report);
    assert!((16..=36).contains(&report.checked.payments), "{:?}", report.checked);
    test.start_again(|config| restored.url().clone_into(&mut config.database_url)).await;

    let acme = test.sign_in("acme", "owner@acme.test", PASSWORD).await;
    let again = pay(&acme, "before", "tok_ok", false).await;
    assert_eq!((again.header("idempotency-replayed"), again.status), ("true", 201));
    assert_eq!(again.json, before);
    let sequence = report.checked.events;
    acme.post("/api/v1/events", &json!({ "type": "note.made", "data": {} })).await.done(201);
    let newest = acme.get(&format!("/api/v1/events?after={}", sequence - 1)).await.expect(200);
    let numbers: Vec<_> = newest["data"].as_array().unwrap().iter().map(|event| event["sequence"].as_u64()).collect();
    assert_eq!(numbers, [Some(sequence), Some(sequence + 1)]);
    // What came after the backup is not there, and is made anew.
    let anew = pay(&acme, "after", "tok_ok", false).await.expect(201);
    assert_ne!(anew["transaction_id"], lost["transaction_id"]);
    act(&acme, &before, "refunds", json!({ "amount": 10 })).await.done(201);
    test.kernel.seal_audit().await;
    assert_holds(&verify(restored.url(), None, &kept).await.expect("the restored database can be read"));
    test.stop().await;
}

async fn back_up(test: &TestKernel, to: &Path) {
    match test.kernel.storage {
        Storage::Sqlite(_) => {
            let bytes = SqliteStorage::back_up(test.database.url(), to).await.expect("a copy can be made");
            assert!(bytes > 0);
            SqliteStorage::back_up(test.database.url(), to).await.expect_err("a backup is not written over");
        }
        Storage::Postgres(_) => {
            run(Command::new(program("pg_dump")).arg("--format=custom").arg("--file").arg(to).arg(test.database.url()));
        }
    }
}

async fn restore(test: &TestKernel, from: &Path) -> Database {
    let Storage::Sqlite(_) = test.kernel.storage else {
        let empty = Database::fresh(Backend::Postgres).await;
        let options = ["--single-transaction", "--no-owner", "--dbname", empty.url()];
        run(Command::new(program("pg_restore")).args(options).arg(from));
        return empty;
    };
    let empty = Database::fresh(Backend::Sqlite).await;
    let place = PathBuf::from(empty.url().trim_start_matches("sqlite://"));
    fs::create_dir_all(place.parent().expect("a directory")).expect("a directory can be made");
    fs::copy(from, place).expect("a backup is a file");
    empty
}

/// A program of `PostgreSQL`, the newest that is installed.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = versions.map(|version| version.path().join("bin").join(name)).collect();
    versions.retain(|path| path.is_file());
    versions.sort();
    versions.pop().unwrap_or_else(|| PathBuf::from(name))
}

fn run(command: &mut Command) {
    let output = command.output().expect("the programs of PostgreSQL are installed");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

on_both_kernels!(a_backup_is_restored_and_gone_on_with);
