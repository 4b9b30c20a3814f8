//! Walks the URL table with requests that are wrong in every way: each is refused with a problem that says what is wrong,
//! none is a failure of the kernel, and nothing changes.

use std::collections::BTreeSet;

use aibos::http::operation::Route;
use aibos::http::{openapi, router};
use aibos::id::TenantId;
use aibos::state::Space;
use aibos::state::unit::{Unit, Verdict, Write};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use suite::actor::{Actor, Reply};
use suite::kernel::{BOOTSTRAP_KEY, TestKernel, text};

use crate::sandbox::variant::patient_probe;

on_both_kernels!(
    bodies_that_are_not_what_is_asked_for,
    bodies_that_are_too_large,
    ids_that_are_none,
    pages_that_do_not_exist,
    methods_and_paths_that_do_not_exist,
    correlation_ids_that_are_none,
    text_that_no_database_takes,
    a_refusal_reaches_a_client_that_still_sends,
);

const SOMEBODY: &str = "0197e6a8-0000-7000-8000-000000000000";

/// The commit sequence now; asking takes one number.
async fn sequence(test: &TestKernel) -> i64 {
    let space = Space { tenant: TenantId::PLATFORM, name: "bad-input".into() };
    let unit = Unit { writes: vec![Write::Put(space.key("mark"), Bytes::new())], ..Unit::default() };
    match test.kernel.commit(unit).await.unwrap() {
        Verdict::Committed(receipt) => receipt.sequence,
        Verdict::Conflicted(conflict) => panic!("{conflict:?}"),
    }
}

/// Olga, who may do everything, also open the kernel once more.
async fn olga(test: &TestKernel) -> Actor {
    test.owner().await.with_header("x-bootstrap-key", BOOTSTRAP_KEY)
}

/// The path with every parameter filled in.
fn path(route: &Route, id: &str, name: &str) -> String {
    let fill = |segment: &str| match segment.strip_prefix('{') {
        Some(parameter) if parameter.contains("id") => id.to_owned(),
        Some(_) => name.to_owned(),
        None => segment.to_owned(),
    };
    route.path.split('/').map(fill).collect::<Vec<_>>().join("/")
}

/// The operations that the document describes so.
fn described(wanted: impl Fn(&Value) -> bool) -> Vec<Route> {
    let document = openapi::document();
    let operation = |route: &Route| document["paths"][route.path][route.method.as_str().to_lowercase()].clone();
    router::table().into_iter().filter(|route| wanted(&operation(route))).collect()
}

fn taking_json() -> Vec<Route> {
    let found = described(|operation| operation["requestBody"]["content"]["application/json"].is_object());
    assert!(found.len() >= 15, "the walk is not vacuous: {}", found.len());
    found
}

/// What was wrong on a walk through the table. All of it is told at the end, not only the first.
#[derive(Default)]
struct Walk {
    faults: Vec<String>,
}

impl Walk {
    /// A refusal must have this status and code and help: a sentence, and for a wrong value the place.
    fn expect(&mut self, what: &str, reply: Reply, status: u16, code: &str) {
        if (reply.status, reply.json["code"].as_str()) != (status, Some(code)) {
            let text: String = reply.text.chars().take(160).collect();
            self.faults.push(format!("{what}: {} {text}, not {status} {code}", reply.status));
            return;
        }
        let problem = reply.refused(status, code);
        assert!(text(&problem["detail"]).contains(' '), "{what}: {problem}");
        if code == "VALIDATION_ERROR" {
            let error = &problem["errors"][0];
            assert!(error["pointer"].is_string() && !text(&error["message"]).is_empty(), "{what}: {problem}");
        }
    }

    /// A reply must blame the request.
    fn blames_the_request(&mut self, what: &str, reply: &Reply) {
        if !(400..500).contains(&reply.status) || !reply.json["code"].is_string() {
            self.faults.push(format!("{what}: {} {}", reply.status, reply.json["code"]));
        }
    }

    /// Nothing was wrong, and nothing was committed since that sequence.
    async fn ends(self, test: &TestKernel, before: i64) {
        assert!(self.faults.is_empty(), "\n  {}", self.faults.join("\n  "));
        assert_eq!(sequence(test).await, before + 1, "something was committed");
    }
}

async fn bodies_that_are_not_what_is_asked_for(test: TestKernel) {
    let olga = olga(&test).await;
    let (mut walk, before) = (Walk::default(), sequence(&test).await);
    let bodies: [&[u8]; 13] = [
        b"\"text\"",
        b"7",
        b"null",
        b"true",
        b"[]",
        b"[{}]",
        b"",
        b"{",
        b"{\"a\":1,}",
        b"{\"a\" 1}",
        b"{\"no_such_field\":1}",
        b"{\"\xff\":1}",
        b"\xef\xbb\xbf{}",
    ];
    let optional = described(|operation| operation["requestBody"]["required"] == false);
    let may_be_absent = |route: &Route| optional.iter().any(|other| other.name == route.name);
    for route in taking_json() {
        let path = path(&route, SOMEBODY, "nothing");
        let absent: [&[u8]; 2] = [b"", b"null"];
        for body in bodies.into_iter().filter(|body| !(may_be_absent(&route) && absent.contains(body))) {
            let what = format!("{} {path} with {:?}", route.method, String::from_utf8_lossy(body));
            let reply = olga.send_bytes(route.method.clone(), &path, "application/json", Some(body.to_vec())).await;
            walk.expect(&what, reply, 400, "VALIDATION_ERROR");
        }
        let unknown = olga.send_text(route.method.clone(), &path, Some("{\"no_such_field\":1}".into())).await;
        assert!(unknown.text.contains("no_such_field"), "{}: {}", route.name, unknown.text);
        for media in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""] {
            let reply = olga.send_bytes(route.method.clone(), &path, media, Some(b"{}".to_vec())).await;
            walk.expect(&format!("{} as {media:?}", route.name), reply, 415, "UNSUPPORTED_MEDIA_TYPE");
        }
        if route.name == "audit.verify" {
            // Names nothing that could be missing: without a body it is a good request.
            continue;
        }
        let reply = olga.send(route.method.clone(), &path, None).await;
        if may_be_absent(&route) {
            walk.expect(route.name, reply, 404, "NOT_FOUND");
        } else {
            walk.expect(route.name, reply, 415, "UNSUPPORTED_MEDIA_TYPE");
        }
    }
    walk.ends(&test, before).await;
}

async fn bodies_that_are_too_large(test: TestKernel) {
    let olga = olga(&test).await;
    let large = || Some(vec![b' '; 1024 * 1024 + 1]);
    let (mut walk, before) = (Walk::default(), sequence(&test).await);
    for route in taking_json() {
        let path = path(&route, SOMEBODY, "nothing");
        let reply = olga.send_bytes(route.method.clone(), &path, "application/json", large()).await;
        walk.expect(route.name, reply, 413, "PAYLOAD_TOO_LARGE");
    }
    walk.ends(&test, before).await;
    patient_probe().install(&olga).await;
    let (mut walk, before) = (Walk::default(), sequence(&test).await);
    let reply = olga.send_bytes(Method::POST, "/probe/echo", "application/octet-stream", large()).await;
    walk.expect("/probe/echo", reply, 413, "PAYLOAD_TOO_LARGE");
    walk.ends(&test, before).await;
    let largest = Some(vec![b' '; 1024 * 1024]);
    let echoed = olga.send_bytes(Method::POST, "/probe/echo", "application/octet-stream", largest).await;
    assert_eq!((echoed.status, echoed.text.len()), (200, 1024 * 1024));
}

async fn ids_that_are_none(test: TestKernel) {
    let olga = olga(&test).await;
    let (mut walk, before) = (Walk::default(), sequence(&test).await);
    let with_ids: Vec<Route> = router::table().into_iter().filter(|route| route.path.contains("id}")).collect();
    assert!(with_ids.len() >= 14, "the walk is not vacuous: {}", with_ids.len());
    for route in with_ids {
        for id in
            ["x", "0", "%20", "%00", "%ff", "%zz", "0197e6a8-0000-7000-8000-00000000000", "%27%20or%201%3D1", "..%2F.."]
        {
            let path = path(&route, id, "nothing");
            let reply = olga.send(route.method.clone(), &path, Some(&json!({}))).await;
            let what = format!("{} {path}", route.method);
            // A path that does not decode leads nowhere.
            if reply.status == 404 {
                walk.expect(&what, reply, 404, "NOT_FOUND");
            } else {
                walk.expect(&what, reply, 400, "VALIDATION_ERROR");
            }
        }
        let reply = olga.send(route.method.clone(), &path(&route, "x", "nothing"), Some(&json!({}))).await;
        assert!(text(&reply.json["errors"][0]["pointer"]).starts_with("/path/"), "{}: {}", route.name, reply.text);
    }
    walk.ends(&test, before).await;
}

async fn pages_that_do_not_exist(test: TestKernel) {
    let olga = olga(&test).await;
    patient_probe().install(&olga).await;
    let is_list = |operation: &Value| {
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        parameters.iter().any(|parameter| parameter["name"] == "limit")
    };
    let lists = described(is_list);
    assert!(lists.len() >= 8, "the walk is not vacuous: {}", lists.len());
    let paths: Vec<String> = lists.iter().map(|route| path(route, SOMEBODY, "probe")).collect();
    for path in &paths {
        olga.get(path).await.done(200);
    }
    let (mut walk, before) = (Walk::default(), sequence(&test).await);
    for path in paths {
        for query in ["limit=0", "limit=201", "limit=abc", "limit=-1", "limit=", "limit=4294967296", "limit=1&limit=2"]
        {
            let reply = olga.get(&format!("{path}?{query}")).await;
            walk.expect(&format!("{path}?{query}"), reply, 400, "VALIDATION_ERROR");
        }
        olga.get(&format!("{path}?colour=red")).await.refused(400, "VALIDATION_ERROR");
        for cursor in ["%00", "not%20a%20cursor%21", "%ff"] {
            let reply = olga.get(&format!("{path}?cursor={cursor}")).await;
            walk.expect(&format!("{path}?cursor={cursor}"), reply, 400, "VALIDATION_ERROR");
        }
    }
    walk.ends(&test, before).await;
}

async fn methods_and_paths_that_do_not_exist(test: TestKernel) {
    let olga = olga(&test).await;
    let (mut walk, before) = (Walk::default(), sequence(&test).await);
    let table = router::table();
    let paths: BTreeSet<&str> = table.iter().map(|route| route.path).collect();
    for template in paths {
        let routes: Vec<&Route> = table.iter().filter(|route| route.path == template).collect();
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::TRACE] {
            if routes.iter().any(|route| route.method == method) {
                continue;
            }
            let path = path(routes[0], SOMEBODY, "nothing");
            for actor in [&olga, &test.anonymous()] {
                let reply = actor.send(method.clone(), &path, None).await;
                walk.expect(&format!("{method} {path}"), reply, 405, "METHOD_NOT_ALLOWED");
            }
        }
    }
    for path in
        ["/", "/api", "/api/v1", "/api/v1/nothing", "/api/v2/users", "/API/v1/users", "/api/v1/users/", "/nothing"]
    {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let reply = olga.send(method, path, None).await;
            walk.expect(path, reply, 404, "NOT_FOUND");
        }
    }
    walk.ends(&test, before).await;
}

async fn correlation_ids_that_are_none(test: TestKernel) {
    let olga = olga(&test).await;
    let (mut walk, before) = (Walk::default(), sequence(&test).await);
    for bad in ["", "7", "not-a-uuid", "0197e6a8-0000-7000-8000-00000000000g", "0197e6a8-0000-7000-8000-0000000000001"]
    {
        for route in router::table() {
            let path = path(&route, SOMEBODY, "nothing");
            let reply = olga.with_header("x-correlation-id", bad).send(route.method.clone(), &path, None).await;
            walk.expect(&path, reply, 400, "INVALID_CORRELATION_ID");
        }
        olga.with_header("x-correlation-id", bad).get("/nothing").await.refused(400, "INVALID_CORRELATION_ID");
    }
    walk.ends(&test, before).await;
}

/// U+0000 is valid UTF-8 and valid JSON, but `PostgreSQL` refuses it in text: it must not come so far.
async fn text_that_no_database_takes(test: TestKernel) {
    let olga = olga(&test).await;
    let (mut walk, before) = (Walk::default(), sequence(&test).await);
    let mut refused = async |method: Method, path: &str, body: Value| {
        let reply = olga.send(method.clone(), path, Some(&body)).await;
        let path: String = path.chars().take(60).collect();
        walk.blames_the_request(&format!("{method} {path} {body}"), &reply);
    };
    for route in router::table().iter().filter(|route| route.path.contains("{name}") || route.path.contains("{cell}")) {
        refused(route.method.clone(), &path(route, SOMEBODY, "%00"), json!({ "version": "1.0.0" })).await;
        refused(route.method.clone(), &path(route, SOMEBODY, &"x".repeat(5000)), json!({ "version": "1.0.0" })).await;
    }
    refused(Method::POST, "/api/v1/cells/nothing/activate", json!({ "version": "\0" })).await;
    let route = json!({ "route": "/x", "methods": ["GET"], "cell": "\0", "permission": "x.y" });
    refused(Method::POST, "/api/v1/routes", route).await;
    refused(Method::POST, "/api/v1/chaos/faults", json!({ "cell": "\0", "kind": "trap" })).await;
    refused(Method::POST, "/api/v1/users", json!({ "email": "a\0@b.c" })).await;
    refused(Method::POST, "/api/v1/users", json!({ "email": "a@b.c", "display_name": "\0" })).await;
    refused(Method::POST, "/api/v1/roles", json!({ "name": "\0" })).await;
    refused(Method::POST, "/api/v1/tenants", json!({ "slug": "x", "name": "\0" })).await;
    refused(Method::POST, "/api/v1/events", json!({ "type": "a", "subject": "\0", "data": 1 })).await;
    refused(Method::POST, "/api/v1/events", json!({ "type": "a", "id": "\0", "data": 1 })).await;
    // A filter that nothing can match may as well find nothing.
    for query in ["audit?actor=%00", "audit?action=%00", "events?type=%00", "events?subject=%00"] {
        let reply = olga.get(&format!("/api/v1/{query}")).await;
        if reply.status != 200 {
            walk.blames_the_request(query, &reply);
        }
    }
    walk.ends(&test, before).await;
}

/// The rest of the body is read and dropped, or the client would see a broken connection instead of the reason.
async fn a_refusal_reaches_a_client_that_still_sends(test: TestKernel) {
    let olga = olga(&test).await;
    let (walk, before) = (Walk::default(), sequence(&test).await);
    let large = || Some(vec![b' '; 8 * 1024 * 1024]);
    let send =
        async |actor: &Actor, path: &str, media: &str| actor.send_bytes(Method::POST, path, media, large()).await;
    send(&olga, "/api/v1/users", "application/json").await.refused(413, "PAYLOAD_TOO_LARGE");
    send(&olga, "/api/v1/nothing", "application/json").await.refused(404, "NOT_FOUND");
    let cells = send(&test.anonymous(), "/api/v1/cells", "multipart/form-data; boundary=x").await;
    cells.refused(401, "UNAUTHENTICATED");
    walk.ends(&test, before).await;
}
