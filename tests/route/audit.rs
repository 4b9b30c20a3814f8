//! `/api/v1/audit`

use jiff::SignedDuration;
use serde_json::{Value, json};
use suite::kernel::{TestKernel, text};

on_both_kernels!(reads_by_filter_and_page, shows_one_entry_of_the_own_tenant);

const AUDIT: &str = "/api/v1/audit";

async fn reads_by_filter_and_page(kernel: TestKernel) {
    let anna = kernel.tenant("acme").await;
    let ada = kernel.user(&anna, "ada", &["kernel.audit.read", "kernel.user.write"]).await;
    kernel.pass(SignedDuration::from_secs(60));
    let later = kernel.clock.now();
    let correlated = ada.with_header("x-correlation-id", "0197e6a8-2222-7000-8000-00000000abcd");
    let made = correlated.post("/api/v1/users", &json!({ "email": "carl@acme.test" })).await.expect(201);
    ada.get("/api/v1/roles").await.refused(403, "FORBIDDEN");
    let found = async |query: &str| -> Vec<Value> {
        let page = ada.get(&format!("{AUDIT}?{query}")).await.expect(200);
        page["data"].as_array().unwrap().iter().map(|entry| entry["action"].clone()).collect()
    };
    assert_eq!(found(&format!("actor={}", ada.id)).await, ["authz.deny", "user.create", "auth.login"]);
    assert_eq!(found("outcome=denied").await, ["authz.deny"]);
    assert_eq!(found("correlation_id=0197e6a8-2222-7000-8000-00000000abcd").await, ["user.create"]);
    // The three readings so far are in it, too.
    let since = ["audit.read", "audit.read", "audit.read", "authz.deny", "user.create"];
    assert_eq!(found(&format!("from={later}")).await, since);
    assert_eq!(found(&format!("to={later}&action=user.create")).await, ["user.create"]);
    let all = found("limit=200").await;
    let mut paged = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = ada.get(&format!("{AUDIT}?limit=2{cursor}")).await.expect(200);
        paged.extend(page["data"].as_array().unwrap().iter().map(|entry| entry["action"].clone()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged, all);
    let entry = &ada.get(&format!("{AUDIT}?action=user.create&limit=1")).await.expect(200)["data"][0];
    assert_eq!(entry["tenant_id"].as_str(), Some(anna.tenant_id.as_str()));
    assert_eq!(entry["target"]["id"], made["id"]);
    assert!(entry["index"].is_i64());
    for query in ["outcome=maybe", "from=yesterday", "cursor=x", "limit=0", "correlation_id=7"] {
        let pointer = format!("/query/{}", query.split('=').next().unwrap());
        ada.get(&format!("{AUDIT}?{query}")).await.invalid(&pointer);
    }
}

async fn shows_one_entry_of_the_own_tenant(kernel: TestKernel) {
    let olga = kernel.owner().await;
    let anna = kernel.tenant("acme").await;
    let entry = kernel.audit(&anna, "auth.login").await.remove(0);
    let path = format!("{AUDIT}/{}", text(&entry["id"]));
    assert_eq!(anna.get(&path).await.expect(200), entry);
    olga.get(&path).await.refused(404, "NOT_FOUND");
    anna.get(&format!("{AUDIT}/0197e6a8-0000-7000-8000-000000000000")).await.refused(404, "NOT_FOUND");
    anna.get(&format!("{AUDIT}/x")).await.invalid("/path/id");
    anna.delete(&path).await.refused(405, "METHOD_NOT_ALLOWED");
    assert!(
        kernel.audit(&olga, "tenant.create").await.len() == 1 && kernel.audit(&anna, "tenant.create").await.is_empty()
    );
}
