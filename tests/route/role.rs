//! `/api/v1/roles` and `/api/v1/permissions`

use jiff::SignedDuration;
use serde_json::{Value, json};
use suite::kernel::{TestKernel, text};

on_both_kernels!(
    makes_roles,
    changed_permissions_hold_on_the_next_request,
    platform_permissions_stay_with_the_system_tenant,
    the_owner_role_is_built_in,
    lists_permissions,
);

const ROLES: &str = "/api/v1/roles";

async fn makes_roles(kernel: TestKernel) {
    let olga = kernel.owner().await;
    olga.post(ROLES, &json!({ "name": "" })).await.invalid("/name");
    olga.post(ROLES, &json!({ "name": "x", "permissions": ["*"] })).await.invalid("/permissions/0");
    olga.post(ROLES, &json!({ "name": "x", "permissions": ["Not.Valid"] })).await.invalid("/permissions/0");
    let many: Vec<String> = (0..501).map(|number| format!("cell.action{number}")).collect();
    olga.post(ROLES, &json!({ "name": "x", "permissions": many })).await.refused(400, "VALIDATION_ERROR");
    kernel.pass(SignedDuration::from_millis(1));
    let body = json!({ "name": "Clerk", "permissions": ["finance.payment.read", "finance.payment.read"] });
    let made = olga.post(ROLES, &body).await.expect(201);
    assert_eq!(made["permissions"], json!(["finance.payment.read"]), "a cell that is not there yet, and once");
    olga.post(ROLES, &json!({ "name": "clerk" })).await.refused(409, "ALREADY_EXISTS");
    let path = format!("{ROLES}/{}", text(&made["id"]));
    assert_eq!(olga.get(&path).await.expect(200)["name"], "Clerk");
    olga.patch(&path, &json!({ "name": "owner" })).await.refused(409, "ALREADY_EXISTS");
    assert_eq!(olga.patch(&path, &json!({ "name": "CLERK" })).await.expect(200)["name"], "CLERK");
    olga.patch(&path, &json!({ "name": "Teller" })).await.done(200);
    kernel.pass(SignedDuration::from_millis(1));
    olga.post(ROLES, &json!({ "name": "clerk" })).await.done(201);
    let page = olga.get(ROLES).await.expect(200);
    let names: Vec<&Value> = page["data"].as_array().unwrap().iter().map(|role| &role["name"]).collect();
    assert_eq!(names, ["owner", "Teller", "clerk"]);
    olga.delete(&path).await.done(204);
    olga.get(&path).await.refused(404, "NOT_FOUND");
    olga.delete(&path).await.refused(404, "NOT_FOUND");
    let made_entries = kernel.audit(&olga, "role.create").await;
    assert_eq!(made_entries.len(), 2);
    assert_eq!(made_entries[1]["details"], json!({ "name": "Clerk", "permissions": ["finance.payment.read"] }));
    assert_eq!(kernel.audit(&olga, "role.update").await.len(), 2);
    assert_eq!(kernel.audit(&olga, "role.delete").await.len(), 1);
}

async fn changed_permissions_hold_on_the_next_request(kernel: TestKernel) {
    let olga = kernel.owner().await;
    let ada = kernel.user(&olga, "ada", &["kernel.user.read"]).await;
    let me = ada.get("/api/v1/auth/me").await.expect(200);
    let path = format!("{ROLES}/{}/permissions", text(&me["roles"][0]["id"]));
    ada.get("/api/v1/users").await.done(200);
    ada.get("/api/v1/roles").await.refused(403, "FORBIDDEN");
    let changed = olga.put(&path, &json!({ "permissions": ["kernel.role.read"] })).await.expect(200);
    assert_eq!(changed["permissions"], json!(["kernel.role.read"]));
    ada.get("/api/v1/users").await.refused(403, "FORBIDDEN");
    ada.get("/api/v1/roles").await.done(200);
    olga.put(&path, &json!({ "permissions": [7] })).await.invalid("/permissions/0");
    let entries = kernel.audit(&olga, "role.permissions.set").await;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["details"], json!({ "added": ["kernel.role.read"], "removed": ["kernel.user.read"] }));
}

async fn platform_permissions_stay_with_the_system_tenant(kernel: TestKernel) {
    let anna = kernel.tenant("acme").await;
    let body = json!({ "name": "operator", "permissions": ["kernel.cell.deploy", "finance.payment.read"] });
    let problem = anna.post(ROLES, &body).await.refused(403, "FORBIDDEN");
    assert_eq!(problem["missing_permissions"], json!(["kernel.cell.deploy"]));
    let made = anna.post(ROLES, &json!({ "name": "operator" })).await.expect(201);
    let path = format!("{ROLES}/{}/permissions", text(&made["id"]));
    anna.put(&path, &json!({ "permissions": ["kernel.tenant.read"] })).await.refused(403, "FORBIDDEN");
    anna.put(&path, &json!({ "permissions": ["kernel.user.read"] })).await.done(200);
    assert_eq!(kernel.audit(&anna, "authz.deny").await.len(), 2);
}

async fn the_owner_role_is_built_in(kernel: TestKernel) {
    let olga = kernel.owner().await;
    let page = olga.get(ROLES).await.expect(200);
    assert_eq!(page["data"][0]["all"], true);
    let path = format!("{ROLES}/{}", text(&page["data"][0]["id"]));
    olga.patch(&path, &json!({ "name": "boss" })).await.refused(409, "IN_USE");
    olga.delete(&path).await.refused(409, "IN_USE");
    olga.put(&format!("{path}/permissions"), &json!({ "permissions": [] })).await.refused(409, "IN_USE");
    olga.post(ROLES, &json!({ "name": "Owner" })).await.refused(409, "ALREADY_EXISTS");
}

async fn lists_permissions(kernel: TestKernel) {
    let anna = kernel.tenant("acme").await;
    let page = anna.get("/api/v1/permissions?limit=200").await.expect(200);
    let all = page["data"].as_array().unwrap();
    let find = |name: &str| all.iter().find(|permission| permission["name"] == name).expect("listed");
    assert_eq!(find("kernel.user.read")["scope"], "tenant");
    assert_eq!(find("kernel.user.read")["held"], true);
    assert_eq!(find("kernel.cell.deploy")["scope"], "platform");
    assert_eq!(find("kernel.cell.deploy")["held"], false);
    assert!(all.is_sorted_by_key(|permission| text(&permission["name"]).to_owned()));
    let first = anna.get("/api/v1/permissions?limit=1").await.expect(200);
    let next =
        anna.get(&format!("/api/v1/permissions?limit=1&cursor={}", text(&first["next_cursor"]))).await.expect(200);
    assert_eq!([&first["data"][0], &next["data"][0]], [&all[0], &all[1]]);
}
