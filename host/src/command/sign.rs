//! `aibos cell sign`: vouches for a component and its manifest, offline, with a key that the kernel never sees.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::cell::read;
use super::output::{Failure, say, say_json};
use super::toolchain;
use crate::cell::manifest::Manifest;
use crate::cell::signature::{Signature, Signer};
use crate::cell::version::digest_of;
use crate::config::write_private;

/// `aibos cell sign`
#[derive(Debug, Args)]
pub struct Sign {
    /// Directory of the cell, built before; or the component, with its cell.toml beside it.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// The private key: Ed25519 in PKCS#8 (PEM or DER), or a seed of 64 hexadecimal digits.
    #[arg(long, value_name = "FILE", required_unless_present = "generate")]
    key: Option<PathBuf>,
    /// Make a key instead: writes the private key to FILE and prints the public one, for `AIBOS_CELL_KEYS`.
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    generate: Option<PathBuf>,
    /// Print data as JSON.
    #[arg(long)]
    json: bool,
}

impl Sign {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match (&self.generate, &self.key) {
            (Some(file), _) => self.generate(file),
            (None, Some(key)) => self.sign(key).await,
            (None, None) => Err(Failure("name the private key with --key FILE".into())),
        }
    }

    fn generate(&self, file: &Path) -> Result<(), Failure> {
        if file.exists() {
            return Err(Failure(format!("{} exists; a key is never overwritten, name another file", file.display())));
        }
        let signer = Signer::generate().map_err(Failure)?;
        let pem = signer.pem().map_err(Failure)?;
        write_private(file, pem.as_bytes()).map_err(|cause| Failure(format!("{}: {cause}", file.display())))?;
        if self.json {
            return say_json(&json!({ "file": file, "public_key": signer.key().to_string() }));
        }
        say(signer.key())
    }

    async fn sign(&self, key: &Path) -> Result<(), Failure> {
        let text = std::fs::read(key).map_err(|cause| Failure(format!("{}: {cause}", key.display())))?;
        let signer = Signer::read(&text).map_err(|fault| Failure(format!("{} {fault}", key.display())))?;
        let component = component(&self.path).await?;
        let (manifest, bytes) = read(&component, None)?;
        let file = component.with_extension("sig");
        let signature = signer.sign(&bytes, &manifest);
        std::fs::write(&file, format!("{signature}\n"))
            .map_err(|cause| Failure(format!("{}: {cause}", file.display())))?;
        if self.json {
            return say_json(&json!({ "file": file, "signed_by": signer.key().to_string() }));
        }
        say(format_args!("{} signed by {}", file.display(), signer.key()))
    }
}

/// The component that a path means: the file itself; NAME.wasm in a directory of the build; or what the source in a directory
/// was built to.
async fn component(path: &Path) -> Result<PathBuf, Failure> {
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let manifest_file = path.join("cell.toml");
    let text = std::fs::read_to_string(&manifest_file)
        .map_err(|cause| Failure(format!("{}: {cause}; name a cell's directory", manifest_file.display())))?;
    let manifest = Manifest::parse(&text)
        .map_err(|faults| Failure(format!("{}:\n  {}", manifest_file.display(), faults.join("\n  "))))?;
    let name = manifest.cell.name;
    let beside = path.join(format!("{name}.wasm"));
    if beside.is_file() {
        return Ok(beside);
    }
    let built = toolchain::target_dir(path).await?.join("cells").join(&name).join(format!("{name}.wasm"));
    if built.is_file() {
        return Ok(built);
    }
    Err(Failure(format!("{} is missing; build it first with `aibos cell build {}`", built.display(), path.display())))
}

/// The signature that lies beside a component, if there is one.
pub(super) fn signature_beside(component: &Path) -> Result<Option<String>, Failure> {
    let file = component.with_extension("sig");
    match std::fs::read_to_string(&file) {
        Ok(text) => {
            let signature: Signature = text.parse().map_err(|cause| Failure(format!("{}: {cause}", file.display())))?;
            Ok(Some(signature.to_string()))
        }
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(Failure(format!("{}: {cause}", file.display()))),
    }
}

/// Removes the signature beside a component that is not of what was built now; pushed with it, the cell would be refused.
pub(super) fn remove_stale(component: &Path, bytes: &[u8], manifest: &str) -> Result<(), Failure> {
    let file = component.with_extension("sig");
    let kept = std::fs::read_to_string(&file).ok().and_then(|text| text.parse::<Signature>().ok());
    let fits = kept.is_some_and(|signature| signature.fits(&digest_of(bytes), manifest));
    if !fits && file.exists() {
        std::fs::remove_file(&file).map_err(|cause| Failure(format!("{}: {cause}", file.display())))?;
    }
    Ok(())
}
