//! `aibos cell secret`: what a cell may reveal, given and taken by an operator. A value comes from a file or from standard
//! input, never from the command line, where other users and the shell's history would see it.

use std::io::Read;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::output::{Failure, say, say_json, say_table, text};

/// Give a cell secrets, list their names, take them back.
#[derive(Debug, Subcommand)]
pub enum Secret {
    /// Set a secret, from standard input or a file. A line feed at its end is dropped.
    #[command(after_help = "Example: aibos cell secret set payment-hub API_KEY < key.txt")]
    Set(Set),
    /// List the names of a cell's secrets.
    #[command(after_help = "Example: aibos cell secret list payment-hub")]
    List(List),
    /// Remove a secret.
    #[command(after_help = "Example: aibos cell secret remove payment-hub API_KEY")]
    Remove(Remove),
}

/// `aibos cell secret set`
#[derive(Debug, Args)]
pub struct Set {
    /// The cell.
    cell: String,
    /// The secret, as the cell's `secrets = [...]` names it.
    name: String,
    /// Where the value is; standard input when absent.
    #[arg(long)]
    file: Option<PathBuf>,
    #[command(flatten)]
    client: Client,
}

/// `aibos cell secret list`
#[derive(Debug, Args)]
pub struct List {
    /// The cell.
    cell: String,
    #[command(flatten)]
    client: Client,
}

/// `aibos cell secret remove`
#[derive(Debug, Args)]
pub struct Remove {
    /// The cell.
    cell: String,
    /// The secret.
    name: String,
    #[command(flatten)]
    client: Client,
}

impl Secret {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Set(command) => command.run().await,
            Self::List(command) => command.run().await,
            Self::Remove(command) => command.run().await,
        }
    }
}

impl Set {
    async fn run(self) -> Result<(), Failure> {
        let text = if let Some(file) = &self.file {
            std::fs::read_to_string(file).map_err(|cause| Failure(format!("{}: {cause}", file.display())))?
        } else {
            let mut text = String::new();
            std::io::stdin().lock().read_to_string(&mut text)?;
            text
        };
        let value = text.strip_suffix('\n').unwrap_or(&text);
        let path = format!("/api/v1/cells/{}/secrets/{}", self.cell, self.name);
        let set = self.client.send(Method::PUT, &path, Some(&json!({ "value": value }))).await?;
        if self.client.json {
            return say_json(&set);
        }
        say(format_args!("{} of {} is set", self.name, self.cell))
    }
}

impl List {
    async fn run(self) -> Result<(), Failure> {
        let page = self.client.send(Method::GET, &format!("/api/v1/cells/{}/secrets", self.cell), None).await?;
        let secrets = page.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
        if self.client.json {
            return say_json(&secrets);
        }
        let row = |secret: &Value| vec![text(secret, "name"), text(secret, "updated_at")];
        say_table(&["NAME", "SET AT"], &secrets.iter().map(row).collect::<Vec<_>>())
    }
}

impl Remove {
    async fn run(self) -> Result<(), Failure> {
        let path = format!("/api/v1/cells/{}/secrets/{}", self.cell, self.name);
        self.client.send(Method::DELETE, &path, None).await?;
        if self.client.json {
            return say_json(&json!({ "removed": self.name }));
        }
        say(format_args!("{} of {} is removed", self.name, self.cell))
    }
}
