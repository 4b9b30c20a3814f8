//! Settings and secrets: what an operator gives reaches the cell that asks for it by name, and nobody else.

use std::collections::HashMap;
use std::sync::Arc;

use aibos::cell::given::secret_key;
use aibos::state::unit::{Unit, Write};
use serde_json::{Value, json};
use suite::actor::Actor;
use suite::cell::Guest;
use suite::kernel::{TestKernel, text};

use super::traces::audited;
use super::variant::{anna_with_a_probe, renamed};

on_both_kernels!(
    a_secret_is_set_listed_and_removed_but_never_shown,
    a_reveal_is_audited_whatever_becomes_of_the_call,
    a_sealed_secret_opens_in_its_own_place_only,
    a_stored_setting_comes_before_the_file,
    what_is_not_granted_is_refused,
);

const VALUE: &str = "s3cr3t-value-of-the-operator";
const SECRET: &str = "/api/v1/cells/probe/secrets/API_KEY";

async fn give(olga: &Actor, value: &str) -> Value {
    olga.put(SECRET, &json!({ "value": value })).await.expect(200)
}

async fn ask(anna: &Actor, then: &str) -> Value {
    anna.post(&format!("/probe/secret/API_KEY?then={then}"), &json!({})).await.expect(200)
}

async fn a_secret_is_set_listed_and_removed_but_never_shown(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let olga = test.owner().await;
    let set = async |path: &str, body: Value| olga.put(&format!("/api/v1/cells/{path}"), &body).await;
    set("shop/secrets/API_KEY", json!({ "value": "x" })).await.refused(404, "NOT_FOUND");
    for wrong in ["1A", "A%20B", "-", &"A".repeat(65)] {
        set(&format!("probe/secrets/{wrong}"), json!({ "value": "x" })).await.invalid("/path/key");
    }
    for wrong in [json!({ "value": "" }), json!({ "value": "x".repeat(16 * 1024 + 1) })] {
        set("probe/secrets/API_KEY", wrong).await.invalid("/value");
    }
    set("probe/secrets/API_KEY", json!({ "value": "x", "colour": "red" })).await.refused(400, "VALIDATION_ERROR");
    olga.delete(SECRET).await.refused(404, "NOT_FOUND");
    assert_eq!(test.audit(&olga, "cell.secret.set").await, Vec::<Value>::new());

    let at = |time: &str| json!({ "name": "API_KEY", "created_at": "2027-01-15T08:00:00Z", "updated_at": time });
    assert_eq!(give(&olga, "x").await, at("2027-01-15T08:00:00Z"));
    test.pass(jiff::SignedDuration::from_secs(9));
    assert_eq!(give(&olga, VALUE).await, at("2027-01-15T08:00:09Z"));
    let listed = olga.get("/api/v1/cells/probe/secrets").await.expect(200);
    assert_eq!(listed, json!({ "data": [at("2027-01-15T08:00:09Z")], "next_cursor": null }));
    let entry = test.audit(&olga, "cell.secret.set").await.remove(0);
    assert_eq!(entry["target"], json!({ "type": "secret", "id": "probe/API_KEY" }));
    assert!(!entry.to_string().contains(VALUE));
    let stored = test.kernel.storage.read(&[secret_key("probe", "API_KEY")]).await.unwrap().pop().flatten().unwrap();
    assert!(!String::from_utf8_lossy(&stored.value).contains(VALUE), "it is sealed");
    anna.get("/api/v1/cells/probe/secrets").await.refused(403, "FORBIDDEN");

    assert_eq!(ask(&anna, "").await, json!({ "value": VALUE }));
    olga.delete(SECRET).await.done(204);
    assert!(text(&ask(&anna, "").await["error"]).contains("the operator has not set the secret API_KEY"));
    assert_eq!(olga.get("/api/v1/cells/probe/secrets").await.expect(200)["data"], json!([]));
}

async fn a_reveal_is_audited_whatever_becomes_of_the_call(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let olga = test.owner().await;
    give(&olga, VALUE).await;
    ask(&anna, "obtain").await;
    assert_eq!(test.audit(&olga, "secret.reveal").await.len(), 0, "a handle is not its value");
    for (count, (then, status)) in [("", 200), ("decline", 402), ("trap", 503)].into_iter().enumerate() {
        let reply = anna.post(&format!("/probe/secret/API_KEY?then={then}"), &json!({})).await;
        assert_eq!(reply.status, status, "{}", reply.text);
        let reveals = test.audit(&olga, "secret.reveal").await;
        assert_eq!(reveals.len(), count + 1, "once for each request, however many handles: {then}");
        let entry = &reveals[0];
        assert_eq!(entry["correlation_id"], reply.header("x-correlation-id"));
        assert_eq!(entry["target"], json!({ "type": "secret", "id": "probe/API_KEY" }));
        assert_eq!(entry["actor"], json!({ "type": "user", "id": anna.id }));
        assert_eq!(entry["details"], json!({ "tenant_id": anna.tenant_id }));
        assert_eq!((text(&entry["cell"]["name"]), text(&entry["cell"]["version"])), ("probe", "1.0.0"));
        assert!(!entry.to_string().contains(VALUE));
        let own = audited(&anna, &reply).await;
        assert!(own.iter().all(|entry| entry["action"] != "secret.reveal"), "the secret is the operator's: {own:?}");
    }
}

async fn a_sealed_secret_opens_in_its_own_place_only(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let olga = test.owner().await;
    renamed(Guest::probe(), "shop").upload(&olga, "").await.done(201);
    olga.put("/api/v1/cells/shop/secrets/API_KEY", &json!({ "value": VALUE })).await.done(200);
    let stored = test.kernel.storage.read(&[secret_key("shop", "API_KEY")]).await.unwrap().pop().flatten().unwrap();
    // An intruder writes the shop's sealed text into a record of the probe's.
    let moved = String::from_utf8(stored.value.to_vec()).unwrap().replace("\"shop\"", "\"probe\"");
    let write = Write::Put(secret_key("probe", "API_KEY"), moved.into());
    test.kernel.commit(Unit { writes: vec![write], ..Unit::default() }).await.unwrap();
    let reply = anna.post("/probe/secret/API_KEY", &json!({})).await;
    assert!(!reply.text.contains(VALUE));
    reply.refused(503, "CELL_FAILED");
    assert_eq!(test.audit(&olga, "secret.reveal").await.len(), 0);
    give(&olga, "another").await;
    assert_eq!(ask(&anna, "").await, json!({ "value": "another" }));
}

async fn a_stored_setting_comes_before_the_file(mut test: TestKernel) {
    let of_file = HashMap::from([("GREETING", "good day"), ("FAREWELL", "good bye")]);
    let of_file = of_file.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let settings = HashMap::from([("probe".to_owned(), of_file)]);
    test.restart_with(|config| config.cell_settings = Arc::new(settings)).await;
    let anna = anna_with_a_probe(&test).await;
    let olga = test.owner().await;
    let path = "/api/v1/cells/probe/config/GREETING";
    let greeting = async || anna.get("/probe/config/GREETING").await.expect(200)["value"].clone();
    assert_eq!(greeting().await, "good day");
    olga.put("/api/v1/cells/shop/config/GREETING", &json!({ "value": "x" })).await.refused(404, "NOT_FOUND");
    olga.put("/api/v1/cells/probe/config/a%2Fb", &json!({ "value": "x" })).await.invalid("/path/key");
    olga.put(path, &json!({ "value": "x".repeat(4097) })).await.invalid("/value");
    olga.delete(path).await.refused(404, "NOT_FOUND");

    let set = olga.put(path, &json!({ "value": "hello" })).await.expect(200);
    assert_eq!(set, json!({ "name": "GREETING", "value": "hello", "updated_at": "2027-01-15T08:00:00Z" }));
    assert_eq!(greeting().await, "hello");
    let listed = olga.get("/api/v1/cells/probe/config").await.expect(200);
    let of_file = json!({ "name": "FAREWELL", "value": "good bye", "updated_at": null });
    assert_eq!(listed, json!({ "data": [of_file, set], "next_cursor": null }));
    let entry = test.audit(&olga, "cell.config.set").await.remove(0);
    assert_eq!(entry["target"], json!({ "type": "setting", "id": "probe/GREETING" }));
    assert_eq!(entry["details"], json!({ "value": "hello" }));
    anna.put(path, &json!({ "value": "mine" })).await.refused(403, "FORBIDDEN");
    olga.delete(path).await.done(204);
    assert_eq!(greeting().await, "good day");
}

async fn what_is_not_granted_is_refused(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let olga = test.owner().await;
    olga.put("/api/v1/cells/probe/secrets/OTHER", &json!({ "value": VALUE })).await.done(200);
    let refused = anna.post("/probe/secret/OTHER", &json!({})).await.expect(200);
    assert!(text(&refused["error"]).contains("to secrets in [capabilities] of cell.toml"), "{refused}");
    let shop = renamed(Guest::probe(), "shop").with("secrets = [\"API_KEY\"]\n", "");
    let problem = shop.upload(&olga, "").await.refused(422, "CELL_REJECTED");
    assert_eq!(problem["reasons"][0]["code"], "DENIED_CAPABILITY", "{problem}");
    assert!(text(&problem["detail"]).contains("secrets = [\"NAME\"]"), "{problem}");
    let shop = renamed(Guest::probe(), "shop").with("[\"API_KEY\"]", "[\"API KEY\"]");
    let problem = shop.upload(&olga, "").await.refused(422, "CELL_REJECTED");
    assert_eq!(problem["reasons"][0]["code"], "INVALID_MANIFEST", "{problem}");
}
