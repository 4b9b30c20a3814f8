//! Compiled code is kept between starts, and only what this kernel wrote is run. That every changed byte is noticed is
//! tested beside the cache itself; here the cells answer all the same.

use std::fs;
use std::path::PathBuf;

use aibos::auth::seal::MasterKey;
use aibos::cell::compiled::Counts;
use aibos::kernel::compiled_dir;
use suite::cell::Guest;
use suite::database::Backend;
use suite::kernel::{TestKernel, text};

use super::variant::renamed;

on_both_kernels!(
    a_start_compiles_nothing_that_was_compiled_before,
    code_that_this_kernel_did_not_write_is_made_anew,
    a_directory_that_cannot_be_used_costs_only_time,
);

/// The probe, and the ledger without its routes.
async fn install_two(test: &TestKernel) -> [PathBuf; 2] {
    let olga = test.owner().await;
    let mut paths = [PathBuf::new(), PathBuf::new()];
    for (guest, path) in [Guest::probe(), Guest::finance("ledger")].into_iter().zip(&mut paths) {
        let made = guest.upload(&olga, "?activate=true").await.expect(201);
        let name = text(&made["digest"]).replace("sha256:", "") + ".code";
        *path = compiled_dir(&test.config().data_dir).join(name);
    }
    paths
}

fn counts(test: &TestKernel) -> Counts {
    test.kernel.registry.compiler.counts()
}

async fn all_answer(test: &TestKernel) {
    test.anonymous().get("/probe/ping").await.done(200);
    let cells = test.owner().await.get("/api/v1/cells").await.expect(200);
    let states: Vec<&str> = cells["data"].as_array().unwrap().iter().map(|cell| text(&cell["state"])).collect();
    assert_eq!(states, ["active", "active"]);
}

async fn a_start_compiles_nothing_that_was_compiled_before(mut test: TestKernel) {
    let olga = test.owner().await;
    let paths = install_two(&test).await;
    assert_eq!(counts(&test), Counts { hits: 0, misses: 2, rejected: 0 });
    assert!(paths.iter().all(|path| path.is_file()));
    // The same component under another name is compiled already.
    renamed(Guest::probe(), "twin").upload(&olga, "").await.done(201);
    assert_eq!(counts(&test), Counts { hits: 1, misses: 2, rejected: 0 });
    test.restart().await;
    assert_eq!(counts(&test), Counts { hits: 2, misses: 0, rejected: 0 });
    test.anonymous().get("/probe/ping").await.done(200);
}

async fn code_that_this_kernel_did_not_write_is_made_anew(mut test: TestKernel) {
    let [probe, ledger] = install_two(&test).await;
    let (ours, other) = (fs::read(&probe).unwrap(), fs::read(&ledger).unwrap());
    let foreign = {
        let stranger = TestKernel::start_with(Backend::Sqlite, |config| config.master_key = MasterKey::new([1; 32]));
        let stranger = stranger.await;
        let [probe, _] = install_two(&stranger).await;
        fs::read(probe).unwrap()
    };
    let mut flipped = ours.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for (what, changed_probe, changed_ledger, rejected) in [
        ("a byte", &flipped, &other[..other.len() / 2], 2),
        ("exchanged", &other, &ours[..], 2),
        ("of another master key", &foreign, &other[..], 1),
    ] {
        test.stop().await;
        fs::write(&probe, changed_probe).unwrap();
        fs::write(&ledger, changed_ledger).unwrap();
        test.start_again(|_| ()).await;
        assert_eq!(counts(&test), Counts { hits: 2 - rejected, misses: 0, rejected }, "{what}");
        all_answer(&test).await;
    }
    test.restart().await;
    assert_eq!(counts(&test), Counts { hits: 2, misses: 0, rejected: 0 });
    all_answer(&test).await;
}

async fn a_directory_that_cannot_be_used_costs_only_time(mut test: TestKernel) {
    install_two(&test).await;
    test.stop().await;
    let directory = compiled_dir(&test.config().data_dir);
    fs::remove_dir_all(&directory).unwrap();
    fs::write(&directory, b"a file in its place").unwrap();
    test.start_again(|_| ()).await;
    assert_eq!(counts(&test), Counts::default());
    all_answer(&test).await;
}
