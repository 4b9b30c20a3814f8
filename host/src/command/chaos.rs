//! `aibos chaos`: faults on purpose.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::output::{Failure, say, say_json, say_table};

/// Inject faults into cells.
#[derive(Debug, Subcommand)]
pub enum Chaos {
    /// Make calls of a cell trap.
    #[command(after_help = "Example: aibos chaos inject ledger --at host-call:3")]
    Inject(Inject),
    /// List injected faults.
    #[command(after_help = "Example: aibos chaos list")]
    List(List),
    /// Remove the faults of a cell.
    #[command(after_help = "Example: aibos chaos clear ledger")]
    Clear(Clear),
}

/// `aibos chaos inject`
#[derive(Debug, Args)]
pub struct Inject {
    /// The cell.
    cell: String,
    /// What happens.
    #[arg(long, default_value = "trap")]
    kind: String,
    /// `start`, or `host-call:N`.
    #[arg(long, default_value = "start")]
    at: String,
    #[command(flatten)]
    client: Client,
}

/// `aibos chaos list`
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    client: Client,
}

/// `aibos chaos clear`
#[derive(Debug, Args)]
pub struct Clear {
    /// The cell.
    cell: String,
    #[command(flatten)]
    client: Client,
}

impl Chaos {
    /// Runs the command.
    pub async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Inject(command) => {
                let fault = json!({"cell": command.cell, "kind": command.kind, "at": command.at});
                let injected = command.client.send(Method::POST, "/api/v1/chaos/faults", Some(&fault)).await?;
                if command.client.json {
                    return say_json(&injected);
                }
                say(format_args!(
                    "injected {}; clear it with `aibos chaos clear {}`",
                    text(&injected, "id"),
                    command.cell
                ))
            }
            Self::List(command) => {
                let listed = command.client.send(Method::GET, "/api/v1/chaos/faults", None).await?;
                if command.client.json {
                    return say_json(&listed);
                }
                let faults = listed.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
                let row = |fault: &Value| {
                    vec![text(fault, "id"), text(fault, "cell"), text(fault, "kind"), text(fault, "at")]
                };
                say_table(&["ID", "CELL", "KIND", "AT"], &faults.iter().map(row).collect::<Vec<_>>())
            }
            Self::Clear(command) => {
                let path = format!("/api/v1/chaos/recover/{}", command.cell);
                let recovered = command.client.send(Method::POST, &path, None).await?;
                if command.client.json {
                    return say_json(&recovered);
                }
                say(format_args!(
                    "removed {} faults of {}",
                    recovered.get("removed").unwrap_or(&Value::Null),
                    command.cell
                ))
            }
        }
    }
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or("-").to_owned()
}
