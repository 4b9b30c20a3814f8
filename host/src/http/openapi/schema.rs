//! The schemas of the document. What a client sends and what it gets are described by two generators, because a field with
//! a default may be left out of a request but is always in a reply. Where a type is used both ways and that makes a
//! difference, the reply's schema gets a name of its own.

use std::collections::BTreeSet;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::http::problem::FieldError;

/// Marks the schema of a reply until the names are settled.
pub(super) const OUTPUT: &str = "x-output";
const REFERENCE: &str = "#/components/schemas/";

/// Collects the schemas of all operations.
#[derive(Debug)]
pub(super) struct Schemas {
    input: SchemaGenerator,
    output: SchemaGenerator,
}

impl Default for Schemas {
    fn default() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
        };
        let mut output = settings().for_serialize().into_generator();
        // Every problem may hold it, and no operation names it.
        let _named_by_problem = output.subschema_for::<FieldError>();
        Self { input: settings().for_deserialize().into_generator(), output }
    }
}

impl Schemas {
    /// For what operations take.
    pub(super) fn input(&mut self) -> &mut SchemaGenerator {
        &mut self.input
    }

    /// For what operations answer. A schema made with it stands under [`OUTPUT`] in the paths.
    pub(super) fn output(&mut self) -> &mut SchemaGenerator {
        &mut self.output
    }

    /// The paths with their final references, and the schemas that these name.
    pub(super) fn finish(mut self, mut paths: Value) -> (Value, Map<String, Value>) {
        let mut schemas: Map<String, Value> = self.input.take_definitions(true);
        let replies: Map<String, Value> = self.output.take_definitions(true);
        let renamed = differing(&schemas, &replies);
        for (name, schema) in &replies {
            let name = if renamed.contains(name) { reply_name(name) } else { name.clone() };
            schemas.insert(name, with_names(schema, &renamed));
        }
        settle(&mut paths, &renamed);
        schemas.sort_keys();
        drop_null_defaults(&mut paths);
        schemas.values_mut().for_each(drop_null_defaults);
        (paths, schemas)
    }
}

/// A field that may be left out has no default that a client could send: `null` is often not even valid.
fn drop_null_defaults(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if object.get("default").is_some_and(Value::is_null) {
                object.remove("default");
            }
            object.values_mut().for_each(drop_null_defaults);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_null_defaults),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The names that mean one thing in requests and another in replies, those included that refer to such a name.
fn differing(requests: &Map<String, Value>, replies: &Map<String, Value>) -> BTreeSet<String> {
    let mut renamed = BTreeSet::new();
    loop {
        let next: BTreeSet<String> = replies
            .iter()
            .filter(|(name, schema)| {
                requests.get(*name).is_some_and(|request| *request != with_names(schema, &renamed))
            })
            .map(|(name, _)| name.clone())
            .collect();
        if next == renamed {
            return renamed;
        }
        renamed = next;
    }
}

fn reply_name(name: &str) -> String {
    format!("{name}Reply")
}

/// A reply's schema with references to the final names.
fn with_names(schema: &Value, renamed: &BTreeSet<String>) -> Value {
    match schema {
        Value::Object(object) => object
            .iter()
            .map(|(key, value)| match value.as_str().and_then(|text| text.strip_prefix(REFERENCE)) {
                Some(name) if key == "$ref" && renamed.contains(name) => {
                    (key.clone(), format!("{REFERENCE}{}", reply_name(name)).into())
                }
                _ => (key.clone(), with_names(value, renamed)),
            })
            .collect(),
        Value::Array(items) => items.iter().map(|item| with_names(item, renamed)).collect(),
        other => other.clone(),
    }
}

/// Puts every marked schema, with its final references, in the place of its mark.
fn settle(value: &mut Value, renamed: &BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            if let Some(schema) = object.get(OUTPUT) {
                *value = with_names(schema, renamed);
            } else {
                object.values_mut().for_each(|value| settle(value, renamed));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| settle(item, renamed)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
