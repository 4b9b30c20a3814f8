//! The verbs of `aibos cell` that change how a cell serves, and the lines that it logged.

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::output::{Failure, say, say_json, say_table, text};

/// A cell and why something is done to it.
#[derive(Debug, Args)]
pub struct Change {
    /// The cell.
    name: String,
    /// Why; kept in the audit log.
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    client: Client,
}

/// `aibos cell activate`
#[derive(Debug, Args)]
pub struct Activate {
    /// The cell.
    name: String,
    /// An uploaded version.
    version: String,
    /// Try it on so many of a hundred tenants first.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    canary: Option<u8>,
    /// Why; kept in the audit log.
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    client: Client,
}

/// `aibos cell delete`
#[derive(Debug, Args)]
pub struct Delete {
    /// The cell.
    name: String,
    #[command(flatten)]
    client: Client,
}

/// `aibos cell logs`
#[derive(Debug, Args)]
pub struct Logs {
    /// The cell.
    name: String,
    #[command(flatten)]
    client: Client,
}

impl Change {
    /// Sends the verb and says how the cell stands now.
    pub async fn run(self, verb: &str) -> Result<(), Failure> {
        let path = format!("/api/v1/cells/{}/{verb}", self.name);
        let body = self.reason.map_or_else(|| json!({}), |reason| json!({ "reason": reason }));
        let cell = self.client.send(Method::POST, &path, Some(&body)).await?;
        if self.client.json {
            return say_json(&cell);
        }
        say(format_args!("{} {} is {}", text(&cell, "name"), text(&cell, "active_version"), text(&cell, "state")))
    }
}

impl Activate {
    /// Activates the version.
    pub async fn run(self) -> Result<(), Failure> {
        let path = format!("/api/v1/cells/{}/activate", self.name);
        let mut body = json!({ "version": self.version });
        if let Some(members) = body.as_object_mut() {
            members.extend(self.canary.map(|percent| ("canary_percent".into(), percent.into())));
            members.extend(self.reason.map(|reason| ("reason".into(), reason.into())));
        }
        let active = self.client.send(Method::POST, &path, Some(&body)).await?;
        if self.client.json {
            return say_json(&active);
        }
        let (name, version, status) = (text(&active, "name"), text(&active, "version"), text(&active, "status"));
        say(format_args!("{name} {version} is {status}"))
    }
}

impl Delete {
    /// Takes the cell out of service for good.
    pub async fn run(self) -> Result<(), Failure> {
        self.client.send(Method::DELETE, &format!("/api/v1/cells/{}", self.name), None).await?;
        if self.client.json {
            say_json(&json!({ "deleted": self.name }))
        } else {
            say(format_args!("{} is deleted", self.name))
        }
    }
}

impl Logs {
    /// Prints the lines, oldest first.
    pub async fn run(self) -> Result<(), Failure> {
        let page = self.client.send(Method::GET, &format!("/api/v1/cells/{}/logs?limit=200", self.name), None).await?;
        if self.client.json {
            return say_json(&page);
        }
        let lines = page.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
        let row = |line: &Value| {
            ["at", "level", "version", "correlation_id", "message"].map(|column| text(line, column)).to_vec()
        };
        let rows: Vec<Vec<String>> = lines.iter().rev().map(row).collect();
        say_table(&["AT", "LEVEL", "VERSION", "CORRELATION", "MESSAGE"], &rows)
    }
}
