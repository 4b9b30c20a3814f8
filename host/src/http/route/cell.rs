//! Cells: immutable versions that are uploaded, and the one that is active.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::cell::catalog::{CellRecord, Counters};
use crate::cell::invoke::{self, Invocation};
use crate::cell::manifest::{Manifest, valid_cell_name};
use crate::cell::outcome::{Outcome, TrapReport};
use crate::cell::registry::{cell_key, component_key, platform, version_key};
use crate::cell::rejection::{Reason, ReasonCode};
use crate::cell::store::Tree;
use crate::cell::version::{CellVersion, VersionRecord, digest_of};
use crate::http::input::{Input, InputDocument, Json, Paging, Path, Query, Raw};
use crate::http::operation::Operation;
use crate::http::output::{Created, Ok200, Page};
use crate::http::problem::{Code, Problem};
use crate::http::route::{cell_route, cell_signature};
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
    /// `active`, or `uploaded`.
    pub status: &'static str,
    /// The public key that signed it, in hexadecimal digits.
    pub signed_by: Option<String>,
    /// Size of the component, in bytes.
    pub bytes: usize,
    /// When it was uploaded.
    pub created_at: Timestamp,
}

/// A cell as the API shows it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CellView {
    /// Its name.
    pub name: String,
    /// `active`, or `stopped` before its first activation.
    pub state: &'static str,
    /// The version that serves.
    pub active_version: Option<String>,
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

/// Which version to activate.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Activation {
    /// An uploaded version.
    pub version: String,
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
) -> Result<Created<VersionView>, Problem> {
    let (text, component, signature) = upload.parts().await?;
    let record = store_version(&operation, text, component, signature.as_deref()).await?;
    if query.activate {
        activate_version(&operation, &record).await?;
    }
    let active = find(&operation, &record.name).await?.active;
    Ok(Created(view(record, active.as_deref())))
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
            cell_signature::renew(operation, record, signature).await
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
    if work.load::<CellRecord>(&cell_key(&name)).await?.is_none() {
        work.save(cell_key(&name), &CellRecord { name, active: None, format: None, created_at, activated_at: None })?;
    }
    if work.read(&component_key(&record.digest)).await?.is_none() {
        work.put(component_key(&record.digest), component.into())?;
    }
    Ok(record)
}

/// Starts the version once and asks its health, so that what would not run is refused before it is stored.
async fn try_out(operation: &Operation, version: &Arc<CellVersion>) -> Result<(), Problem> {
    let limits = &version.manifest.limits;
    let invocation = Invocation {
        version: Arc::clone(version),
        tree: Arc::new(Tree::new(
            operation.context.clone(),
            Arc::new(Work::new(operation.kernel.storage.clone())),
            Arc::clone(&operation.kernel.live.load().catalog),
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

/// `POST /api/v1/cells/{name}/activate`
pub async fn activate(
    operation: Operation,
    _permit: Permit<CellDeploy>,
    (Path(path), Json(body)): (Path<CellPath>, Json<Activation>),
) -> Result<Ok200<VersionView>, Problem> {
    let record = operation.work.load::<VersionRecord>(&version_key(&path.name, &body.version)).await?;
    let record = record.ok_or_else(|| Problem::not_found("version", format!("{} {}", path.name, body.version)))?;
    operation.target("cell", &path.name);
    operation.detail("version", body.version.as_str());
    operation.detail("digest", record.digest.as_str());
    activate_version(&operation, &record).await?;
    Ok(Ok200(view(record, Some(&body.version))))
}

/// Makes a version the one that serves, unless its routes meet those of others.
pub async fn activate_version(operation: &Operation, record: &VersionRecord) -> Result<(), Problem> {
    let work = &operation.work;
    cell_signature::check(operation, &record.digest, &record.manifest, record.signature.as_ref())?;
    let manifest = Manifest::parse(&record.manifest).map_err(|faults| Problem::internal_all(&faults))?;
    cell_route::check(operation, Some(&manifest), None).await?;
    let mut cell = work
        .load::<CellRecord>(&cell_key(&record.name))
        .await?
        .ok_or_else(|| Problem::not_found("cell", &record.name))?;
    if cell.active.as_ref() == Some(&record.version) {
        return Ok(());
    }
    if let Some(format) = cell.format.filter(|format| !manifest.state.reads.contains(format)) {
        return Err(rejected(vec![Reason::new(
            ReasonCode::StateFormat,
            format!(
                "the active version writes state in format {format}, which {} does not read; add it to [state] reads",
                record.version
            ),
        )]));
    }
    // Loaded before the commit: an activation that was answered with 200 serves.
    let registry = &operation.kernel.registry;
    if let Err(reason) = registry.version(&operation.kernel.storage, record).await? {
        return Err(rejected(vec![Reason::new(ReasonCode::CannotStart, reason)]));
    }
    operation.changes_something();
    operation.detail("previous_version", cell.active.clone());
    cell.format = Some(manifest.state.format);
    cell.active = Some(record.version.clone());
    cell.activated_at = Some(operation.context.now);
    work.save(cell_key(&record.name), &cell)?;
    Ok(())
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
    let active = find(&operation, &path.name).await?.active;
    let size = paging.size()?;
    paging.check_cursor(|version| semver::Version::parse(version).is_ok())?;
    let prefix = format!("cell-version/{}/", path.name);
    let after = paging.cursor.map(|version| format!("{prefix}{version}"));
    let scan = Scan { space: platform(), prefix, after, limit: size + 1 };
    let records = operation.work.load_page::<VersionRecord>(&scan).await?;
    let views = records.into_iter().map(|(_, record)| view(record, active.as_deref())).collect();
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

pub(super) async fn find(operation: &Operation, name: &str) -> Result<CellRecord, Problem> {
    operation.work.load(&cell_key(name)).await?.ok_or_else(|| Problem::not_found("cell", name))
}

async fn cell_view(operation: &Operation, record: CellRecord) -> Result<CellView, Problem> {
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
    Ok(CellView {
        state: if active.is_some() { "active" } else { "stopped" },
        active_version: record.active,
        digest: active.as_ref().map(|cell| cell.version.reference.digest.clone()),
        limits,
        counters: active.map(|cell| cell.gate.counters()).unwrap_or_default(),
        last_trap,
        name: record.name,
        created_at: record.created_at,
        activated_at: record.activated_at,
    })
}

fn view(record: VersionRecord, active: Option<&str>) -> VersionView {
    let status = if active == Some(record.version.as_str()) { "active" } else { "uploaded" };
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

pub(super) fn rejected(reasons: Vec<Reason>) -> Problem {
    let first = reasons.first().map(|reason| reason.message.clone()).unwrap_or_default();
    let reasons = serde_json::to_value(reasons).unwrap_or_default();
    Problem::new(Code::CellRejected, format!("The cell would not run: {first}")).with("reasons", reasons)
}
