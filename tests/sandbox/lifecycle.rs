//! A cell's life: versions that follow each other, a canary beside the active one, quarantine, release and deletion.

use serde_json::{Value, json};
use suite::actor::Actor;
use suite::cell::Guest;
use suite::kernel::{TestKernel, text};

use super::traces::audited;
use super::variant::patient_probe;

on_both_kernels!(
    an_upgrade_says_what_changes,
    a_rollback_goes_back_version_by_version,
    a_canary_has_the_same_tenants_every_time,
    a_canary_that_fails_more_often_is_taken_back,
    two_versions_at_once_read_each_others_state,
    an_operator_quarantines_and_releases,
    what_is_deleted_is_gone_and_its_state_stays,
    a_cell_logs_for_its_operator,
    nobody_else_changes_how_a_cell_serves,
);

const PROBE: &str = "/api/v1/cells/probe";

/// The version that answered a tenant, by its audit entry.
async fn version_for(tenant: &Actor) -> String {
    let reply = tenant.post("/probe/echo", &json!({})).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    text(&audited(tenant, &reply).await[0]["cell"]["version"]).to_owned()
}

async fn activate(olga: &Actor, guest: &Guest, version: &str, canary: Option<u8>) -> Value {
    guest.clone().version(version).upload(olga, "").await.done(201);
    let mut body = json!({ "version": version, "reason": "a test" });
    if let Some(percent) = canary {
        body["canary_percent"] = percent.into();
    }
    olga.post(&format!("{PROBE}/activate"), &body).await.expect(200)
}

async fn a_rollback_goes_back_version_by_version(mut test: TestKernel) {
    let olga = test.owner().await;
    let probe = patient_probe();
    probe.install(&olga).await;
    let rollback = format!("{PROBE}/rollback");
    olga.post(&rollback, &Value::Null).await.refused(409, "NO_PREVIOUS_VERSION");
    activate(&olga, &probe, "1.1.0", None).await;
    activate(&olga, &probe, "1.2.0", None).await;
    let anna = test.tenant("acme").await;
    assert_eq!(version_for(&anna).await, "1.2.0");
    let cell = olga.post(&rollback, &json!({ "reason": "wrong fees" })).await.expect(200);
    assert_eq!((text(&cell["active_version"]), text(&cell["previous_version"])), ("1.1.0", "1.0.0"));
    assert_eq!(version_for(&anna).await, "1.1.0");
    test.restart().await;
    let (olga, anna) = (olga.at(&test.url()), anna.at(&test.url()));
    assert_eq!(version_for(&anna).await, "1.1.0");
    olga.post(&rollback, &Value::Null).await.done(200);
    assert_eq!(version_for(&anna).await, "1.0.0");
    olga.post(&rollback, &Value::Null).await.refused(409, "NO_PREVIOUS_VERSION");
    let entries = test.audit(&olga, "cell.rollback").await;
    assert_eq!(entries.len(), 2);
    assert_eq!(
        entries[1]["details"],
        json!({ "previous_version": "1.2.0", "version": "1.1.0", "reason": "wrong fees" })
    );
    assert_eq!(entries[1]["actor"], json!({ "type": "user", "id": olga.id }));
}

async fn a_canary_has_the_same_tenants_every_time(mut test: TestKernel) {
    let olga = test.owner().await;
    let probe = patient_probe();
    probe.clone().version("1.1.0").upload(&olga, "").await.done(201);
    let early = json!({ "version": "1.1.0", "canary_percent": 50 });
    olga.post(&format!("{PROBE}/activate"), &early).await.invalid("/canary_percent");
    probe.install(&olga).await;
    for percent in [0, 101] {
        let body = json!({ "version": "1.1.0", "canary_percent": percent });
        olga.post(&format!("{PROBE}/activate"), &body).await.invalid("/canary_percent");
    }
    let version = activate(&olga, &probe, "1.1.0", Some(50)).await;
    assert_eq!(text(&version["status"]), "canary");
    let cell = olga.get(PROBE).await.expect(200);
    assert_eq!((text(&cell["active_version"]), text(&cell["canary"]["version"])), ("1.0.0", "1.1.0"));
    assert_eq!(cell["canary"]["percent"], 50);
    let mut tenants = Vec::new();
    for number in 0..14 {
        let tenant = test.tenant(&format!("tenant-{number}")).await;
        let version = version_for(&tenant).await;
        tenants.push((tenant, version));
    }
    let of_canary = tenants.iter().filter(|(_, version)| version == "1.1.0").count();
    assert!((1..14).contains(&of_canary), "half of fourteen tenants, more or less: {of_canary}");
    test.restart().await;
    for (tenant, version) in &tenants {
        assert_eq!(version_for(&tenant.at(&test.url())).await, *version);
    }
    // Activated for everybody, the canary is over.
    let olga = olga.at(&test.url());
    olga.post(&format!("{PROBE}/activate"), &json!({ "version": "1.1.0" })).await.done(200);
    for (tenant, _) in &tenants {
        assert_eq!(version_for(&tenant.at(&test.url())).await, "1.1.0");
    }
    assert_eq!(olga.get(PROBE).await.expect(200)["canary"], Value::Null);
}

async fn a_canary_that_fails_more_often_is_taken_back(test: TestKernel) {
    let olga = test.owner().await;
    let probe = patient_probe();
    probe.install(&olga).await;
    activate(&olga, &probe.clone().with("output_kb = 1024", "output_kb = 1"), "1.1.0", Some(99)).await;
    let mut anna = test.tenant("acme").await;
    for other in ["bolt", "core", "dune"] {
        if version_for(&anna).await == "1.1.0" {
            break;
        }
        anna = test.tenant(other).await;
    }
    for _ in 0..3 {
        // The active version answers what the canary fails at.
        let reply = anna.post("/probe/output", &json!({ "kb": 2 })).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let entries = audited(&anna, &reply).await;
        let ended = entries.iter().map(|entry| (text(&entry["cell"]["version"]), text(&entry["outcome"])));
        assert_eq!(ended.collect::<Vec<_>>(), [("1.0.0", "success"), ("1.1.0", "failure")]);
    }
    assert_eq!(version_for(&anna).await, "1.0.0");
    let cell = olga.get(PROBE).await.expect(200);
    assert_eq!((text(&cell["state"]), &cell["canary"]), ("active", &Value::Null));
    let entries = test.audit(&olga, "cell.rollback").await;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["actor"], json!({ "type": "kernel", "id": "supervisor" }));
    assert_eq!(text(&entries[0]["details"]["version"]), "1.1.0");
}

async fn an_upgrade_says_what_changes(test: TestKernel) {
    let olga = test.owner().await;
    let probe = patient_probe();
    assert_eq!(probe.upload(&olga, "?activate=true").await.expect(201)["changes"], json!([]));
    let wider =
        probe.with("memory_mb = 32", "memory_mb = 64").with("publish = [\"probe.*\"]", "publish = [\"money.*\"]");
    let wider = wider.with("state = true", "state = false").version("1.1.0");
    let changes = [
        "[limits] memory_mb = 64 instead of 32",
        "[capabilities] publish, new: money.*",
        "[capabilities] publish, no longer: probe.*",
    ];
    let refused = wider.upload(&olga, "").await.refused(422, "CELL_REJECTED");
    assert!(refused.to_string().contains("state = true"), "the probe imports what was taken from it: {refused}");
    let wider = wider.with("state = false", "state = true");
    let made = wider.upload(&olga, "").await.expect(201);
    assert_eq!(made["changes"], json!(changes));
}

async fn two_versions_at_once_read_each_others_state(test: TestKernel) {
    let olga = test.owner().await;
    let probe = patient_probe();
    probe.install(&olga).await;
    let newer = probe.with("format = 1\nreads = [1]", "format = 2\nreads = [1, 2]").version("1.1.0");
    newer.upload(&olga, "").await.done(201);
    let canary = json!({ "version": "1.1.0", "canary_percent": 10 });
    let problem = olga.post(&format!("{PROBE}/activate"), &canary).await.refused(422, "CELL_REJECTED");
    assert!(text(&problem["detail"]).contains("format 2"), "{problem}");
    olga.post(&format!("{PROBE}/activate"), &json!({ "version": "1.1.0" })).await.done(200);
    olga.post(&format!("{PROBE}/rollback"), &Value::Null).await.refused(422, "CELL_REJECTED");
    assert_eq!(text(&olga.get(PROBE).await.expect(200)["active_version"]), "1.1.0");
}

async fn an_operator_quarantines_and_releases(mut test: TestKernel) {
    let olga = test.owner().await;
    let probe = patient_probe();
    probe.install(&olga).await;
    let anna = test.tenant("acme").await;
    let reason = json!({ "reason": "under review" });
    let cell = olga.post(&format!("{PROBE}/quarantine"), &reason).await.expect(200);
    assert_eq!((text(&cell["state"]), text(&cell["quarantine"]["reason"])), ("quarantined", "under review"));
    let reply = anna.post("/probe/echo", &json!({})).await;
    assert_eq!(reply.header("retry-after"), "60");
    reply.refused(503, "CELL_QUARANTINED");
    // A person decided it, so neither another version nor a recovery ends it.
    activate(&olga, &probe, "1.1.0", None).await;
    olga.post("/api/v1/chaos/recover/probe", &Value::Null).await.done(200);
    test.restart().await;
    let (olga, anna) = (olga.at(&test.url()), anna.at(&test.url()));
    anna.post("/probe/echo", &json!({})).await.refused(503, "CELL_QUARANTINED");
    olga.post(&format!("{PROBE}/release"), &json!({ "reason": "x".repeat(501) })).await.invalid("/reason");
    olga.post(&format!("{PROBE}/release"), &json!({})).await.done(200);
    assert_eq!(version_for(&anna).await, "1.1.0");
    assert_eq!(test.audit(&olga, "cell.quarantine").await[0]["details"], reason);
    assert_eq!(test.audit(&olga, "cell.release").await.len(), 1);
}

async fn what_is_deleted_is_gone_and_its_state_stays(test: TestKernel) {
    let olga = test.owner().await;
    let probe = patient_probe();
    probe.install(&olga).await;
    let anna = test.tenant("acme").await;
    anna.post("/probe/increment/n", &json!({})).await.done(200);
    let route = json!({ "route": "/other", "methods": ["GET"], "cell": "probe", "permission": "probe.use" });
    olga.post("/api/v1/routes", &route).await.done(201);
    olga.delete(PROBE).await.done(204);
    olga.delete(PROBE).await.refused(404, "NOT_FOUND");
    olga.get(PROBE).await.refused(404, "NOT_FOUND");
    anna.post("/probe/increment/n", &json!({})).await.refused(404, "NOT_FOUND");
    assert_eq!(olga.get("/api/v1/routes").await.expect(200)["data"], json!([]));
    assert_eq!(test.audit(&olga, "cell.delete").await.len(), 1);
    // Its version still means the same bytes.
    let other = probe.clone().with("timeout_ms = 30000", "timeout_ms = 20000");
    other.upload(&olga, "").await.refused(409, "VERSION_EXISTS");
    let newer = probe.clone().with("format = 1\nreads = [1]", "format = 2\nreads = [2]").version("2.0.0");
    newer.upload(&olga, "?activate=true").await.refused(422, "CELL_REJECTED");
    probe.upload(&olga, "?activate=true").await.done(201);
    assert_eq!(anna.post("/probe/increment/n", &json!({})).await.expect(200), json!({ "value": 2 }));
}

async fn a_cell_logs_for_its_operator(test: TestKernel) {
    let olga = test.owner().await;
    patient_probe().install(&olga).await;
    let anna = test.tenant("acme").await;
    let reply = anna.post("/probe/log/3", &json!({})).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let lines = olga.get(&format!("{PROBE}/logs?limit=2")).await.expect(200)["data"].as_array().unwrap().clone();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["correlation_id"], reply.header("x-correlation-id"));
    assert_eq!(text(&lines[0]["version"]), "1.0.0");
    anna.get(&format!("{PROBE}/logs")).await.refused(403, "FORBIDDEN");
}

async fn nobody_else_changes_how_a_cell_serves(test: TestKernel) {
    let olga = test.owner().await;
    patient_probe().install(&olga).await;
    let anna = test.tenant("acme").await;
    let deployer = test.user(&olga, "dora", &["kernel.cell.deploy"]).await;
    let operator = test.user(&olga, "otto", &["kernel.cell.operate"]).await;
    for verb in ["restart", "quarantine", "release"] {
        let path = format!("{PROBE}/{verb}");
        anna.post(&path, &Value::Null).await.refused(403, "FORBIDDEN");
        deployer.post(&path, &Value::Null).await.refused(403, "FORBIDDEN");
        operator.post(&path, &Value::Null).await.done(200);
        operator.post("/api/v1/cells/nobody/restart", &Value::Null).await.refused(404, "NOT_FOUND");
    }
    operator.post(&format!("{PROBE}/rollback"), &Value::Null).await.refused(403, "FORBIDDEN");
    operator.delete(PROBE).await.refused(403, "FORBIDDEN");
    deployer.post(&format!("{PROBE}/rollback"), &Value::Null).await.refused(409, "NO_PREVIOUS_VERSION");
    deployer.delete(PROBE).await.done(204);
}
