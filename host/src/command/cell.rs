//! `aibos cell`: a cell's life from its source to its activation.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use http::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use super::client::Client;
use super::lifecycle::{Activate, Change, Delete, Logs};
use super::output::{Failure, say, say_json, say_table, text};
use super::secret::Secret;
use super::sign::{Sign, remove_stale, signature_beside};
use super::toolchain;
use crate::cell::report::Report;

/// Build, check, upload and activate cells.
#[derive(Debug, Subcommand)]
pub enum Cell {
    /// Build a cell; leaves NAME.wasm beside a copy of cell.toml in target/cells/NAME/.
    #[command(after_help = "Example: aibos cell build cells/payment-hub")]
    Build(Build),
    /// Say whether a component would run, and if not what to change. Needs no kernel.
    #[command(after_help = "Example: aibos cell check target/cells/payment-hub/payment-hub.wasm")]
    Check(Check),
    /// Vouch for a component and its cell.toml with a private key, or make such a key.
    #[command(after_help = "Example: aibos cell sign cells/payment-hub --key ~/.config/aibos/cell.pem")]
    Sign(Sign),
    /// Upload a version, with its NAME.sig if there is one.
    #[command(after_help = "Example: aibos cell push target/cells/payment-hub/payment-hub.wasm --activate")]
    Push(Push),
    /// List cells.
    #[command(after_help = "Example: aibos cell list")]
    List(List),
    /// Show a cell.
    #[command(after_help = "Example: aibos cell inspect payment-hub")]
    Inspect(Inspect),
    /// Make a version the one that serves.
    #[command(after_help = "Example: aibos cell activate payment-hub 1.1.0 --canary 10")]
    Activate(Activate),
    /// End a canary, or go back to the version that served before.
    #[command(after_help = "Example: aibos cell rollback payment-hub --reason 'wrong fees'")]
    Rollback(Change),
    /// Forget a cell's strikes and close its breakers.
    #[command(after_help = "Example: aibos cell restart payment-hub")]
    Restart(Change),
    /// Take a cell out of service until it is released.
    #[command(after_help = "Example: aibos cell quarantine payment-hub --reason 'under review'")]
    Quarantine(Change),
    /// End a quarantine.
    #[command(after_help = "Example: aibos cell release payment-hub")]
    Release(Change),
    /// Take a cell out of service for good; the state of its tenants stays.
    #[command(after_help = "Example: aibos cell delete payment-hub")]
    Delete(Delete),
    /// Print the newest lines that a cell logged.
    #[command(after_help = "Example: aibos cell logs payment-hub")]
    Logs(Logs),
    /// Give a cell secrets, list their names, take them back.
    #[command(subcommand)]
    Secret(Secret),
}

/// `aibos cell build`
#[derive(Debug, Args)]
pub struct Build {
    /// Directory of the cell.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Print data as JSON.
    #[arg(long)]
    json: bool,
}

/// `aibos cell check`
#[derive(Debug, Args)]
pub struct Check {
    /// The component.
    file: PathBuf,
    /// The manifest; cell.toml beside the component when absent.
    #[arg(long)]
    manifest: Option<PathBuf>,
    /// Print data as JSON.
    #[arg(long)]
    json: bool,
}

/// `aibos cell push`
#[derive(Debug, Args)]
pub struct Push {
    /// The component.
    file: PathBuf,
    /// The manifest; cell.toml beside the component when absent.
    #[arg(long)]
    manifest: Option<PathBuf>,
    /// Activate it at once.
    #[arg(long)]
    activate: bool,
    #[command(flatten)]
    client: Client,
}

/// `aibos cell list`
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    client: Client,
}

/// `aibos cell inspect`
#[derive(Debug, Args)]
pub struct Inspect {
    /// The cell.
    name: String,
    #[command(flatten)]
    client: Client,
}

impl Cell {
    /// Runs the command.
    pub async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Build(command) => command.run().await,
            Self::Check(command) => command.run(),
            Self::Sign(command) => command.run().await,
            Self::Push(command) => command.run().await,
            Self::List(command) => command.run().await,
            Self::Inspect(command) => command.run().await,
            Self::Activate(command) => command.run().await,
            Self::Rollback(command) => command.run("rollback").await,
            Self::Restart(command) => command.run("restart").await,
            Self::Quarantine(command) => command.run("quarantine").await,
            Self::Release(command) => command.run("release").await,
            Self::Delete(command) => command.run().await,
            Self::Logs(command) => command.run().await,
            Self::Secret(command) => command.run().await,
        }
    }
}

impl Build {
    async fn run(self) -> Result<(), Failure> {
        toolchain::ensure_target().await?;
        for built in toolchain::build(&[self.path]).await? {
            let directory = built.target_dir.join("cells").join(&built.name);
            std::fs::create_dir_all(&directory)?;
            let file = directory.join(format!("{}.wasm", built.name));
            std::fs::write(&file, &built.component)?;
            std::fs::write(directory.join("cell.toml"), &built.manifest)?;
            remove_stale(&file, &built.component, &built.manifest)?;
            if self.json {
                say_json(&json!({"name": built.name, "file": file, "bytes": built.component.len()}))?;
            } else {
                say(format_args!("{} ({} KiB)", file.display(), built.component.len() / 1024))?;
            }
        }
        Ok(())
    }
}

impl Check {
    fn run(self) -> Result<(), Failure> {
        let (manifest, component) = read(&self.file, self.manifest)?;
        let report = Report::of(&manifest, &component);
        if self.json {
            say_json(&report)?;
        } else {
            say(&report)?;
        }
        if report.reasons.is_empty() { Ok(()) } else { Err(Failure("the cell would not run".into())) }
    }
}

impl Push {
    async fn run(self) -> Result<(), Failure> {
        let (manifest, component) = read(&self.file, self.manifest)?;
        let signature = signature_beside(&self.file)?;
        let mut form = Form::new()
            .part("manifest", Part::text(manifest).file_name("cell.toml"))
            .part("component", Part::bytes(component).file_name("cell.wasm"));
        if let Some(signature) = signature {
            form = form.text("signature", signature);
        }
        let pushed = self.client.upload(&format!("/api/v1/cells?activate={}", self.activate), form).await?;
        if self.client.json {
            return say_json(&pushed);
        }
        say(format_args!(
            "{} {} {} {}",
            text(&pushed, "name"),
            text(&pushed, "version"),
            text(&pushed, "status"),
            text(&pushed, "digest")
        ))?;
        for change in pushed.get("changes").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            say(format_args!("  {change}"))?;
        }
        Ok(())
    }
}

impl List {
    async fn run(self) -> Result<(), Failure> {
        let mut cells = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.client.send(Method::GET, &format!("/api/v1/cells?limit=200{cursor}"), None).await?;
            cells.extend(page.get("data").and_then(Value::as_array).cloned().unwrap_or_default());
            match page.get("next_cursor").and_then(Value::as_str) {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        if self.client.json {
            return say_json(&cells);
        }
        let row = |cell: &Value| {
            let count = |name: &str| cell.pointer(&format!("/counters/{name}")).unwrap_or(&Value::Null).to_string();
            vec![
                text(cell, "name"),
                text(cell, "state"),
                text(cell, "active_version"),
                count("requests"),
                count("traps"),
            ]
        };
        say_table(&["NAME", "STATE", "VERSION", "REQUESTS", "TRAPS"], &cells.iter().map(row).collect::<Vec<_>>())
    }
}

impl Inspect {
    async fn run(self) -> Result<(), Failure> {
        say_json(&self.client.send(Method::GET, &format!("/api/v1/cells/{}", self.name), None).await?)
    }
}

/// The manifest's text and the component's bytes.
pub(super) fn read(file: &Path, manifest: Option<PathBuf>) -> Result<(String, Vec<u8>), Failure> {
    let manifest = manifest.unwrap_or_else(|| file.with_file_name("cell.toml"));
    let text = std::fs::read_to_string(&manifest)
        .map_err(|cause| Failure(format!("{}: {cause}; name the manifest with --manifest", manifest.display())))?;
    let component = std::fs::read(file).map_err(|cause| Failure(format!("{}: {cause}", file.display())))?;
    Ok((text, component))
}
