//! `/api/v1/users`

use jiff::SignedDuration;
use serde_json::{Value, json};
use suite::actor::Actor;
use suite::kernel::{PASSWORD, TestKernel, text};

on_both_kernels!(
    makes_users,
    changes_users,
    disabling_ends_sessions_for_good,
    removes_users_with_their_roles,
    the_last_owner_stays,
    two_owners_cannot_leave_together,
    gives_and_takes_roles,
    nobody_gives_what_they_do_not_hold,
    sets_passwords,
);

const USERS: &str = "/api/v1/users";

async fn makes_users(kernel: TestKernel) {
    let olga = kernel.owner().await;
    olga.post(USERS, &json!({ "email": "not one" })).await.invalid("/email");
    olga.post(USERS, &json!({ "email": "a@b.c", "password": "short" })).await.invalid("/password");
    olga.post(USERS, &json!({ "email": "a@b.c", "roles": [] })).await.refused(400, "VALIDATION_ERROR");
    kernel.pass(SignedDuration::from_millis(1));
    let body = json!({ "email": "Ada@Platform.test", "display_name": "Ada", "password": PASSWORD });
    let made = olga.post(USERS, &body).await.expect(201);
    assert_eq!(made["email"], "ada@platform.test");
    assert_eq!(made["has_password"], true);
    assert!(!made.to_string().contains("argon2"), "no reply holds a hash: {made}");
    let path = format!("{USERS}/{}", text(&made["id"]));
    let shown = olga.get(&path).await.expect(200);
    assert_eq!(shown["display_name"], "Ada");
    assert_eq!(shown["roles"], json!([]));
    let again = json!({ "email": "ADA@platform.test" });
    olga.post(USERS, &again).await.refused(409, "ALREADY_EXISTS");
    let entries = kernel.audit(&olga, "user.create").await;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["actor"], json!({ "type": "user", "id": olga.id }));
    assert_eq!(entries[0]["target"], json!({ "type": "user", "id": made["id"] }));
    assert!(!entries[0].to_string().contains(PASSWORD));
    let page = olga.get(USERS).await.expect(200);
    let emails: Vec<&Value> = page["data"].as_array().unwrap().iter().map(|user| &user["email"]).collect();
    assert_eq!(emails, ["olga@platform.test", "ada@platform.test"]);
    let mine = json!({ "email": "eve@platform.test", "tenant_id": olga.tenant_id });
    olga.post(USERS, &mine).await.done(201);
}

async fn changes_users(kernel: TestKernel) {
    let olga = kernel.owner().await;
    let ada = kernel.user(&olga, "ada", &[]).await;
    let path = format!("{USERS}/{}", ada.id);
    olga.patch(&path, &json!({ "email": "olga@platform.test" })).await.refused(409, "ALREADY_EXISTS");
    olga.patch(&path, &json!({ "email": null })).await.invalid("/email");
    olga.patch(&path, &json!({ "password": PASSWORD })).await.refused(400, "VALIDATION_ERROR");
    olga.patch(&path, &json!({ "email": "ada2@platform.test", "display_name": "Ada" })).await.done(200);
    kernel.login("platform", "ada@platform.test", PASSWORD).await.refused(401, "INVALID_CREDENTIALS");
    kernel.login("platform", "ada2@platform.test", PASSWORD).await.done(200);
    let changed = olga.patch(&path, &json!({})).await.expect(200);
    assert_eq!(changed["display_name"], "Ada", "what is absent stays");
    let changed = olga.patch(&path, &json!({ "display_name": null })).await.expect(200);
    assert_eq!(changed["display_name"], Value::Null);
    olga.post(USERS, &json!({ "email": "ada@platform.test" })).await.done(201);
    let entries = kernel.audit(&olga, "user.update").await;
    assert_eq!(entries.len(), 3);
    assert_eq!(entries[2]["details"], json!({ "email": "ada2@platform.test", "display_name": "Ada" }));
}

async fn disabling_ends_sessions_for_good(kernel: TestKernel) {
    let olga = kernel.owner().await;
    let ada = kernel.user(&olga, "ada", &["kernel.user.read"]).await;
    let path = format!("{USERS}/{}", ada.id);
    ada.get(USERS).await.done(200);
    olga.patch(&path, &json!({ "status": "disabled" })).await.done(200);
    ada.get(USERS).await.refused(401, "UNAUTHENTICATED");
    olga.patch(&path, &json!({ "status": "active" })).await.done(200);
    ada.get(USERS).await.refused(401, "UNAUTHENTICATED");
    kernel.sign_in("platform", "ada@platform.test", PASSWORD).await.get(USERS).await.done(200);
}

async fn removes_users_with_their_roles(kernel: TestKernel) {
    let olga = kernel.owner().await;
    let ada = kernel.user(&olga, "ada", &["kernel.user.read"]).await;
    let path = format!("{USERS}/{}", ada.id);
    let role = olga.get(&path).await.expect(200)["roles"][0]["id"].clone();
    let role = format!("/api/v1/roles/{}", text(&role));
    olga.delete(&role).await.refused(409, "IN_USE");
    olga.delete(&path).await.done(204);
    ada.get(USERS).await.refused(401, "UNAUTHENTICATED");
    olga.get(&path).await.refused(404, "NOT_FOUND");
    olga.delete(&path).await.refused(404, "NOT_FOUND");
    kernel.login("platform", "ada@platform.test", PASSWORD).await.refused(401, "INVALID_CREDENTIALS");
    olga.delete(&role).await.done(204);
    olga.post(USERS, &json!({ "email": "ada@platform.test" })).await.done(201);
    let entries = kernel.audit(&olga, "user.delete").await;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["details"]["email"], "ada@platform.test");
}

async fn the_last_owner_stays(kernel: TestKernel) {
    let olga = kernel.owner().await;
    let own = format!("{USERS}/{}", olga.id);
    let owner_role = owner_role(&olga).await;
    olga.delete(&own).await.refused(409, "IN_USE");
    olga.patch(&own, &json!({ "status": "disabled" })).await.refused(409, "IN_USE");
    olga.delete(&format!("{own}/roles/{owner_role}")).await.refused(409, "IN_USE");
    let ada = kernel.user(&olga, "ada", &[]).await;
    olga.put(&format!("{USERS}/{}/roles/{owner_role}", ada.id), &Value::Null).await.done(204);
    let disabled = json!({ "status": "disabled" });
    olga.patch(&format!("{USERS}/{}", ada.id), &disabled).await.done(200);
    olga.delete(&own).await.refused(409, "IN_USE");
    olga.patch(&format!("{USERS}/{}", ada.id), &json!({ "status": "active" })).await.done(200);
    olga.delete(&own).await.done(204);
    let ada = kernel.sign_in("platform", "ada@platform.test", PASSWORD).await;
    ada.get("/api/v1/tenants").await.done(200);
}

async fn two_owners_cannot_leave_together(kernel: TestKernel) {
    let olga = kernel.owner().await;
    let owner_role = owner_role(&olga).await;
    let ada = kernel.user(&olga, "ada", &[]).await;
    olga.put(&format!("{USERS}/{}/roles/{owner_role}", ada.id), &Value::Null).await.done(204);
    let (olgas, adas) = (format!("{USERS}/{}", olga.id), format!("{USERS}/{}", ada.id));
    let (first, second) = tokio::join!(olga.delete(&adas), ada.delete(&olgas));
    let mut statuses = [first.status, second.status];
    statuses.sort_unstable();
    assert_eq!(statuses[0], 204, "{} {}", first.text, second.text);
    assert!(matches!(statuses[1], 401 | 409), "{} {}", first.text, second.text);
}

async fn gives_and_takes_roles(kernel: TestKernel) {
    let olga = kernel.owner().await;
    let ada = kernel.user(&olga, "ada", &[]).await;
    let role = json!({ "name": "reader", "permissions": ["kernel.user.read"] });
    let role = olga.post("/api/v1/roles", &role).await.expect(201);
    let path = format!("{USERS}/{}/roles/{}", ada.id, text(&role["id"]));
    ada.get(USERS).await.refused(403, "FORBIDDEN");
    olga.delete(&path).await.refused(404, "NOT_FOUND");
    olga.put(&path, &Value::Null).await.done(204);
    olga.put(&path, &Value::Null).await.done(204);
    ada.get(USERS).await.done(200);
    assert_eq!(olga.get(&format!("{USERS}/{}", ada.id)).await.expect(200)["roles"][0]["name"], "reader");
    olga.delete(&path).await.done(204);
    ada.get(USERS).await.refused(403, "FORBIDDEN");
    olga.delete(&path).await.refused(404, "NOT_FOUND");
    let nobody = "0197e6a8-0000-7000-8000-000000000000";
    olga.put(&format!("{USERS}/{}/roles/{nobody}", ada.id), &Value::Null).await.refused(404, "NOT_FOUND");
    olga.put(&format!("{USERS}/{nobody}/roles/{}", text(&role["id"])), &Value::Null).await.refused(404, "NOT_FOUND");
    let granted = kernel.audit(&olga, "user.role.grant").await;
    assert_eq!(granted[0]["details"], json!({ "role_id": role["id"], "role": "reader" }));
    assert_eq!(kernel.audit(&olga, "user.role.revoke").await.len(), 1);
}

async fn nobody_gives_what_they_do_not_hold(kernel: TestKernel) {
    let olga = kernel.owner().await;
    let eve = kernel.user(&olga, "eve", &["kernel.user.write", "kernel.role.write"]).await;
    let ada = kernel.user(&olga, "ada", &["kernel.audit.read"]).await;
    let owner_role = owner_role(&olga).await;
    let path = format!("{USERS}/{}/roles/{owner_role}", eve.id);
    let problem = eve.put(&path, &Value::Null).await.refused(403, "FORBIDDEN");
    assert_eq!(problem["missing_permissions"], json!(["*"]));
    let role = json!({ "name": "auditor", "permissions": ["kernel.audit.read", "kernel.user.write"] });
    let problem = eve.post("/api/v1/roles", &role).await.refused(403, "FORBIDDEN");
    assert_eq!(problem["missing_permissions"], json!(["kernel.audit.read"]));
    let auditor = olga.post("/api/v1/roles", &role).await.expect(201);
    let path = format!("{USERS}/{}/roles/{}", eve.id, text(&auditor["id"]));
    eve.put(&path, &Value::Null).await.refused(403, "FORBIDDEN");
    let path = format!("{USERS}/{}/password", ada.id);
    let problem = eve.put(&path, &json!({ "password": "taken over now" })).await.refused(403, "FORBIDDEN");
    assert_eq!(problem["missing_permissions"], json!(["kernel.audit.read"]), "a set password is a way in");
    eve.get("/api/v1/audit").await.refused(403, "FORBIDDEN");
    let denials = kernel.audit(&olga, "authz.deny").await;
    assert_eq!(denials.len(), 5);
    assert!(denials.iter().all(|entry| entry["actor"]["id"].as_str() == Some(&eve.id) && entry["outcome"] == "denied"));
    assert_eq!(denials[4]["details"]["missing_permissions"], json!(["*"]));
}

async fn sets_passwords(kernel: TestKernel) {
    let olga = kernel.owner().await;
    let ada = kernel.user(&olga, "ada", &["kernel.user.read"]).await;
    let path = format!("{USERS}/{}/password", ada.id);
    olga.put(&path, &json!({ "password": "short" })).await.invalid("/password");
    olga.put(&path, &json!({ "password": "another password" })).await.done(204);
    ada.get(USERS).await.refused(401, "UNAUTHENTICATED");
    kernel.login("platform", "ada@platform.test", PASSWORD).await.refused(401, "INVALID_CREDENTIALS");
    kernel.login("platform", "ada@platform.test", "another password").await.done(200);
    let entries = kernel.audit(&olga, "user.password.set").await;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["details"], json!({}));
}

async fn owner_role(owner: &Actor) -> String {
    let me = owner.get("/api/v1/auth/me").await.expect(200);
    text(&me["roles"][0]["id"]).to_owned()
}
