//! The OpenAPI 3.1 document, built from the URL table: an operation that is in the table is in the document, with the types
//! that its handler really takes and answers. A pure function, so that a test compares it with `docs/openapi.json`.

mod code;
mod schema;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::input::InputDocument;
use super::operation::{Audited, Route};
use super::problem::Code;
use super::router;
use crate::rbac::permission::Scope;
use crate::rbac::permit::Rule;
use schema::Schemas;

/// What the groups of operations are about, in the order in which they are shown.
const GROUPS: &[(&str, &str)] = &[
    ("auth", "Signing in, and oneself."),
    ("kernel", "Setting the kernel up."),
    ("tenant", "Tenants: the operator's business."),
    ("user", "Users of the caller's tenant."),
    ("role", "Roles of the caller's tenant."),
    ("permission", "The permissions that exist."),
    ("event", "The tenant's event log."),
    ("audit", "The tenant's audit log: append-only."),
    ("cell", "Cells: sandboxed components."),
    ("route", "Routes of cells."),
    ("chaos", "Injected faults."),
    ("key", "Public keys."),
    ("probe", "Whether the kernel runs and serves."),
    ("documentation", "This document."),
];

/// The whole document.
#[must_use]
pub fn document() -> Value {
    let table = router::table();
    let mut schemas = Schemas::default();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let mut names: BTreeMap<&str, u32> = BTreeMap::new();
    for route in &table {
        let count = names.entry(route.name).or_default();
        *count += 1;
        // Two paths may lead to one operation, but every operation in the document needs a name of its own.
        let id = if *count == 1 { route.name.to_owned() } else { format!("{}.{count}", route.name) };
        let method = route.method.as_str().to_ascii_lowercase();
        paths.entry(route.path).or_default().insert(method, operation(route, &id, &mut schemas));
    }
    let (paths, mut components) = schemas.finish(json!(paths));
    components.insert("Problem".into(), problem());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "AI-BOS Kernel",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "The control plane of a host for finance cells.",
            "description": DESCRIPTION,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": tags(&table),
        "paths": paths,
        "components": {
            "schemas": components,
            "parameters": { "CorrelationId": correlation_parameter() },
            "headers": { "CorrelationId": correlation_header() },
            "securitySchemes": { "bearer": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "at+jwt",
                "description": "An access token from POST /api/v1/auth/login.",
            } },
        },
        "x-codes": Code::ALL.iter().map(|code| json!({
            "code": code.as_str(),
            "status": code.status().as_u16(),
            "title": code.title(),
        })).collect::<Vec<_>>(),
    })
}

const DESCRIPTION: &str = "Errors are RFC 9457 problems with a stable `code`. Lists take `limit` and `cursor` and answer \
    `{\"data\": […], \"next_cursor\": …}`. Times are RFC 3339 in UTC, ids are UUIDs. The tenant always comes from the access \
    token, and another tenant's object is a 404. Active cells add routes of their own; GET /api/v1/routes lists them.";

fn operation(route: &Route, id: &str, schemas: &mut Schemas) -> Value {
    let mut input = InputDocument::default();
    (route.input)(schemas.input(), &mut input);
    let mut parameters = Vec::new();
    for (place, schema) in [("path", &input.path), ("query", &input.query)] {
        parameters.extend(schema.iter().flat_map(|schema| fields(place, schema.as_value())));
    }
    parameters.extend(input.headers.iter().map(|(name, meaning)| {
        json!({ "name": name, "in": "header", "required": true, "description": meaning, "schema": { "type": "string" } })
    }));
    parameters.push(json!({ "$ref": "#/components/parameters/CorrelationId" }));
    let mut operation = json!({
        "operationId": id,
        "summary": route.summary,
        "description": access(route),
        "tags": [group(route)],
        "parameters": parameters,
        "responses": replies(route, &input, schemas),
        "security": if route.rule == Rule::Public { json!([]) } else { json!([{ "bearer": [] }]) },
        "x-audited": route.audited != Audited::No,
    });
    if let Some(operation) = operation.as_object_mut() {
        if let Rule::Needs(permission, _) = route.rule {
            operation.insert("x-permission".into(), permission.into());
        }
        if let Some((media, schema)) = input.body {
            let content = json!({ media: { "schema": schema.to_value() } });
            let required = !input.body_is_optional;
            operation.insert("requestBody".into(), json!({ "required": required, "content": content }));
        }
    }
    operation
}

/// The parameters that an object's properties stand for.
fn fields(place: &str, schema: &Value) -> Vec<Value> {
    let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let parameter = |(name, mut schema): (String, Value)| {
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        let mut parameter = json!({
            "name": name,
            "in": place,
            "required": place == "path" || required.contains(&Value::from(name.as_str())),
            "schema": schema,
        });
        if let (Some(description), Some(parameter)) = (description, parameter.as_object_mut()) {
            parameter.insert("description".into(), description);
        }
        parameter
    };
    properties.into_iter().map(parameter).collect()
}

fn replies(route: &Route, input: &InputDocument, schemas: &mut Schemas) -> Value {
    let headers = json!({ "X-Correlation-Id": { "$ref": "#/components/headers/CorrelationId" } });
    let body = (route.output)(schemas.output());
    let success = |description: &str| {
        let mut reply = json!({ "description": description, "headers": headers });
        if let (Some((media, schema)), Some(reply)) = (&body, reply.as_object_mut()) {
            reply.insert("content".into(), json!({ *media: { "schema": { schema::OUTPUT: schema.as_value() } } }));
        }
        reply
    };
    let mut replies = Map::new();
    replies.insert(route.status.as_u16().to_string(), success(route.status.canonical_reason().unwrap_or("Done")));
    if let Some((status, when)) = route.other_status {
        replies.insert(status.as_u16().to_string(), success(when));
    }
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in code::of(route, input) {
        by_status.entry(code.status().as_u16()).or_default().push(code);
    }
    for (status, codes) in by_status {
        let lines: Vec<String> = codes.iter().map(|code| format!("`{}`: {}.", code.as_str(), code.title())).collect();
        replies.insert(
            status.to_string(),
            json!({
                "description": lines.join(" "),
                "headers": headers,
                "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
                "x-codes": codes.iter().map(|code| code.as_str()).collect::<Vec<_>>(),
            }),
        );
    }
    Value::Object(replies)
}

fn access(route: &Route) -> String {
    let audited = route.audited.action(route.name).map(|action| format!(" Audited as `{action}`.")).unwrap_or_default();
    let rule = match route.rule {
        Rule::Public => "Open to everybody.".to_owned(),
        Rule::SignedIn => "Needs an access token.".to_owned(),
        Rule::Needs(permission, Scope::Tenant) => format!("Needs the permission `{permission}`."),
        Rule::Needs(permission, Scope::Platform) => {
            format!("Needs the permission `{permission}` in the system tenant.")
        }
    };
    rule + &audited
}

fn group(route: &Route) -> &'static str {
    route.name.split('.').next().unwrap_or(route.name)
}

fn tags(table: &[Route]) -> Vec<Value> {
    let known = GROUPS
        .iter()
        .filter(|(name, _)| table.iter().any(|route| group(route) == *name))
        .map(|(name, about)| json!({ "name": name, "description": about }));
    let mut others: Vec<&str> =
        table.iter().map(group).filter(|name| GROUPS.iter().all(|(known, _)| known != name)).collect();
    others.sort_unstable();
    others.dedup();
    known.chain(others.into_iter().map(|name| json!({ "name": name }))).collect()
}

fn problem() -> Value {
    json!({
        "description": "A failure (RFC 9457).",
        "type": "object",
        "required": ["type", "title", "status", "detail", "instance", "code", "correlation_id"],
        "properties": {
            "type": { "type": "string", "description": "Always `about:blank`: the code says which problem it is." },
            "title": { "type": "string", "description": "A short summary that is the same for every occurrence." },
            "status": { "type": "integer", "description": "The HTTP status." },
            "detail": { "type": "string", "description": "What was wrong this time and what to do." },
            "instance": { "type": "string", "description": "The path of the request." },
            "code": {
                "description": "Stable: programs decide by it.",
                "type": "string",
                "enum": Code::ALL.iter().map(|code| code.as_str()).collect::<Vec<_>>(),
            },
            "correlation_id": { "type": "string", "format": "uuid" },
            "errors": {
                "description": "The wrong fields, with `VALIDATION_ERROR`.",
                "type": "array",
                "items": { "$ref": "#/components/schemas/FieldError" },
            },
            "missing_permissions": {
                "description": "What the caller lacks, with `FORBIDDEN`; `*` is the role `owner`.",
                "type": "array",
                "items": { "type": "string" },
            },
        },
    })
}

fn correlation_parameter() -> Value {
    json!({
        "name": "X-Correlation-Id",
        "in": "header",
        "required": false,
        "description": "Goes into every log line, event, audit entry and call of this request; made when absent.",
        "schema": { "type": "string", "format": "uuid" },
    })
}

fn correlation_header() -> Value {
    json!({ "description": "The correlation id of the request.", "schema": { "type": "string", "format": "uuid" } })
}
