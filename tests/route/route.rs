//! `/api/v1/routes`, and how a request finds the one handler that its permission was asked for.

use http::Method;
use serde_json::{Value, json};
use suite::actor::Actor;
use suite::kernel::{TestKernel, text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::sandbox::variant::{patient_probe, renamed};

on_both_kernels!(
    routes_are_listed_in_pages,
    bad_routes_are_refused,
    a_route_asks_for_its_permission,
    overlapping_routes_are_refused,
    head_is_answered_like_get,
    other_methods_are_told,
    odd_paths_reach_nothing,
    encoded_paths_are_the_paths_that_they_encode,
    by_its_name_a_cell_asks_for_the_same_permissions,
);

const ROUTES: &str = "/api/v1/routes";

/// Olga, at a kernel with the probe as the cell `shop`, which has no routes of its own.
async fn olga_with_a_shop(test: &TestKernel) -> Actor {
    let olga = test.owner().await;
    renamed(patient_probe(), "shop").install(&olga).await;
    olga
}

fn route(pattern: &str, methods: &[&str], permission: &str) -> Value {
    json!({ "route": pattern, "methods": methods, "cell": "shop", "permission": permission })
}

async fn routes_are_listed_in_pages(test: TestKernel) {
    let olga = olga_with_a_shop(&test).await;
    assert_eq!(olga.get(ROUTES).await.expect(200), json!({ "data": [], "next_cursor": null }));
    let made = olga.post(ROUTES, &route("/shop/{item}", &["GET", "PUT"], "shop.use")).await.expect(201);
    let expected = json!({
        "id": made["id"], "route": "/shop/{item}", "methods": ["GET", "PUT"], "cell": "shop",
        "permission": "shop.use", "idempotency": "optional", "source": "operator",
    });
    assert_eq!(made, expected);
    assert_eq!(olga.get(ROUTES).await.expect(200)["data"], json!([made]));

    patient_probe().install(&olga).await;
    let all = olga.get(&format!("{ROUTES}?limit=200")).await.expect(200);
    let all = all["data"].as_array().unwrap();
    assert_eq!(all.len(), 27, "26 of the probe's manifest and the operator's");
    let ping = all.iter().find(|route| route["route"] == "/probe/ping").unwrap();
    let expected = json!({
        "id": null, "route": "/probe/ping", "methods": ["GET"], "cell": "probe",
        "permission": "public", "idempotency": "optional", "source": "manifest",
    });
    assert_eq!(*ping, expected);
    assert!(all.iter().all(|route| !text(&route["route"]).contains("callee")), "a trigger for cells is no route");
    let mut paged: Vec<Value> = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = olga.get(&format!("{ROUTES}?limit=4{cursor}")).await.expect(200);
        paged.extend(page["data"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next_cursor"].as_str() else { break };
        let encoded = next.bytes().fold(String::new(), |text, byte| format!("{text}%{byte:02x}"));
        cursor = format!("&cursor={encoded}");
    }
    assert_eq!(paged, *all);
}

async fn bad_routes_are_refused(test: TestKernel) {
    let olga = olga_with_a_shop(&test).await;
    for pattern in
        ["", "shop", "/shop//x", "/shop/{*rest}/x", "/shop/{}", "/shop/../x", "/shop/é", "/{any}", "/api/v1/shop"]
    {
        olga.post(ROUTES, &route(pattern, &["GET"], "shop.use")).await.invalid("/route");
    }
    for reserved in
        ["/cells/x", "/docs", "/console/x", "/openapi.json", "/metrics", "/livez", "/readyz", "/.well-known/x"]
    {
        olga.post(ROUTES, &route(reserved, &["GET"], "shop.use")).await.invalid("/route");
    }
    for methods in [&[][..], &["get"], &["GET", "FETCH"]] {
        olga.post(ROUTES, &route("/shop", methods, "shop.use")).await.invalid("/methods");
    }
    for permission in ["", "shop", "Shop.Use", "*"] {
        olga.post(ROUTES, &route("/shop", &["GET"], permission)).await.invalid("/permission");
    }
    let mut elsewhere = route("/shop", &["GET"], "shop.use");
    elsewhere["cell"] = "nowhere".into();
    olga.post(ROUTES, &elsewhere).await.invalid("/cell");
    let mut typo = route("/shop", &["GET"], "shop.use");
    typo["idempotency"] = "perhaps".into();
    olga.post(ROUTES, &typo).await.invalid("/idempotency");
    assert_eq!(olga.get(ROUTES).await.expect(200)["data"], json!([]));
    assert_eq!(test.audit(&olga, "route.create").await.len(), 0);
}

async fn a_route_asks_for_its_permission(test: TestKernel) {
    let olga = olga_with_a_shop(&test).await;
    let anna = test.tenant("acme").await;
    let eve = test.user(&anna, "eve", &["probe.use"]).await;
    let sam = test.user(&anna, "sam", &["shop.use"]).await;
    anna.post("/probe/echo", &json!(1)).await.refused(404, "NOT_FOUND");
    let made = olga.post(ROUTES, &route("/probe/echo", &["POST"], "shop.use")).await.expect(201);
    test.anonymous().post("/probe/echo", &json!(1)).await.refused(401, "UNAUTHENTICATED");
    let problem = eve.post("/probe/echo", &json!(1)).await.refused(403, "FORBIDDEN");
    assert_eq!(problem["missing_permissions"], json!(["shop.use"]));
    let denial = test.audit(&anna, "authz.deny").await.remove(0);
    assert_eq!(denial["actor"], json!({ "type": "user", "id": eve.id }));
    assert_eq!(denial["target"], json!({ "type": "operation", "id": "/probe/echo" }));
    let missing = json!(["shop.use"]);
    assert_eq!((&denial["details"]["required_permissions"], &denial["outcome"]), (&missing, &json!("denied")));
    assert_eq!(denial["correlation_id"], problem["correlation_id"]);
    assert_eq!(sam.post("/probe/echo", &json!({ "a": 1 })).await.expect(200), json!({ "a": 1 }));
    let call = test.audit(&anna, "cell.call").await.remove(0);
    assert_eq!((text(&call["cell"]["name"]), text(&call["details"]["route"])), ("shop", "/probe/echo"));
    // Deeper or beside it there is nothing.
    for path in ["/probe/echo/more", "/probe", "/probe/context"] {
        sam.post(path, &json!(1)).await.refused(404, "NOT_FOUND");
    }

    let path = format!("{ROUTES}/{}", text(&made["id"]));
    sam.delete(&path).await.refused(403, "FORBIDDEN");
    olga.delete(&path).await.done(204);
    olga.delete(&path).await.refused(404, "NOT_FOUND");
    sam.post("/probe/echo", &json!(1)).await.refused(404, "NOT_FOUND");
    let details = json!({ "route": "/probe/echo", "cell": "shop", "permission": "shop.use" });
    assert_eq!(test.audit(&olga, "route.create").await[0]["details"], details);
    let deleted = test.audit(&olga, "route.delete").await;
    assert_eq!((deleted.len(), &deleted[0]["target"]["id"]), (1, &made["id"]));
}

async fn overlapping_routes_are_refused(test: TestKernel) {
    let olga = olga_with_a_shop(&test).await;
    patient_probe().install(&olga).await;
    olga.post(ROUTES, &route("/shop/{item}", &["GET"], "shop.use")).await.done(201);
    let before = olga.get(&format!("{ROUTES}?limit=200")).await.expect(200);
    for (pattern, method) in [
        ("/shop/{other}", "GET"),
        ("/shop/socks", "GET"),
        ("/shop/{*rest}", "GET"),
        ("/probe/ping", "GET"),
        ("/probe/{*rest}", "DELETE"),
        ("/probe/state/x", "PUT"),
    ] {
        let problem = olga.post(ROUTES, &route(pattern, &["PATCH", method], "public")).await;
        let problem = problem.refused(409, "ROUTE_CONFLICT");
        assert!(text(&problem["detail"]).contains(pattern), "{problem}");
    }
    assert_eq!(olga.get(&format!("{ROUTES}?limit=200")).await.expect(200), before);
    for (pattern, method) in
        [("/shop/{item}", "POST"), ("/shop", "GET"), ("/shop/{item}/size", "GET"), ("/probe/ping", "PUT")]
    {
        olga.post(ROUTES, &route(pattern, &[method], "shop.use")).await.done(201);
    }
    test.anonymous().get("/probe/ping").await.done(200);
    test.anonymous().put("/probe/ping", &json!(1)).await.refused(401, "UNAUTHENTICATED");
    assert_eq!(test.audit(&olga, "route.create").await.len(), 5);

    let mut adding = tokio::task::JoinSet::new();
    for number in 0..8 {
        let olga = olga.clone();
        let body = route(&format!("/race/{{p{number}}}"), &["GET"], "shop.use");
        adding.spawn(async move { olga.post(ROUTES, &body).await });
    }
    let mut statuses: Vec<u16> = adding.join_all().await.into_iter().map(|reply| reply.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409], "of many at once only one can be right");
}

async fn head_is_answered_like_get(test: TestKernel) {
    let olga = olga_with_a_shop(&test).await;
    patient_probe().install(&olga).await;
    let anna = test.tenant("acme").await;
    let eve = test.user(&anna, "eve", &[]).await;
    for path in ["/probe/ping", "/cells/probe/probe/ping", "/livez"] {
        let (get, head) = (anna.get(path).await, anna.send(Method::HEAD, path, None).await);
        assert_eq!((head.status, head.text.as_str()), (200, ""), "HEAD {path}");
        assert_eq!(head.header("content-type"), get.header("content-type"));
    }
    assert_eq!(test.anonymous().send(Method::HEAD, "/probe/context", None).await.status, 401);
    assert_eq!(eve.send(Method::HEAD, "/probe/context", None).await.status, 403);
    assert_eq!(anna.send(Method::HEAD, "/probe/context", None).await.status, 200);
    assert_eq!(anna.send(Method::HEAD, "/probe/echo", None).await.status, 405);
    assert_eq!(anna.send(Method::HEAD, "/probe/nothing", None).await.status, 404);
    assert_eq!(eve.send(Method::HEAD, "/api/v1/users", None).await.status, 403);
}

async fn other_methods_are_told(test: TestKernel) {
    let olga = olga_with_a_shop(&test).await;
    patient_probe().install(&olga).await;
    for (path, allowed) in [
        ("/probe/ping", &["GET"][..]),
        ("/probe/echo", &["POST"]),
        ("/probe/state/x", &["DELETE", "GET", "PUT"]),
        ("/cells/probe/probe/pair", &["GET", "POST"]),
    ] {
        let reply = olga.patch(path, &json!({})).await;
        assert_eq!(reply.header("allow"), allowed.join(", "), "RFC 9110, section 15.5.6, for {path}");
        assert_eq!(reply.refused(405, "METHOD_NOT_ALLOWED")["allowed_methods"], json!(allowed));
    }
    let reply = olga.patch("/api/v1/cells", &json!({})).await;
    for method in ["GET", "POST"] {
        assert!(reply.header("allow").contains(method), "{}", reply.header("allow"));
    }
    reply.refused(405, "METHOD_NOT_ALLOWED");
}

/// Sends a request whose path no client library touches; answers status and body.
async fn raw(test: &TestKernel, actor: &Actor, method: &str, path: &str) -> (u16, String) {
    let address = test.url().replace("http://", "");
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let token = actor.token.as_ref().map_or(String::new(), |token| format!("authorization: Bearer {token}\r\n"));
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\n{token}content-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.unwrap();
    let reply = String::from_utf8_lossy(&reply).into_owned();
    let status = reply.split(' ').nth(1).expect("a status line").parse().expect("a status");
    (status, reply.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}

async fn odd_paths_reach_nothing(test: TestKernel) {
    patient_probe().install(&test.owner().await).await;
    let anna = test.tenant("acme").await;
    let eve = test.user(&anna, "eve", &[]).await;
    anna.put("/probe/state/x", &json!("of anna")).await.done(204);
    let elsewhere = [
        "//probe/state/x",
        "/probe//state/x",
        "/probe/state//x",
        "/probe/state/x/",
        "/probe/state/a%2Fb",
        "/probe%2Fstate%2Fx",
        "/probe/./state/x",
        "/probe/%2e/state/x",
        "/probe/ping/../state/x",
        "/probe/ping/%2e%2e/state/x",
        "/probe/ping%2F..%2Fstate%2Fx",
        "/probe/state/..",
        "/probe/ping/",
        "/probe/ping%00",
        "/probe/ping;a=b",
        "/PROBE/state/x",
        "/probe/State/x",
        "/probe\\state\\x",
        "/probe/state/%zz",
        "/probe/state/%ff",
        "/probe/state/%",
        "/cells/probe/../../probe/state/x",
        "/cells/probe/%2e%2e/probe/state/x",
        "/cells/probe//probe/state/x",
        "/cells/%70robe/probe/state/x",
        "/cells//probe/probe/state/x",
        "/cells/probe/cells/probe/probe/state/x",
        "/cells/probe",
        "/cells/probe/",
        "/cells/",
        "/api/v1/../../probe/state/x",
        "/api/v1/%75sers",
        "/api//v1/users",
        "/api/v1/users/",
        "*",
    ];
    for path in elsewhere {
        for method in ["GET", "PUT", "DELETE"] {
            for actor in [&anna, &eve] {
                let (status, body) = raw(&test, actor, method, path).await;
                assert!(matches!(status, 400 | 404 | 405), "{method} {path}: {status} {body}");
            }
        }
    }
    let state = anna.get("/probe/list").await.expect(200);
    assert_eq!(state["data"], json!([{ "key": "x", "value": "\"of anna\"" }]));
    assert_eq!(test.audit(&anna, "authz.deny").await.len(), 0, "there was nothing to be denied");
}

async fn encoded_paths_are_the_paths_that_they_encode(test: TestKernel) {
    patient_probe().install(&test.owner().await).await;
    let anna = test.tenant("acme").await;
    let eve = test.user(&anna, "eve", &[]).await;
    anna.put("/probe/state/x", &json!("of anna")).await.done(204);
    let url = test.url();
    for path in [
        "/probe/state/x",
        "/probe/%73tate/x",
        "/%70robe/state/%78",
        "/cells/probe/probe/state/x",
        "/cells/probe/%70robe/%73tate/x",
        &format!("{url}/probe/state/x"),
    ] {
        assert_eq!(raw(&test, &test.anonymous(), "GET", path).await.0, 401, "{path}");
        for method in ["GET", "PUT", "DELETE"] {
            let (status, body) = raw(&test, &eve, method, path).await;
            assert_eq!(status, 403, "{method} {path}: {body}");
            assert!(body.contains("probe.use"), "{body}");
        }
        assert_eq!(raw(&test, &anna, "GET", path).await, (200, "\"of anna\"".to_owned()), "{path}");
    }
    // Decoded once and no further, and the cell decodes as the host does.
    let (status, _) = raw(&test, &anna, "PUT", "/probe/state/%2578").await;
    assert_eq!(status, 204);
    let listed = anna.get("/probe/list").await.expect(200);
    assert_eq!((&listed["data"][0]["key"], &listed["data"][1]["key"]), (&json!("%78"), &json!("x")));
    let (status, body) = raw(&test, &anna, "GET", "/probe/state/x%00").await;
    assert_eq!(status, 400, "{body}");
    assert_eq!(raw(&test, &test.anonymous(), "GET", "/probe/pin%67").await.0, 200);
    assert_eq!(raw(&test, &test.anonymous(), "GET", "/probe/ping?/../state/x").await.0, 200);
}

async fn by_its_name_a_cell_asks_for_the_same_permissions(test: TestKernel) {
    let olga = olga_with_a_shop(&test).await;
    let split = "route = \"/probe/echo\"\nmethods = [\"POST\"]\npermission = \"probe.use\"";
    let probe = patient_probe().with(split, &split.replace("probe.use", "probe.echo"));
    probe
        .with(
            "permission = \"probe.use\"\n\n[[trigger.http]]\nroute = \"/probe/ping\"",
            "permission = \"probe.self\"\n\n[[trigger.http]]\nroute = \"/probe/ping\"",
        )
        .install(&olga)
        .await;
    let anna = test.tenant("acme").await;
    let of_cell = test.user(&anna, "self", &["probe.self"]).await;
    let user = test.user(&anna, "user", &["probe.use"]).await;
    let echoer = test.user(&anna, "echoer", &["probe.echo"]).await;
    let body = json!({ "a": 1 });
    for (path, method, right, wrong) in [
        ("/cells/probe/probe/echo", Method::POST, &echoer, [&user, &of_cell]),
        ("/cells/probe/probe/context", Method::GET, &user, [&echoer, &of_cell]),
    ] {
        test.anonymous().send(method.clone(), path, Some(&body)).await.refused(401, "UNAUTHENTICATED");
        for stranger in wrong {
            stranger.send(method.clone(), path, Some(&body)).await.refused(403, "FORBIDDEN");
        }
        right.send(method, path, Some(&body)).await.done(200);
    }
    let denial = test.audit(&anna, "authz.deny").await.remove(0);
    assert_eq!(denial["target"]["id"], "/probe/context", "the audit names the trigger: {denial}");
    assert_eq!(denial["details"]["missing_permissions"], json!(["probe.use"]));
    test.anonymous().get("/cells/probe/probe/ping").await.done(200);
    // Only a cell without triggers of its own is closed by the permission of the whole cell.
    test.anonymous().get("/cells/shop/probe/ping").await.refused(401, "UNAUTHENTICATED");
    echoer.get("/cells/shop/probe/ping").await.refused(403, "FORBIDDEN");
    user.get("/cells/shop/probe/ping").await.done(200);
    assert_eq!(user.get("/cells/shop/probe/context").await.expect(200)["path"], "/probe/context");
    for path in
        ["/cells/nobody/probe/ping", "/cells/probe/probe/nothing", "/cells/probe/probe", "/cells/Probe/probe/ping"]
    {
        anna.get(path).await.refused(404, "NOT_FOUND");
    }
}
