//! The whole chain in order, from an empty database to the audit trail, under one correlation id.

use serde_json::{Value, json};
use suite::actor::Actor;
use suite::cell::Guest;
use suite::kernel::{PASSWORD, TestKernel, text};

const REQUEST: &str = "0197a1b2-0000-7000-8000-00000000c0de";

async fn from_bootstrap_to_the_audit_trail(test: TestKernel) {
    let operator = test.owner().await.with_header("x-correlation-id", REQUEST);
    let clerk = clerk_with_role(&test, &operator).await;

    Guest::probe().upload(&operator, "").await.done(201);
    operator.post("/api/v1/cells/probe/activate", &json!({ "version": "1.0.0" })).await.done(200);
    let route = json!({ "route": "/till/{*rest}", "methods": ["POST"], "cell": "probe", "permission": "till.use" });
    operator.post("/api/v1/routes", &route).await.done(201);

    test.anonymous().post("/till/x", &json!({})).await.refused(401, "UNAUTHENTICATED");
    // The permission lets the clerk through; that the probe knows no such path is the cell's own answer.
    let answered = clerk.post("/till/x", &json!({})).await;
    assert_eq!(answered.status, 404, "{}", answered.text);
    let echo = clerk.post("/probe/echo", &json!({ "hello": "world" })).await.refused(403, "FORBIDDEN");
    assert_eq!(echo["missing_permissions"], json!(["probe.use"]));
    let echoed = operator.post("/probe/echo", &json!({ "hello": "world" })).await.expect(200);
    assert_eq!(echoed, json!({ "hello": "world" }));

    let event = json!({ "type": "till.opened", "subject": "till-1", "data": { "float": 10_000 } });
    let event = clerk.post("/api/v1/events", &event).await.expect(201);
    assert_eq!(event["correlationid"], REQUEST);

    let trail = operator.get(&format!("/api/v1/audit?correlation_id={REQUEST}&limit=200")).await.expect(200);
    let actions: Vec<&str> = trail["data"].as_array().unwrap().iter().map(|entry| text(&entry["action"])).collect();
    for wanted in [
        "user.create",
        "user.password.set",
        "role.create",
        "user.role.grant",
        "cell.upload",
        "cell.activate",
        "route.create",
        "cell.call",
        "event.publish",
        "authz.deny",
    ] {
        assert!(actions.contains(&wanted), "{wanted} is not among {actions:?}");
    }
    let indexes: Vec<i64> =
        trail["data"].as_array().unwrap().iter().filter_map(|entry| entry["index"].as_i64()).collect();
    assert!(indexes.is_sorted_by(|newer, older| newer > older), "newest first: {indexes:?}");
}

/// A user whose password the operator set, with a role that opens the till and publishes.
async fn clerk_with_role(test: &TestKernel, operator: &Actor) -> Actor {
    let user = operator.post("/api/v1/users", &json!({ "email": "carla@platform.test" })).await.expect(201);
    test.login("platform", "carla@platform.test", PASSWORD).await.refused(401, "INVALID_CREDENTIALS");
    let path = format!("/api/v1/users/{}/password", text(&user["id"]));
    operator.put(&path, &json!({ "password": PASSWORD })).await.done(204);
    let role = json!({ "name": "cashier", "permissions": ["till.use", "kernel.event.publish"] });
    let role = operator.post("/api/v1/roles", &role).await.expect(201);
    let path = format!("/api/v1/users/{}/roles/{}", text(&user["id"]), text(&role["id"]));
    operator.put(&path, &Value::Null).await.done(204);
    let clerk = test.sign_in("platform", "carla@platform.test", PASSWORD).await;
    clerk.with_header("x-correlation-id", REQUEST)
}

async fn publishing_is_guarded(test: TestKernel) {
    let operator = test.owner().await;
    suite::cell::install_finance(&operator).await;
    let owner = test.tenant("acme").await;
    let stranger = test.user(&owner, "stranger", &["kernel.event.read"]).await;
    let publisher = test.user(&owner, "publisher", &["kernel.event.publish"]).await;
    let event = json!({ "type": "order.placed", "data": { "total": 1 } });

    test.anonymous().post("/api/v1/events", &event).await.refused(401, "UNAUTHENTICATED");
    stranger.post("/api/v1/events", &event).await.refused(403, "FORBIDDEN");
    let denied = test.audit(&owner, "authz.deny").await;
    assert_eq!(denied[0]["details"]["missing_permissions"], json!(["kernel.event.publish"]));
    assert_eq!(denied[0]["details"]["required_permissions"], json!(["kernel.event.publish"]));
    assert_eq!(denied[0]["outcome"], "denied");

    let foreign = json!({ "type": "order.placed", "data": {}, "tenant_id": operator.tenant_id });
    publisher.post("/api/v1/events", &foreign).await.refused(400, "TENANT_MISMATCH");
    assert_eq!(test.audit(&owner, "security.cross_tenant").await.len(), 1);
    let reserved = json!({ "type": "payment.succeeded", "data": {} });
    publisher.post("/api/v1/events", &reserved).await.refused(403, "EVENT_TYPE_RESERVED");

    let log = owner.get("/api/v1/events").await.expect(200);
    assert_eq!(log["data"], json!([]), "a refusal stores nothing");
    let stored = publisher.post("/api/v1/events", &event).await.expect(201);
    assert_eq!(stored["sequence"], 1);
    let log = owner.get("/api/v1/events").await.expect(200);
    assert_eq!(log["data"][0], stored);
}

on_both_kernels!(from_bootstrap_to_the_audit_trail, publishing_is_guarded);
