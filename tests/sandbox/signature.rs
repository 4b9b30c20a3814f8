//! Once keys are named, only what one of them signed gets in, becomes active, or is loaded at a start.

use aibos::cell::signature::Signer;
use aibos::kernel::compiled_dir;
use serde_json::{Value, json};
use suite::actor::Actor;
use suite::cell::Guest;
use suite::kernel::{TestKernel, text};

use super::variant::renamed;

on_both_kernels!(
    without_keys_a_signature_is_kept_and_must_fit,
    with_keys_only_signed_cells_get_in,
    what_is_active_and_not_trusted_does_not_start,
    stored_bytes_that_changed_do_not_run,
);

fn signer() -> Signer {
    Signer::generate().unwrap()
}

fn signed(guest: &Guest, signer: &Signer) -> String {
    format!("{}\n", signer.sign(&guest.component, &guest.manifest))
}

async fn trusting(test: &mut TestKernel, signers: &[&Signer]) {
    let keys = signers.iter().map(|signer| signer.key().to_string()).collect::<Vec<_>>().join(",");
    test.restart_with(|config| config.cell_keys = keys.parse().unwrap()).await;
}

fn reason(problem: &Value) -> &str {
    assert_eq!(problem["reasons"][0]["code"], "BAD_SIGNATURE", "{problem}");
    text(&problem["reasons"][0]["message"])
}

async fn version(olga: &Actor, name: &str) -> Value {
    olga.get(&format!("/api/v1/cells/{name}/versions")).await.expect(200)["data"][0].clone()
}

async fn without_keys_a_signature_is_kept_and_must_fit(test: TestKernel) {
    let olga = test.owner().await;
    let (anna, shop) = (signer(), renamed(Guest::probe(), "shop"));
    for (wrong, told) in [
        ("", "one line"),
        ("not a signature", "one line"),
        (signed(&shop, &anna).replace("ed25519", "rsa").as_str(), "one line"),
        (signed(&Guest::probe(), &anna).as_str(), "changed after it was signed"),
    ] {
        let problem = shop.upload_signed(&olga, "", wrong).await.refused(422, "CELL_REJECTED");
        assert!(reason(&problem).contains(told), "{problem}");
    }
    olga.get("/api/v1/cells/shop").await.refused(404, "NOT_FOUND");
    let made = shop.upload(&olga, "?activate=true").await.expect(201);
    assert_eq!(made["signed_by"], Value::Null);
    let made = shop.upload_signed(&olga, "", &signed(&shop, &anna)).await.expect(201);
    assert_eq!(made["signed_by"], anna.key().to_string());
    assert_eq!(version(&olga, "shop").await["signed_by"], made["signed_by"]);
    assert_eq!(shop.upload(&olga, "").await.expect(201), made, "the same content is the same version");
    let uploads = test.audit(&olga, "cell.upload").await;
    assert_eq!(uploads.len(), 2, "what changed nothing is not audited");
    assert_eq!(uploads[0]["details"]["signed_by"], anna.key().to_string());
}

async fn with_keys_only_signed_cells_get_in(mut test: TestKernel) {
    let olga = test.owner().await;
    let (anna, ben, mallory) = (signer(), signer(), signer());
    trusting(&mut test, &[&anna, &ben]).await;
    let olga = olga.at(&test.url());
    let shop = renamed(Guest::probe(), "shop");
    let unsigned = shop.upload(&olga, "?activate=true").await.refused(422, "CELL_REJECTED");
    assert!(reason(&unsigned).contains("`aibos cell sign --key FILE`"), "{unsigned}");
    assert!(reason(&unsigned).contains(&anna.key().to_string()), "{unsigned}");
    let strange = shop.upload_signed(&olga, "", &signed(&shop, &mallory)).await.refused(422, "CELL_REJECTED");
    assert!(reason(&strange).contains(&mallory.key().to_string()), "{strange}");
    // Signed before the manifest asked for more.
    let greedy = shop.clone().with("fuel = 50_000_000", "fuel = 90_000_000");
    let changed = greedy.upload_signed(&olga, "", &signed(&shop, &anna)).await.refused(422, "CELL_REJECTED");
    assert!(reason(&changed).contains("changed after it was signed"), "{changed}");
    olga.get("/api/v1/cells/shop").await.refused(404, "NOT_FOUND");
    let made = shop.upload_signed(&olga, "?activate=true", &signed(&shop, &ben)).await.expect(201);
    assert_eq!((text(&made["status"]), text(&made["signed_by"])), ("active", ben.key().to_string().as_str()));
}

async fn what_is_active_and_not_trusted_does_not_start(mut test: TestKernel) {
    let olga = test.owner().await;
    let (anna, ben) = (signer(), signer());
    let (probe, shop) = (Guest::probe(), renamed(Guest::probe(), "shop"));
    probe.upload(&olga, "?activate=true").await.done(201);
    shop.upload_signed(&olga, "?activate=true", &signed(&shop, &anna)).await.done(201);
    trusting(&mut test, &[&anna]).await;
    let olga = olga.at(&test.url());
    let activate = async |name: &str, olga: &Actor| {
        olga.post(&format!("/api/v1/cells/{name}/activate"), &json!({ "version": "1.0.0" })).await
    };
    test.anonymous().get("/probe/ping").await.refused(404, "NOT_FOUND");
    assert_eq!(olga.get("/api/v1/cells/probe").await.expect(200)["state"], "stopped");
    assert_eq!(olga.get("/api/v1/cells/shop").await.expect(200)["state"], "active");
    let problem = activate("probe", &olga).await.refused(422, "CELL_REJECTED");
    assert!(reason(&problem).contains("not signed"), "{problem}");
    // The same version again, signed now: it serves at once.
    probe.upload_signed(&olga, "?activate=true", &signed(&probe, &anna)).await.done(201);
    test.anonymous().get("/probe/ping").await.done(200);
    activate("probe", &olga).await.done(200);
    // The key is no longer trusted.
    trusting(&mut test, &[&ben]).await;
    let olga = olga.at(&test.url());
    test.anonymous().get("/probe/ping").await.refused(404, "NOT_FOUND");
    let problem = activate("probe", &olga).await.refused(422, "CELL_REJECTED");
    assert!(reason(&problem).contains(&anna.key().to_string()), "{problem}");
    trusting(&mut test, &[&ben, &anna]).await;
    test.anonymous().get("/probe/ping").await.done(200);
}

async fn stored_bytes_that_changed_do_not_run(mut test: TestKernel) {
    let olga = test.owner().await;
    let anna = signer();
    let (probe, other) = (Guest::probe(), renamed(Guest::finance("ledger").with("\"ledger\"", "\"probe\""), "other"));
    probe.upload_signed(&olga, "?activate=true", &signed(&probe, &anna)).await.done(201);
    other.upload(&olga, "").await.done(201);
    test.stop().await;
    std::fs::remove_dir_all(compiled_dir(&test.config().data_dir)).unwrap();
    // An intruder puts other code under the digest that was signed.
    let digest = |guest: &Guest| aibos::cell::version::digest_of(&guest.component);
    let swap = format!(
        "update state set value = (select value from state where key = 'component/{}') where key = 'component/{}'",
        digest(&other),
        digest(&probe)
    );
    test.database.execute(&swap).await.unwrap();
    test.start_again(|config| config.cell_keys = anna.key().to_string().parse().unwrap()).await;
    test.anonymous().get("/probe/ping").await.refused(404, "NOT_FOUND");
    let olga = olga.at(&test.url());
    assert_eq!(olga.get("/api/v1/cells/probe").await.expect(200)["state"], "stopped");
    let problem = other.upload(&olga, "?activate=true").await.refused(422, "CELL_REJECTED");
    assert!(reason(&problem).contains("not signed"), "{problem}");
}
