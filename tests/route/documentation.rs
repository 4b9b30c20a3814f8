//! `GET /openapi.json`, `GET /docs` and the checked-in `docs/openapi.json`.

use std::collections::BTreeSet;

use aibos::http::{openapi, router};
use serde_json::Value;
use suite::kernel::TestKernel;
use suite::snapshot;

on_both_kernels!(serves_the_document, serves_a_page_that_needs_nothing_else);

async fn serves_the_document(kernel: TestKernel) {
    let served = kernel.anonymous().get("/openapi.json").await.expect(200);
    assert_eq!(served, openapi::document());
}

async fn serves_a_page_that_needs_nothing_else(kernel: TestKernel) {
    let page = kernel.anonymous().get("/docs").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.text.matches("<script").count(), 1, "the policy admits one script");
    assert_eq!(page.text.matches("<style").count(), 1, "the policy admits one style");
    for foreign in ["http://", "https://", "src=", " style=", "innerHTML", "onclick"] {
        assert!(!page.text.contains(foreign), "{foreign}");
    }
}

#[test]
fn the_checked_in_document_is_current() {
    let document = serde_json::to_string_pretty(&openapi::document()).unwrap();
    snapshot::compare("docs/openapi.json", &format!("{document}\n"));
}

#[test]
fn every_operation_is_described() {
    let document = openapi::document();
    let mut ids = BTreeSet::new();
    for route in router::table() {
        let operation = &document["paths"][route.path][route.method.as_str().to_lowercase()];
        assert!(operation.is_object(), "{} {} is missing", route.method, route.path);
        assert!(ids.insert(operation["operationId"].to_string()), "{} is there twice", operation["operationId"]);
        assert!(operation["responses"][route.status.as_str()].is_object(), "{operation}");
        for parameter in route.path.split('/').filter_map(|segment| segment.strip_prefix('{')) {
            let name = parameter.trim_end_matches('}').trim_start_matches('*');
            let described = operation["parameters"].as_array().unwrap().iter().any(|parameter| {
                parameter["in"] == "path" && parameter["name"] == name && parameter["required"] == true
            });
            assert!(described, "{} does not describe {name}", route.path);
        }
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_used() {
    let document = openapi::document();
    let mut references = BTreeSet::new();
    collect(&document, &mut references);
    for reference in &references {
        let pointer = reference.strip_prefix('#').expect("a reference within the document");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        assert!(references.contains(&format!("#/components/schemas/{name}")), "{name} is not used");
    }
    let text = document.to_string();
    assert!(!text.contains("$defs") && !text.contains("x-output"), "schemars' own places are gone");
}

fn collect(value: &Value, references: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
                references.insert(reference.to_owned());
            }
            object.values().for_each(|value| collect(value, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
