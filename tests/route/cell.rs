//! `/api/v1/cells`

use jiff::SignedDuration;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use suite::actor::Actor;
use suite::cell::Guest;
use suite::kernel::{TestKernel, text};

use crate::sandbox::variant::renamed;

on_both_kernels!(
    a_version_is_uploaded_once_and_activated,
    an_upload_names_its_parts,
    only_an_operator_uploads,
    cells_and_versions_are_listed_in_pages,
    what_does_not_exist_is_not_found,
    traps_are_listed_newest_first,
    overlapping_routes_are_refused_at_activation,
);

const CELLS: &str = "/api/v1/cells";

async fn a_version_is_uploaded_once_and_activated(test: TestKernel) {
    let olga = test.owner().await;
    let made = Guest::probe().upload(&olga, "").await.expect(201);
    assert_eq!((text(&made["name"]), text(&made["version"]), text(&made["status"])), ("probe", "1.0.0", "uploaded"));
    assert_eq!(made["bytes"], Guest::probe().component.len());
    let digest = text(&made["digest"]);
    assert!(digest.len() == 71 && digest.starts_with("sha256:"), "{digest}");
    let stopped = olga.get("/api/v1/cells/probe").await.expect(200);
    assert_eq!(
        (&stopped["state"], &stopped["active_version"], &stopped["limits"]),
        (&json!("stopped"), &Value::Null, &Value::Null)
    );
    test.anonymous().get("/probe/ping").await.refused(404, "NOT_FOUND");
    test.anonymous().get("/cells/probe/probe/ping").await.refused(404, "NOT_FOUND");

    test.pass(SignedDuration::from_secs(5));
    let active = olga.post("/api/v1/cells/probe/activate", &json!({ "version": "1.0.0" })).await.expect(200);
    assert_eq!((&active["status"], &active["digest"]), (&json!("active"), &made["digest"]));
    test.anonymous().get("/probe/ping").await.done(200);
    let shown = olga.get("/api/v1/cells/probe").await.expect(200);
    assert_eq!((text(&shown["state"]), text(&shown["active_version"])), ("active", "1.0.0"));
    assert_eq!((&shown["digest"], &shown["created_at"]), (&made["digest"], &made["created_at"]));
    assert_eq!((&shown["last_trap"], text(&shown["activated_at"])), (&Value::Null, "2027-01-15T08:00:05Z"));
    let limits = json!({
        "fuel": 50_000_000, "timeout_ms": 1000, "memory_mb": 32, "output_kb": 1024, "concurrency": 64,
    });
    assert_eq!(shown["limits"], limits);
    let counters = json!({ "requests": 1, "traps": 0, "fuel_exhausted": 0, "timeouts": 0, "restarts": 0 });
    assert_eq!(shown["counters"], counters);

    let uploads = test.audit(&olga, "cell.upload").await;
    assert_eq!(uploads.len(), 1);
    assert_eq!(uploads[0]["target"], json!({ "type": "cell", "id": "probe" }));
    assert_eq!(uploads[0]["details"], json!({ "version": "1.0.0", "digest": digest }));
    let activations = test.audit(&olga, "cell.activate").await;
    assert_eq!(activations.len(), 1);
    assert_eq!(activations[0]["details"], json!({ "version": "1.0.0", "digest": digest, "previous_version": null }));
}

async fn an_upload_names_its_parts(test: TestKernel) {
    let olga = test.owner().await;
    let guest = Guest::probe();
    let manifest = || Part::text(guest.manifest.clone());
    let component = || Part::bytes(guest.component.clone());
    let upload = async |form: Form| olga.upload(CELLS, form).await;
    upload(Form::new().part("manifest", manifest())).await.invalid("/component");
    upload(Form::new().part("component", component())).await.invalid("/manifest");
    let stranger = Form::new().part("manifest", manifest()).part("component", component()).text("colour", "red");
    upload(stranger).await.invalid("/colour");
    let latin = Form::new().part("manifest", Part::bytes(vec![0xff, 0xfe])).part("component", component());
    upload(latin).await.invalid("/manifest");
    olga.post(CELLS, &json!({})).await.refused(415, "UNSUPPORTED_MEDIA_TYPE");
    olga.send(http::Method::POST, CELLS, None).await.refused(415, "UNSUPPORTED_MEDIA_TYPE");
    let broken = async |media: &str, body: &[u8]| {
        olga.send_bytes(http::Method::POST, CELLS, media, Some(body.to_vec())).await.refused(400, "VALIDATION_ERROR");
    };
    broken("multipart/form-data", b"--x\r\n").await;
    broken("multipart/form-data; boundary=x", b"").await;
    broken("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=\"manifest\"\r\n\r\ncut")
        .await;
    guest.upload(&olga, "?activate=perhaps").await.invalid("/query/activate");
    guest.upload(&olga, "?colour=red").await.refused(400, "VALIDATION_ERROR");
    assert_eq!(olga.get(CELLS).await.expect(200), json!({ "data": [], "next_cursor": null }));
    assert_eq!(test.audit(&olga, "cell.upload").await.len(), 0);
}

async fn only_an_operator_uploads(test: TestKernel) {
    let olga = test.owner().await;
    let reader = test.user(&olga, "reader", &["kernel.cell.read"]).await;
    let deployer = test.user(&olga, "deployer", &["kernel.cell.deploy"]).await;
    let anna = test.tenant("acme").await;
    // Small, because a refusal does not wait for the rest of the body.
    let small = Guest { component: Vec::new(), ..Guest::probe() };
    small.upload(&test.anonymous(), "").await.refused(401, "UNAUTHENTICATED");
    for stranger in [&reader, &anna] {
        let problem = small.upload(stranger, "?activate=true").await.refused(403, "FORBIDDEN");
        assert_eq!(problem["missing_permissions"], json!(["kernel.cell.deploy"]));
    }
    assert_eq!(test.audit(&anna, "authz.deny").await[0]["target"]["id"], "cell.upload");
    anna.get(CELLS).await.refused(403, "FORBIDDEN");
    assert_eq!(reader.get(CELLS).await.expect(200)["data"], json!([]));
    Guest::probe().upload(&deployer, "?activate=true").await.done(201);
    deployer.get(CELLS).await.refused(403, "FORBIDDEN");
    assert_eq!(reader.get(CELLS).await.expect(200)["data"][0]["name"], "probe");
    // The permission that the cell declares can be granted now.
    let listed = anna.get("/api/v1/permissions").await.expect(200).to_string();
    assert!(listed.contains("\"probe.use\""), "{listed}");
}

async fn names(olga: &Actor, path: &str, member: &str) -> (Vec<String>, Value) {
    let page = olga.get(path).await.expect(200);
    let names = page["data"].as_array().unwrap().iter().map(|item| text(&item[member]).to_owned()).collect();
    (names, page["next_cursor"].clone())
}

async fn cells_and_versions_are_listed_in_pages(test: TestKernel) {
    let olga = test.owner().await;
    for name in ["ant", "bee", "cat"] {
        renamed(Guest::probe(), name).upload(&olga, "").await.done(201);
    }
    let versions = ["1.0.1", "1.1.0"];
    for version in versions {
        renamed(Guest::probe(), "bee").version(version).upload(&olga, "?activate=true").await.done(201);
    }
    assert_eq!(names(&olga, CELLS, "name").await, (vec!["ant".into(), "bee".into(), "cat".into()], Value::Null));
    let (first, cursor) = names(&olga, &format!("{CELLS}?limit=2"), "name").await;
    assert_eq!(first, ["ant", "bee"]);
    let rest = names(&olga, &format!("{CELLS}?limit=2&cursor={}", text(&cursor)), "name").await;
    assert_eq!(rest, (vec!["cat".to_owned()], Value::Null));

    let path = "/api/v1/cells/bee/versions";
    let (all, end) = names(&olga, path, "version").await;
    assert_eq!((all, end), (vec!["1.0.0".into(), "1.0.1".into(), "1.1.0".into()], Value::Null));
    let (statuses, _) = names(&olga, path, "status").await;
    assert_eq!(statuses, ["uploaded", "uploaded", "active"]);
    let (first, cursor) = names(&olga, &format!("{path}?limit=1"), "version").await;
    assert_eq!(first, ["1.0.0"]);
    let rest = names(&olga, &format!("{path}?cursor={}", text(&cursor)), "version").await;
    assert_eq!(rest, (vec!["1.0.1".to_owned(), "1.1.0".to_owned()], Value::Null));
    let (of_another, _) = names(&olga, "/api/v1/cells/ant/versions", "version").await;
    assert_eq!(of_another, ["1.0.0"]);

    // Going back is an activation like any other.
    olga.post("/api/v1/cells/bee/activate", &json!({ "version": "1.0.1" })).await.done(200);
    let (statuses, _) = names(&olga, path, "status").await;
    assert_eq!(statuses, ["uploaded", "active", "uploaded"]);
    let latest = test.audit(&olga, "cell.activate").await.remove(0);
    assert_eq!(
        (&latest["details"]["previous_version"], &latest["details"]["version"]),
        (&json!("1.1.0"), &json!("1.0.1"))
    );
}

async fn what_does_not_exist_is_not_found(test: TestKernel) {
    let olga = test.owner().await;
    renamed(Guest::probe(), "ant").upload(&olga, "").await.done(201);
    for path in ["bee", "bee/versions", "bee/traps", "Ant", "an", "ant%2Ftraps"] {
        olga.get(&format!("{CELLS}/{path}")).await.refused(404, "NOT_FOUND");
    }
    let activate = async |name: &str, version: &str| {
        olga.post(&format!("{CELLS}/{name}/activate"), &json!({ "version": version })).await.refused(404, "NOT_FOUND");
    };
    activate("bee", "1.0.0").await;
    activate("ant", "1.0.1").await;
    activate("ant", "").await;
    assert_eq!(olga.get(&format!("{CELLS}/ant/traps")).await.expect(200), json!({ "data": [], "next_cursor": null }));
    assert_eq!(olga.get(&format!("{CELLS}/ant")).await.expect(200)["state"], "stopped");
    assert_eq!(test.audit(&olga, "cell.activate").await.len(), 0);
}

async fn traps_are_listed_newest_first(test: TestKernel) {
    let olga = test.owner().await;
    Guest::probe().with("timeout_ms = 1000", "timeout_ms = 30000").install(&olga).await;
    let anna = test.tenant("acme").await;
    let mut expected = Vec::new();
    for (path, kind) in [
        ("/probe/panic", "trapped"),
        ("/probe/eat", "memory_exceeded"),
        ("/probe/recurse", "limit_exceeded"),
        ("/probe/stage-then/bad-status", "bad_response"),
    ] {
        test.pass(SignedDuration::from_secs(1));
        let reply = anna.post(path, &json!({})).await;
        expected.insert(0, json!({ "kind": kind, "correlation_id": reply.header("x-correlation-id") }));
    }
    let traps = olga.get("/api/v1/cells/probe/traps").await.expect(200);
    let found: Vec<Value> = traps["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|report| json!({ "kind": report["kind"], "correlation_id": report["correlation_id"] }))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(traps["next_cursor"], Value::Null);
    let newest = traps["data"][0].as_object().unwrap();
    let members: Vec<&str> = newest.keys().map(String::as_str).collect();
    assert_eq!(members, ["at", "backtrace", "correlation_id", "kind", "message", "version"]);
    let shown = olga.get("/api/v1/cells/probe").await.expect(200);
    assert_eq!(shown["last_trap"], traps["data"][0]);
    // A cell that failed is still the one that it was.
    assert_eq!((&shown["state"], &shown["active_version"]), (&json!("active"), &json!("1.0.0")));
    let entries = test.audit(&anna, "cell.call").await;
    assert_eq!(entries.len(), 4, "one entry for each failure, in the caller's log");
    assert_eq!(test.audit(&olga, "cell.call").await.len(), 0);
}

async fn overlapping_routes_are_refused_at_activation(test: TestKernel) {
    let olga = test.owner().await;
    Guest::probe().install(&olga).await;
    let trigger = |route: &str, methods: &str| {
        let table = format!(
            "[[trigger.http]]\nroute = \"{route}\"\nmethods = [{methods}]\npermission = \"rival.use\"\n\n[limits]"
        );
        renamed(Guest::probe(), "rival").with("[limits]", &table)
    };
    let before = olga.get("/api/v1/routes?limit=200").await.expect(200);
    for (number, (route, methods)) in [
        ("/probe/ping", "\"GET\""),
        ("/probe/{anything}", "\"PUT\", \"GET\""),
        ("/probe/increment/{*rest}", "\"POST\""),
        ("/probe/state/{other}", "\"DELETE\""),
    ]
    .into_iter()
    .enumerate()
    {
        let rival = trigger(route, methods).version(&format!("1.0.{}", number + 1));
        let problem = rival.upload(&olga, "?activate=true").await.refused(409, "ROUTE_CONFLICT");
        let detail = text(&problem["detail"]);
        assert!(detail.contains(route) && detail.contains("of rival") && detail.contains("of probe"), "{detail}");
        assert_eq!(olga.get("/api/v1/routes?limit=200").await.expect(200), before);
        olga.get("/api/v1/cells/rival").await.refused(404, "NOT_FOUND");
    }
    let rival = trigger("/probe/ping", "\"POST\"").version("2.0.0");
    rival.upload(&olga, "?activate=true").await.done(201);
    test.anonymous().get("/probe/ping").await.done(200);
    test.anonymous().post("/probe/ping", &json!({})).await.refused(401, "UNAUTHENTICATED");
    // A new version of a cell does not conflict with the one that it replaces.
    trigger("/probe/ping", "\"POST\"").version("2.0.1").upload(&olga, "?activate=true").await.done(201);
    trigger("/probe/ping", "\"GET\"").version("2.0.2").upload(&olga, "").await.done(201);
    let activation = json!({ "version": "2.0.2" });
    olga.post("/api/v1/cells/rival/activate", &activation).await.refused(409, "ROUTE_CONFLICT");
    let rival = olga.get("/api/v1/cells/rival").await.expect(200);
    assert_eq!(rival["active_version"], "2.0.1");
}
