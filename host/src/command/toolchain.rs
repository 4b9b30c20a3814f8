//! Builds cells with the author's own cargo.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;
use tokio::process::Command;

use super::output::Failure;
use crate::cell::manifest::Manifest;

const TARGET: &str = "wasm32-wasip2";

/// The guest's shadow stack: 64 KiB instead of the toolchain's 1 MiB, because every page that a fresh instance touches costs.
const STACK: &str = r#"target.wasm32-wasip2.rustflags=["-Clink-arg=-zstack-size=65536"]"#;
/// Names stay, for backtraces; debug sections go.
const STRIP: &str = r#"profile.release.strip="debuginfo""#;

/// A built cell.
#[derive(Debug)]
pub struct Built {
    /// Its name.
    pub name: String,
    /// The text of its manifest.
    pub manifest: String,
    /// The component.
    pub component: Vec<u8>,
    /// Where cargo keeps its output.
    pub target_dir: PathBuf,
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    manifest_path: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// Adds the WebAssembly target to the toolchain when it is missing.
pub async fn ensure_target() -> Result<(), Failure> {
    let sysroot = capture("rustc", &["--print", "sysroot"]).await?;
    if Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).exists() {
        return Ok(());
    }
    let added = Command::new("rustup").args(["target", "add", TARGET]).stdout(Stdio::null()).status().await;
    match added {
        Ok(status) if status.success() => Ok(()),
        Ok(_) | Err(_) => {
            Err(Failure(format!("the target {TARGET} is missing; install it with `rustup target add {TARGET}`")))
        }
    }
}

/// Directories under `root` that hold a `cell.toml`, in order.
pub fn find_cells(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(root)
        .map_err(|cause| Failure(format!("{}: {cause}; run this where the cells/ directory is", root.display())))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.join("cell.toml").is_file())
        .collect();
    found.sort();
    Ok(found)
}

/// Builds the cells in these directories with one cargo command.
pub async fn build(directories: &[PathBuf]) -> Result<Vec<Built>, Failure> {
    let mut built = Vec::with_capacity(directories.len());
    for directory in directories {
        built.push(build_one(directory).await?);
    }
    Ok(built)
}

async fn build_one(directory: &Path) -> Result<Built, Failure> {
    let manifest_file = directory.join("cell.toml");
    let manifest = std::fs::read_to_string(&manifest_file).map_err(|cause| {
        Failure(format!("{}: {cause}; a cell has a cell.toml beside its Cargo.toml", manifest_file.display()))
    })?;
    let parsed = Manifest::parse(&manifest)
        .map_err(|faults| Failure(format!("{}:\n  {}", manifest_file.display(), faults.join("\n  "))))?;
    let cargo_file = std::fs::canonicalize(directory.join("Cargo.toml"))
        .map_err(|cause| Failure(format!("{}: {cause}", directory.join("Cargo.toml").display())))?;
    let output = Command::new("cargo")
        .args(["build", "--release", "--target", TARGET, "--message-format", "json-render-diagnostics"])
        .args(["--config", STACK, "--config", STRIP, "--manifest-path"])
        .arg(&cargo_file)
        .stderr(Stdio::inherit())
        .output()
        .await
        .map_err(|cause| Failure(format!("cargo cannot be run: {cause}; install Rust with rustup")))?;
    if !output.status.success() {
        return Err(Failure(format!("{} does not build; cargo says why above", parsed.cell.name)));
    }
    let artifact = artifact(&output.stdout, &cargo_file).ok_or_else(|| {
        Failure(format!(
            "{} makes no component; give its Cargo.toml `[lib] crate-type = [\"cdylib\"]`",
            cargo_file.display()
        ))
    })?;
    let component = std::fs::read(&artifact).map_err(|cause| Failure(format!("{}: {cause}", artifact.display())))?;
    let target_dir = artifact.ancestors().nth(3).unwrap_or(directory).to_path_buf();
    Ok(Built { name: parsed.cell.name, manifest, component, target_dir })
}

/// Where cargo keeps the output of the crate in this directory.
pub async fn target_dir(directory: &Path) -> Result<PathBuf, Failure> {
    #[derive(Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    let cargo_file = directory.join("Cargo.toml").display().to_string();
    let arguments = ["metadata", "--no-deps", "--format-version", "1", "--manifest-path", cargo_file.as_str()];
    let metadata: Metadata = serde_json::from_str(&capture("cargo", &arguments).await?)
        .map_err(|_| Failure(format!("{cargo_file}: cargo cannot read it; name the .wasm file instead")))?;
    Ok(metadata.target_directory)
}

/// The component among cargo's messages.
fn artifact(messages: &[u8], cargo_file: &Path) -> Option<PathBuf> {
    let messages =
        messages.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Message>(line).ok());
    messages
        .filter(|message| message.reason == "compiler-artifact" && Path::new(&message.manifest_path) == cargo_file)
        .flat_map(|message| message.filenames)
        .find(|file| file.extension().is_some_and(|extension| extension == "wasm"))
}

async fn capture(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .await
        .map_err(|cause| Failure(format!("{program} cannot be run: {cause}; install Rust with rustup")))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
