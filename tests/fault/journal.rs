//! What a client meant, sent and heard, one line of JSON each, written before a request leaves and after its reply came.
//! The checker believes only this and the database; what a client remembers in memory counts for nothing.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::operation::Operation;

/// A request that is sent until it is answered or given up, each time the same.
#[derive(Clone, Debug)]
pub(super) struct Intent {
    /// Names it in the journal; where the request has an idempotency key, it is this, and so is a payment's reference.
    pub(super) id: String,
    /// The tenant's id.
    pub(super) tenant: String,
    pub(super) operation: Operation,
    pub(super) path: String,
    /// Sent as it stands, so that its fingerprint stays the same.
    pub(super) body: String,
    /// What it is about, where that is not a thing that it makes: the payment of a sync, the intent whose key is reused.
    pub(super) about: Option<String>,
}

/// What came back.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) status: u16,
    pub(super) replayed: bool,
    pub(super) body: String,
}

impl Heard {
    /// The body as JSON; null when it is none.
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The code of a problem; empty when it is none.
    pub(super) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// One sending of an intent.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) correlation: String,
    /// None: no reply came.
    pub(super) heard: Option<Heard>,
}

/// One client's file.
#[derive(Debug)]
pub(super) struct Pen(File);

impl Pen {
    pub(super) fn open(path: &Path) -> Self {
        Self(OpenOptions::new().create(true).append(true).open(path).expect("a journal can be written"))
    }

    pub(super) fn sent(&mut self, intent: &Intent, correlation: &str) {
        let Intent { id, tenant, operation, path, body, about } = intent;
        self.line(&json!({
            "sent": correlation, "intent": id, "tenant": tenant, "operation": operation.name(), "path": path,
            "body": body, "about": about,
        }));
    }

    pub(super) fn heard(&mut self, correlation: &str, heard: &Heard) {
        let Heard { status, replayed, body } = heard;
        self.line(&json!({ "heard": correlation, "status": status, "replayed": replayed, "body": body }));
    }

    fn line(&mut self, line: &Value) {
        self.0.write_all(format!("{line}\n").as_bytes()).expect("a journal can be written");
    }
}

/// The journals of all clients.
#[derive(Clone, Debug, Default)]
pub(super) struct Journal {
    /// By id, with their attempts in the order of sending.
    pub(super) intents: BTreeMap<String, (Intent, Vec<Attempt>)>,
}

impl Journal {
    /// Reads every journal of a directory.
    pub(super) fn read(directory: &Path) -> Self {
        let mut journal = Self::default();
        let mut heard = BTreeMap::new();
        for entry in fs::read_dir(directory).expect("the journals lie in a directory") {
            let text = fs::read_to_string(entry.expect("it can be listed").path()).expect("a journal can be read");
            for line in text.lines() {
                let line: Value = serde_json::from_str(line).expect("a journal holds a value in each line");
                if line["heard"].is_string() {
                    heard.insert(text_of(&line["heard"]), heard_of(&line));
                } else {
                    journal.sent(&line);
                }
            }
        }
        for attempt in journal.intents.values_mut().flat_map(|(_, attempts)| attempts) {
            attempt.heard = heard.remove(&attempt.correlation);
        }
        journal
    }

    fn sent(&mut self, line: &Value) {
        let intent = Intent {
            id: text_of(&line["intent"]),
            tenant: text_of(&line["tenant"]),
            operation: Operation::parse(&text_of(&line["operation"])),
            path: text_of(&line["path"]),
            body: text_of(&line["body"]),
            about: line["about"].as_str().map(str::to_owned),
        };
        let attempt = Attempt { correlation: text_of(&line["sent"]), heard: None };
        self.intents.entry(intent.id.clone()).or_insert_with(|| (intent, Vec::new())).1.push(attempt);
    }
}

fn heard_of(line: &Value) -> Heard {
    Heard {
        status: line["status"].as_u64().and_then(|status| status.try_into().ok()).expect("a status"),
        replayed: line["replayed"] == true,
        body: text_of(&line["body"]),
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}
