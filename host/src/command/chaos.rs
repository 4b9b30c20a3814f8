//! `aibos chaos`: faults on purpose.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::output::{Failure, say, say_json, say_table, text};

/// Inject faults into cells.
#[derive(Debug, Subcommand)]
pub enum Chaos {
    /// Make calls of a cell fail.
    #[command(after_help = "Examples:\n  aibos chaos inject ledger --at host-call:3\n  \
                            aibos chaos inject processor --kind delay --delay-ms 400 --probability 0.2 --ttl-ms 600000\n  \
                            aibos chaos inject payment-hub --kind fuel --count 3 --tenant acme")]
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
    #[arg(long, default_value = "trap", value_parser = ["trap", "fuel", "memory", "delay", "error", "output"])]
    kind: String,
    /// `start`, `host-call:N` or `return`.
    #[arg(long, default_value = "start")]
    at: String,
    /// How likely it strikes a call, above 0 and at most 1.
    #[arg(long)]
    probability: Option<f64>,
    /// How often it strikes.
    #[arg(long)]
    count: Option<u32>,
    /// Milliseconds after which it ends by itself.
    #[arg(long)]
    ttl_ms: Option<u64>,
    /// How long a delay lasts, in milliseconds.
    #[arg(long)]
    delay_ms: Option<u64>,
    /// Slug of the only tenant whose calls it strikes.
    #[arg(long)]
    tenant: Option<String>,
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
                let fault = command.body();
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
                    let struck = fault.get("struck").unwrap_or(&Value::Null).to_string();
                    vec![text(fault, "id"), text(fault, "cell"), text(fault, "kind"), text(fault, "at"), struck]
                };
                say_table(&["ID", "CELL", "KIND", "AT", "STRUCK"], &faults.iter().map(row).collect::<Vec<_>>())
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

impl Inject {
    /// The request; what was not named is left out.
    fn body(&self) -> Value {
        let mut body = json!({
            "cell": self.cell, "kind": self.kind, "at": self.at, "probability": self.probability, "count": self.count,
            "ttl_ms": self.ttl_ms, "delay_ms": self.delay_ms, "tenant": self.tenant,
        });
        if let Some(members) = body.as_object_mut() {
            members.retain(|_, value| !value.is_null());
        }
        body
    }
}
