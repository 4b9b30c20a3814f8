//! Cells: immutable versions that are uploaded, and the one that is active.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::lifecycle::{self, Switch};
use crate::cell::catalog::{ActiveCell, CanaryRecord, Catalog, CellRecord, Quarantine, RetiredCell};
use crate::cell::counts::Counters;
use crate::cell::difference;
use crate::cell::invoke::{self, Invocation};
use crate::cell::manifest::{Manifest, valid_cell_name};
use crate::cell::outcome::{Outcome, TrapReport};
use crate::cell::registry::{cell_key, component_key, platform, retired_key, version_key};
use crate::cell::rejection::{Reason, ReasonCode};
use crate::cell::store::Tree;
use crate::cell::supervisor::Breaker;
use crate::cell::version::{CellVersion, VersionRecord, digest_of};
use crate::http::input::{Input, InputDocument, Paging, Path, Query, Raw};
use crate::http::operation::Operation;
use crate::http::output::{Created, Ok200, Page};
use crate::http::problem::{Code, Problem};
use crate::http::route::cell_signature;
use crate::limit;
use crate::rbac::permission::{CellDeploy, CellRead};
use crate::rbac::permit::Permit;
use crate::state::Scan;
use crate::state::work::Work;

/// Names a cell.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct CellPath {
    /// Its name.
    pub name: String,
}

/// A version as the API shows it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct VersionView {
    /// The cell.
    pub name: String,
    /// Semantic version.
    pub version: String,
    /// SHA-256 of the component.
    pub digest: String,
    /// `active`, `canary` or `uploaded`.
    pub status: &'static str,
    /// The public key that signed it, in hexadecimal digits.
    pub signed_by: Option<String>,
    /// Size of the component, in bytes.
    pub bytes: usize,
    /// When it was uploaded.
    pub created_at: Timestamp,
}

/// A version that was uploaded, beside the one that is active.
#[derive(Debug, Serialize, JsonSchema)]
pub struct UploadedView {
    /// The version.
    #[serde(flatten)]
    pub version: VersionView,
    /// What it asks for that the active version does not, and what it no longer does; empty without an active version.
    pub changes: Vec<String>,
}

/// A cell as the API shows it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CellView {
    /// Its name.
    pub name: String,
    /// `active`; `degraded` while a breaker is open for somebody; `quarantined`; `stopped` when no version serves.
    pub state: &'static str,
    /// The version that serves.
    pub active_version: Option<String>,
    /// The version that is tried beside it.
    pub canary: Option<CanaryRecord>,
    /// Why it answers nobody.
    pub quarantine: Option<Quarantine>,
    /// Where a rollback goes.
    pub previous_version: Option<String>,
    /// SHA-256 of its component.
    pub digest: Option<String>,
    /// What it may use.
    pub limits: Option<LimitsView>,
    /// Its calls since the kernel started.
    pub counters: Counters,
    /// Its newest failure.
    pub last_trap: Option<TrapReport>,
    /// When its first version was uploaded.
    pub created_at: Timestamp,
    /// When its active version last changed.
    pub activated_at: Option<Timestamp>,
}

/// The limits of the active version.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LimitsView {
    /// Fuel of one call.
    pub fuel: u64,
    /// Time of one call, in milliseconds.
    pub timeout_ms: u64,
    /// Linear memory, in mebibytes.
    pub memory_mb: u64,
    /// Body of a reply, in kibibytes.
    pub output_kb: u64,
    /// Calls at once.
    pub concurrency: u32,
}

/// Options of an upload.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UploadQuery {
    /// Whether to activate it at once.
    #[serde(default)]
    pub activate: bool,
}

/// A multipart body with the parts `manifest` and `component`, and `signature` if it is signed.
#[derive(Debug)]
pub struct Upload {
    content_type: String,
    body: Bytes,
}

impl Input for Upload {
    const BODY_BYTES_MAX: usize = limit::UPLOAD_BYTES_MAX;
    fn parse(raw: &Raw) -> Result<Self, Problem> {
        let content_type = raw.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !content_type.starts_with("multipart/form-data") {
            return Err(Problem::new(
                Code::UnsupportedMediaType,
                "Send multipart/form-data with the parts `manifest` (cell.toml) and `component` (the .wasm file).",
            ));
        }
        Ok(Self { content_type: content_type.to_owned(), body: raw.body.clone() })
    }
    fn describe(_generator: &mut SchemaGenerator, document: &mut InputDocument) {
        let schema: Schema = json_schema!({
            "type": "object",
            "required": ["manifest", "component"],
            "properties": {
                "manifest": {"type": "string", "description": "The text of cell.toml."},
                "component": {"type": "string", "format": "binary", "description": "The WebAssembly component."},
                "signature": {"type": "string", "description": "The line of NAME.sig, as `aibos cell sign` writes it."}
            }
        });
        document.body = Some(("multipart/form-data", schema));
    }
}

impl Upload {
    /// The parts: the manifest's text, the component, and the signature.
    async fn parts(&self) -> Result<(String, Vec<u8>, Option<String>), Problem> {
        let broken = |cause: multer::Error| Problem::invalid("", format!("the multipart body is broken: {cause}"));
        let boundary = multer::parse_boundary(&self.content_type).map_err(broken)?;
        let chunks = futures_util::stream::once(std::future::ready(Ok::<_, std::io::Error>(self.body.clone())));
        let mut multipart = multer::Multipart::new(chunks, boundary);
        let mut parts = HashMap::new();
        while let Some(field) = multipart.next_field().await.map_err(broken)? {
            let name = field.name().unwrap_or_default().to_owned();
            if !["manifest", "component", "signature"].contains(&name.as_str()) {
                let message = "unknown part; expected `manifest`, `component` and perhaps `signature`";
                return Err(Problem::invalid(&format!("/{name}"), message));
            }
            parts.insert(name, field.bytes().await.map_err(broken)?);
        }
        let signature = parts.remove("signature").map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let mut take =
            |name: &str| parts.remove(name).ok_or_else(|| Problem::invalid(&format!("/{name}"), "the part is missing"));
        let manifest = String::from_utf8(take("manifest")?.to_vec())
            .map_err(|_| Problem::invalid("/manifest", "must be UTF-8 text: the content of cell.toml"))?;
        Ok((manifest, take("component")?.to_vec(), signature))
    }
}

/// `POST /api/v1/cells`: refuses a component that would not run before anything is stored.
pub async fn upload(
    operation: Operation,
    _permit: Permit<CellDeploy>,
    (Query(query), upload): (Query<UploadQuery>, Upload),
) -> Result<Created<UploadedView>, Problem> {
    let (text, component, signature) = upload.parts().await?;
    let record = store_version(&operation, text, component, signature.as_deref()).await?;
    let changes = changes(&operation, &record).await?;
    if query.activate {
        lifecycle::activate_version(&operation, &record, Switch::All).await?;
    }
    let cell = find(&operation, &record.name).await?;
    Ok(Created(UploadedView { version: view(record, &cell), changes }))
}

/// What changes with a version, compared with the one that serves.
async fn changes(operation: &Operation, new: &VersionRecord) -> Result<Vec<String>, Problem> {
    let Some(active) = find(operation, &new.name).await?.active else { return Ok(Vec::new()) };
    let Some(active) = operation.work.load::<VersionRecord>(&version_key(&new.name, &active)).await? else {
        return Ok(Vec::new());
    };
    let parsed =
        |record: &VersionRecord| Manifest::parse(&record.manifest).map_err(|faults| Problem::internal_all(&faults));
    Ok(difference::between(&parsed(&active)?, &parsed(new)?))
}

/// Stores a version and the component's bytes, unless it would not run or the version has other content already.
pub async fn store_version(
    operation: &Operation,
    text: String,
    component: Vec<u8>,
    signature: Option<&str>,
) -> Result<VersionRecord, Problem> {
    let manifest = Manifest::parse(&text).map_err(|faults| {
        rejected(faults.into_iter().map(|fault| Reason::new(ReasonCode::InvalidManifest, fault)).collect())
    })?;
    let (name, version) = (manifest.cell.name.clone(), manifest.cell.version.to_string());
    let digest = digest_of(&component);
    let signature = cell_signature::read(operation, signature)?;
    operation.target("cell", &name);
    operation.detail("version", version.as_str());
    operation.detail("digest", digest.as_str());
    let work = &operation.work;
    if let Some(record) = work.load::<VersionRecord>(&version_key(&name, &version)).await? {
        return if record.digest == digest && record.manifest == text {
            let record = cell_signature::renew(operation, record, signature).await?;
            ensure_cell(operation, &name).await?;
            Ok(record)
        } else {
            Err(Problem::new(
                Code::VersionExists,
                format!(
                    "{name} {version} exists with other content ({}); raise the version in cell.toml.",
                    record.digest
                ),
            ))
        };
    }
    cell_signature::check(operation, &digest, &text, signature.as_ref())?;
    let bytes = component.len();
    let compiler = &operation.kernel.registry.compiler;
    let loaded = Arc::new(CellVersion::load(manifest, component.clone(), compiler).await.map_err(rejected)?);
    try_out(operation, &loaded).await?;
    operation.kernel.registry.keep(loaded);
    let created_at = operation.context.now;
    let record = VersionRecord { name: name.clone(), version, digest, manifest: text, signature, bytes, created_at };
    work.save(version_key(&name, &record.version), &record)?;
    ensure_cell(operation, &name).await?;
    if work.read(&component_key(&record.digest)).await?.is_none() {
        work.put(component_key(&record.digest), component.into())?;
    }
    Ok(record)
}

/// Makes the cell's record, unless there is one. A cell that was deleted finds the state of its tenants again.
async fn ensure_cell(operation: &Operation, name: &str) -> Result<(), Problem> {
    let work = &operation.work;
    if work.load::<CellRecord>(&cell_key(name)).await?.is_some() {
        return Ok(());
    }
    let retired = work.load::<RetiredCell>(&retired_key(name)).await?.unwrap_or_default();
    let record = CellRecord {
        name: name.to_owned(),
        active: None,
        formats: retired.formats,
        created_at: operation.context.now,
        activated_at: None,
        history: Vec::new(),
        canary: None,
        quarantine: retired.quarantine,
        restarts: 0,
        generation: retired.generation,
    };
    operation.changes_something();
    Ok(work.save(cell_key(name), &record)?)
}

/// Starts the version once and asks its health, so that what would not run is refused before it is stored.
async fn try_out(operation: &Operation, version: &Arc<CellVersion>) -> Result<(), Problem> {
    let limits = &version.manifest.limits;
    let invocation = Invocation {
        version: Arc::clone(version),
        tree: Arc::new(Tree::new(
            operation.context.clone(),
            Arc::new(Work::new(operation.kernel.storage.clone())),
            // Without faults: they are for the versions that serve.
            Arc::new(Catalog { given: Arc::clone(&operation.kernel.live.load().catalog.given), ..Catalog::default() }),
            Arc::clone(&operation.kernel.config.cell_settings),
        )),
        caller: None,
        depth: 1,
        fuel: limits.fuel,
        deadline: Instant::now() + Duration::from_millis(limits.timeout_ms),
    };
    match invoke::health(invocation).await.result {
        Ok(_) | Err(Outcome::Rejected | Outcome::StorageFailed(_)) => Ok(()),
        Err(outcome) => Err(rejected(vec![Reason::new(
            ReasonCode::CannotStart,
            format!("the component cannot be started within its limits: {} ({})", outcome.message(), outcome.label()),
        )])),
    }
}

/// `GET /api/v1/cells`
pub async fn list(
    operation: Operation,
    _permit: Permit<CellRead>,
    Query(paging): Query<Paging>,
) -> Result<Ok200<Page<CellView>>, Problem> {
    let size = paging.size()?;
    paging.check_cursor(valid_cell_name)?;
    let after = paging.cursor.map(|name| format!("cell/{name}"));
    let scan = Scan { space: platform(), prefix: "cell/".into(), after, limit: size + 1 };
    let records = operation.work.load_page::<CellRecord>(&scan).await?;
    let mut views = Vec::with_capacity(records.len());
    for (_, record) in records {
        views.push(cell_view(&operation, record).await?);
    }
    Ok(Ok200(Page::cut(views, size, |view| view.name.clone())))
}

/// `GET /api/v1/cells/{name}`
pub async fn show(
    operation: Operation,
    _permit: Permit<CellRead>,
    Path(path): Path<CellPath>,
) -> Result<Ok200<CellView>, Problem> {
    let record = find(&operation, &path.name).await?;
    Ok(Ok200(cell_view(&operation, record).await?))
}

/// `GET /api/v1/cells/{name}/versions`
pub async fn versions(
    operation: Operation,
    _permit: Permit<CellRead>,
    (Path(path), Query(paging)): (Path<CellPath>, Query<Paging>),
) -> Result<Ok200<Page<VersionView>>, Problem> {
    let cell = find(&operation, &path.name).await?;
    let size = paging.size()?;
    paging.check_cursor(|version| semver::Version::parse(version).is_ok())?;
    let prefix = format!("cell-version/{}/", path.name);
    let after = paging.cursor.map(|version| format!("{prefix}{version}"));
    let scan = Scan { space: platform(), prefix, after, limit: size + 1 };
    let records = operation.work.load_page::<VersionRecord>(&scan).await?;
    let views = records.into_iter().map(|(_, record)| view(record, &cell)).collect();
    Ok(Ok200(Page::cut(views, size, |view| view.version.clone())))
}

/// `GET /api/v1/cells/{name}/traps`: newest first.
pub async fn traps(
    operation: Operation,
    _permit: Permit<CellRead>,
    Path(path): Path<CellPath>,
) -> Result<Ok200<Page<TrapReport>>, Problem> {
    find(&operation, &path.name).await?;
    Ok(Ok200(Page { data: reports(&operation, &path.name).await?, next_cursor: None }))
}

async fn reports(operation: &Operation, name: &str) -> Result<Vec<TrapReport>, Problem> {
    let limit = u32::try_from(limit::TRAPS_KEPT).unwrap_or(u32::MAX);
    let scan = Scan { space: platform(), prefix: format!("trap/{name}/"), after: None, limit };
    let reports = operation.work.load_page::<TrapReport>(&scan).await?;
    let mut reports: Vec<TrapReport> = reports.into_iter().map(|(_, report)| report).collect();
    reports.sort_by_key(|report| std::cmp::Reverse((report.at, report.correlation_id)));
    Ok(reports)
}

/// The cell's record.
pub async fn find(operation: &Operation, name: &str) -> Result<CellRecord, Problem> {
    operation.work.load(&cell_key(name)).await?.ok_or_else(|| Problem::not_found("cell", name))
}

/// The cell as it stands.
pub async fn cell_view(operation: &Operation, record: CellRecord) -> Result<CellView, Problem> {
    let last_trap = reports(operation, &record.name).await?.into_iter().next();
    let active = operation.kernel.live.load().catalog.cell(&record.name);
    let limits = active.as_ref().map(|cell| {
        let limits = &cell.version.manifest.limits;
        LimitsView {
            fuel: limits.fuel,
            timeout_ms: limits.timeout_ms,
            memory_mb: limits.memory_mb,
            output_kb: limits.output_kb,
            concurrency: limits.concurrency,
        }
    });
    let mut counters = active.as_ref().map(|cell| cell.counts.counters()).unwrap_or_default();
    counters.restarts += record.restarts;
    Ok(CellView {
        state: state_of(&record, active.as_deref(), operation.context.clock.now()),
        active_version: record.active,
        canary: record.canary,
        quarantine: record.quarantine,
        previous_version: record.history.last().cloned(),
        digest: active.as_ref().map(|cell| cell.version.reference.digest.clone()),
        limits,
        counters,
        last_trap,
        name: record.name,
        created_at: record.created_at,
        activated_at: record.activated_at,
    })
}

fn state_of(record: &CellRecord, active: Option<&ActiveCell>, now: Timestamp) -> &'static str {
    match active {
        _ if record.quarantine.is_some() => "quarantined",
        Some(cell) if cell.supervisor.breaker(&cell.version, now) != Breaker::Closed => "degraded",
        Some(_) => "active",
        None => "stopped",
    }
}

/// A version beside what its cell says of it.
#[must_use]
pub fn view(record: VersionRecord, cell: &CellRecord) -> VersionView {
    let status = if cell.active.as_ref() == Some(&record.version) {
        "active"
    } else if cell.canary.as_ref().is_some_and(|canary| canary.version == record.version) {
        "canary"
    } else {
        "uploaded"
    };
    VersionView {
        name: record.name,
        version: record.version,
        digest: record.digest,
        status,
        signed_by: record.signature.map(|signature| signature.key().to_string()),
        bytes: record.bytes,
        created_at: record.created_at,
    }
}

/// The refusal of a component that would not run.
#[must_use]
pub fn rejected(reasons: Vec<Reason>) -> Problem {
    let first = reasons.first().map(|reason| reason.message.clone()).unwrap_or_default();
    let reasons = serde_json::to_value(reasons).unwrap_or_default();
    Problem::new(Code::CellRejected, format!("The cell would not run: {first}")).with("reasons", reasons)
}
