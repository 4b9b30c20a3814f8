//! One tenant never sees or touches what is another's; not even the operator does.

use serde_json::{Value, json};
use suite::kernel::TestKernel;

on_both_kernels!(objects_of_others_do_not_exist, the_tenant_comes_from_the_token);

async fn objects_of_others_do_not_exist(kernel: TestKernel) {
    let olga = kernel.owner().await;
    let anna = kernel.tenant("acme").await;
    let bert = kernel.tenant("bolt").await;
    let ada = kernel.user(&anna, "ada", &["kernel.event.read"]).await;
    let role = anna.get(&format!("/api/v1/users/{}", ada.id)).await.expect(200)["roles"][0]["id"].clone();
    let role = role.as_str().unwrap();
    let own_role = bert.post("/api/v1/roles", &json!({ "name": "own" })).await.expect(201);
    let own_role = own_role["id"].as_str().unwrap();
    for stranger in [&bert, &olga] {
        let user = format!("/api/v1/users/{}", ada.id);
        stranger.get(&user).await.refused(404, "NOT_FOUND");
        stranger.patch(&user, &json!({ "status": "disabled" })).await.refused(404, "NOT_FOUND");
        stranger.delete(&user).await.refused(404, "NOT_FOUND");
        let password = json!({ "password": "taken over now" });
        stranger.put(&format!("{user}/password"), &password).await.refused(404, "NOT_FOUND");
        stranger.put(&format!("{user}/roles/{own_role}"), &Value::Null).await.refused(404, "NOT_FOUND");
        let own = format!("/api/v1/users/{}/roles/{role}", stranger.id);
        stranger.put(&own, &Value::Null).await.refused(404, "NOT_FOUND");
        let role = format!("/api/v1/roles/{role}");
        stranger.get(&role).await.refused(404, "NOT_FOUND");
        stranger.patch(&role, &json!({ "name": "x" })).await.refused(404, "NOT_FOUND");
        stranger.delete(&role).await.refused(404, "NOT_FOUND");
        let none = json!({ "permissions": [] });
        stranger.put(&format!("{role}/permissions"), &none).await.refused(404, "NOT_FOUND");
        let listed = stranger.get("/api/v1/users?limit=200").await.expect(200).to_string();
        assert!(!listed.contains("@acme.test"), "{listed}");
    }
    ada.get("/api/v1/events").await.done(200);
    let same = json!({ "email": "ada@acme.test" });
    bert.post("/api/v1/users", &same).await.done(201);
}

async fn the_tenant_comes_from_the_token(kernel: TestKernel) {
    let anna = kernel.tenant("acme").await;
    let bert = kernel.tenant("bolt").await;
    let body = json!({ "email": "eve@bolt.test", "tenant_id": bert.tenant_id });
    anna.post("/api/v1/users", &body).await.refused(400, "TENANT_MISMATCH");
    let entry = kernel.audit(&anna, "security.cross_tenant").await.remove(0);
    assert_eq!(entry["outcome"], "denied");
    assert_eq!(entry["actor"]["id"].as_str(), Some(anna.id.as_str()));
    let emails = bert.get("/api/v1/users").await.expect(200).to_string();
    assert!(!emails.contains("eve@"), "{emails}");
}
