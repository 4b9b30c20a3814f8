//! A version of a cell, loaded: immutable code, its manifest, and the handle to call it.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre};

use super::compiled::{Code, Compiler};
use super::course::Habits;
use super::engine::Threads;
use super::linker;
use super::manifest::Manifest;
use super::measures::Measures;
use super::outcome::{Outcome, TrapReport};
use super::rejection::{Reason, ReasonCode};
use super::signature::{Signature, hex};
use super::store::CellStore;
use crate::audit::CellReference;
use crate::context::Context;

/// A version as it is stored, without its bytes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct VersionRecord {
    /// The cell.
    pub name: String,
    /// Semantic version.
    pub version: String,
    /// SHA-256 of the component, `sha256:` and hex.
    pub digest: String,
    /// The text of `cell.toml`.
    pub manifest: String,
    /// Who vouches for component and manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub signature: Option<Signature>,
    /// Size of the component, in bytes.
    pub bytes: usize,
    /// When it was uploaded.
    pub created_at: Timestamp,
}

/// A version that can be called.
pub struct CellVersion {
    /// The cell's name.
    pub name: Arc<str>,
    /// Name, version and digest, for audit entries.
    pub reference: CellReference,
    /// Its manifest.
    pub manifest: Manifest,
    /// The component with its imports linked.
    pub instance: InstancePre<CellStore>,
    /// What the host calls.
    pub world: World,
    /// How long its calls were lately.
    pub habits: Habits,
    /// What is measured of its calls.
    pub measures: Measures,
}

impl std::fmt::Debug for CellVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CellVersion").field("reference", &self.reference).finish_non_exhaustive()
    }
}

impl CellVersion {
    /// Compiles and links a component, or says why it would not run. Takes seconds for a large component that the cache does
    /// not have; runs off the async threads.
    pub async fn load(manifest: Manifest, wasm: Vec<u8>, compiler: &Compiler) -> Result<Self, Vec<Reason>> {
        check_bytes(&wasm).map_err(|reason| vec![reason])?;
        let digest = digest_of(&wasm);
        if let Some(found) = Self::load_cached(&manifest, &digest, compiler).await {
            return found;
        }
        Self::compile(manifest, wasm, digest, compiler).await
    }

    /// Compiles and links the component with this digest, which is not in the cache.
    pub async fn compile(
        manifest: Manifest,
        wasm: Vec<u8>,
        digest: String,
        compiler: &Compiler,
    ) -> Result<Self, Vec<Reason>> {
        let component = compiler.compile(wasm.into(), digest.clone()).await.map_err(|error| vec![invalid(&error)])?;
        off_thread(move || Self::link(manifest, &component, digest)).await?
    }

    /// Links the component with this digest, if the cache has its code.
    pub async fn load_cached(
        manifest: &Manifest,
        digest: &str,
        compiler: &Compiler,
    ) -> Option<Result<Self, Vec<Reason>>> {
        let (manifest, digest, compiler) = (manifest.clone(), digest.to_owned(), compiler.clone());
        let find = move || compiler.cached(&digest).map(|component| Self::link(manifest, &component, digest));
        off_thread(find).await.unwrap_or_else(|reasons| Some(Err(reasons)))
    }

    /// [`CellVersion::load`] on the calling thread, with all cores and without a cache: for a check without a kernel.
    pub fn load_blocking(manifest: Manifest, wasm: &[u8]) -> Result<Self, Vec<Reason>> {
        check_bytes(wasm).map_err(|reason| vec![reason])?;
        let component = Code::compile(wasm, Threads::All).and_then(|code| code.load());
        Self::link(manifest, &component.map_err(|error| vec![invalid(&error)])?, digest_of(wasm))
    }

    fn link(manifest: Manifest, component: &Component, digest: String) -> Result<Self, Vec<Reason>> {
        let engine = component.engine();
        let world = World::find(engine, component)?;
        linker::check_imports(engine, component, &manifest)?;
        let instance = linker::linker(engine, &manifest).and_then(|linker| linker.instantiate_pre(component)).map_err(
            |error| vec![Reason::new(ReasonCode::WrongWorld, format!("the component does not link: {error:#}"))],
        )?;
        let reference =
            CellReference { name: manifest.cell.name.clone(), version: manifest.cell.version.to_string(), digest };
        Ok(Self {
            name: Arc::from(manifest.cell.name.as_str()),
            reference,
            manifest,
            instance,
            world,
            habits: Habits::default(),
            measures: Measures::default(),
        })
    }
}

impl CellVersion {
    /// A call that did not begin has an outcome, too.
    pub fn count_rejected(&self) {
        self.measures.ended(&self.name, "rejected", Duration::ZERO);
    }

    /// The report of a failed invocation of this version.
    #[must_use]
    pub fn report(&self, context: &Context, outcome: &Outcome) -> TrapReport {
        let backtrace = match outcome {
            Outcome::Trapped(trap) => trap.backtrace.clone(),
            Outcome::FuelExhausted
            | Outcome::MemoryExceeded
            | Outcome::LimitExceeded(_)
            | Outcome::OutputExceeded
            | Outcome::BadResponse(_)
            | Outcome::TimedOut
            | Outcome::Rejected
            | Outcome::StorageFailed(_) => Vec::new(),
        };
        TrapReport {
            at: context.now,
            kind: outcome.label().to_owned(),
            message: outcome.message(),
            backtrace,
            correlation_id: context.correlation,
            version: self.reference.version.clone(),
        }
    }
}

/// The exports that the host calls, by the world that the component was built for.
#[derive(Clone, Copy, Debug)]
pub enum World {
    /// `aibos:cell/cell`; also when the component exports both.
    Typed {
        /// `handler.handle`.
        handle: ComponentExportIndex,
        /// `health.check`, when it is exported.
        health: Option<ComponentExportIndex>,
    },
    /// `wasi:http/proxy` of WASI 0.2.
    Proxy {
        /// `incoming-handler.handle`.
        handle: ComponentExportIndex,
    },
}

impl World {
    fn find(engine: &wasmtime::Engine, component: &Component) -> Result<Self, Vec<Reason>> {
        let kind = component.component_type();
        let find = |interface: &str, function: &str| {
            let (name, _) = kind.exports(engine).find(|(name, item)| {
                name.starts_with(interface) && matches!(item.ty, ComponentItem::ComponentInstance(_))
            })?;
            let instance = component.get_export_index(None, name)?;
            component.get_export_index(Some(&instance), function)
        };
        if let Some(handle) = find("aibos:cell/handler@1.", "handle") {
            return Ok(Self::Typed { handle, health: find("aibos:cell/health@1.", "check") });
        }
        let handle = find("wasi:http/incoming-handler@0.2.", "handle").ok_or_else(|| {
            let exported: Vec<&str> = kind.exports(engine).map(|(name, _)| name).collect();
            let exported = if exported.is_empty() { "nothing".into() } else { exported.join(", ") };
            vec![Reason::new(
                ReasonCode::MissingExport,
                format!(
                    "the component exports {exported}, but neither aibos:cell/handler@1.0.0 nor \
                     wasi:http/incoming-handler@0.2; build it for the world aibos:cell/cell, in Rust with \
                     aibos_cell::export!, or for the standard world wasi:http/proxy"
                ),
            )]
        })?;
        Ok(Self::Proxy { handle })
    }
}

/// Refuses what is no component before the compiler sees it.
fn check_bytes(wasm: &[u8]) -> Result<(), Reason> {
    const MAGIC: &[u8] = b"\0asm";
    const MODULE: &[u8] = &[1, 0, 0, 0];
    let reason = |message: &str| Err(Reason::new(ReasonCode::NotAComponent, message));
    match wasm.split_at_checked(8) {
        _ if wasm.starts_with(b"\x7fELF") => reason(
            "this is machine code, compiled ahead of time; upload the .wasm component, the kernel compiles it itself",
        ),
        Some((head, _)) if head.starts_with(MAGIC) && head.ends_with(MODULE) => reason(
            "this is a core WebAssembly module, not a component; build with --target wasm32-wasip2, or wrap it with \
             `wasm-tools component new`",
        ),
        Some((head, _)) if head.starts_with(MAGIC) => Ok(()),
        Some(_) => {
            reason("this is not WebAssembly: the first bytes are not \\0asm; upload the .wasm file of the build")
        }
        None => reason("the file is empty or cut short; upload the .wasm file of the build"),
    }
}

fn invalid(error: &wasmtime::Error) -> Reason {
    Reason::new(ReasonCode::NotAComponent, format!("the component is not valid or cut short: {error:#}"))
}

/// Runs what takes a while on a thread of its own. A panic of the engine there is a reason to refuse one component, not to
/// stop.
async fn off_thread<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Result<T, Vec<Reason>> {
    tokio::task::spawn_blocking(run).await.map_err(|cause| {
        vec![Reason::new(ReasonCode::NotAComponent, format!("the component cannot be loaded: {cause}"))]
    })
}

/// SHA-256 of bytes as it stands in records: `sha256:` and hex.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(digest::digest(&digest::SHA256, bytes).as_ref()))
}
