//! `/api/v1/tenants`

use jiff::SignedDuration;
use serde_json::{Value, json};
use suite::kernel::{PASSWORD, TestKernel, text};

on_both_kernels!(makes_tenants, lists_in_pages, suspends_and_reactivates, refuses_bad_changes);

async fn makes_tenants(kernel: TestKernel) {
    let olga = kernel.owner().await;
    let path = "/api/v1/tenants";
    olga.post(path, &json!({ "slug": "Acme!", "name": "Acme" })).await.invalid("/slug");
    olga.post(path, &json!({ "slug": "acme", "name": "" })).await.invalid("/name");
    olga.post(path, &json!({ "slug": "acme" })).await.refused(400, "VALIDATION_ERROR");
    let owner = json!({ "email": "Anna@Acme.test", "password": PASSWORD });
    let body = json!({ "slug": "acme", "name": "Acme Inc.", "owner": owner });
    let made = olga.post(path, &body).await.expect(201);
    assert_eq!(made["slug"], "acme");
    assert_eq!(made["name"], "Acme Inc.");
    assert_eq!(made["status"], "active");
    assert_eq!(made["system"], false);
    assert!(!made.to_string().contains("argon2"));
    let shown = olga.get(&format!("{path}/{}", text(&made["id"]))).await.expect(200);
    assert_eq!(shown["created_at"], made["created_at"]);
    kernel.login("acme", "anna@acme.test", PASSWORD).await.done(200);
    olga.post(path, &body).await.refused(409, "ALREADY_EXISTS");
    let entries = kernel.audit(&olga, "tenant.create").await;
    assert_eq!(entries.len(), 1, "a refusal leaves no entry of success");
    assert_eq!(entries[0]["target"], json!({ "type": "tenant", "id": made["id"] }));
    assert_eq!(entries[0]["details"]["owner_id"], made["owner_id"]);
    let bare = olga.post(path, &json!({ "slug": "bare", "name": "Bare" })).await.expect(201);
    assert_eq!(bare.get("owner_id"), None);
}

async fn lists_in_pages(kernel: TestKernel) {
    let olga = kernel.owner().await;
    for slug in ["a", "b", "c", "d"] {
        kernel.pass(SignedDuration::from_millis(1));
        olga.post("/api/v1/tenants", &json!({ "slug": slug, "name": slug })).await.done(201);
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = olga.get(&format!("/api/v1/tenants?limit=2{cursor}")).await.expect(200);
        seen.extend(page["data"].as_array().unwrap().iter().map(|tenant| tenant["slug"].clone()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, ["platform", "a", "b", "c", "d"]);
    olga.get("/api/v1/tenants?limit=0").await.invalid("/query/limit");
    olga.get("/api/v1/tenants?limit=201").await.invalid("/query/limit");
    olga.get("/api/v1/tenants?limit=x").await.invalid("/query/limit");
    olga.get("/api/v1/tenants?cursor=x").await.invalid("/query/cursor");
    olga.get("/api/v1/tenants?color=blue").await.refused(400, "VALIDATION_ERROR");
}

async fn suspends_and_reactivates(kernel: TestKernel) {
    let olga = kernel.owner().await;
    let anna = kernel.tenant("acme").await;
    let path = format!("/api/v1/tenants/{}", anna.tenant_id);
    anna.get("/api/v1/auth/me").await.done(200);
    let changed = olga.patch(&path, &json!({ "status": "suspended" })).await.expect(200);
    assert_eq!(changed["status"], "suspended");
    assert_eq!(changed["name"], "acme", "what is absent stays");
    anna.get("/api/v1/auth/me").await.refused(401, "UNAUTHENTICATED");
    kernel.login("acme", "owner@acme.test", PASSWORD).await.refused(401, "INVALID_CREDENTIALS");
    let changed = olga.patch(&path, &json!({ "status": "active", "name": "Acme again" })).await.expect(200);
    assert_eq!(changed["name"], "Acme again");
    anna.get("/api/v1/auth/me").await.done(200);
    let details: Vec<Value> =
        kernel.audit(&olga, "tenant.update").await.into_iter().map(|entry| entry["details"].clone()).collect();
    assert_eq!(details, [json!({ "status": "active", "name": "Acme again" }), json!({ "status": "suspended" })]);
}

async fn refuses_bad_changes(kernel: TestKernel) {
    let olga = kernel.owner().await;
    let path = format!("/api/v1/tenants/{}", olga.tenant_id);
    olga.patch(&path, &json!({ "status": "suspended" })).await.refused(409, "IN_USE");
    olga.patch(&path, &json!({ "status": "closed" })).await.invalid("/status");
    olga.patch(&path, &json!({ "name": null })).await.invalid("/name");
    olga.patch(&path, &json!({ "slug": "other" })).await.refused(400, "VALIDATION_ERROR");
    let nobody = "/api/v1/tenants/0197e6a8-0000-7000-8000-000000000000";
    olga.get(nobody).await.refused(404, "NOT_FOUND");
    olga.patch(nobody, &json!({ "name": "x" })).await.refused(404, "NOT_FOUND");
    olga.get("/api/v1/tenants/7").await.invalid("/path/id");
    assert_eq!(kernel.audit(&olga, "tenant.update").await.len(), 0);
}
