//! What a component is and whether it would run: the same findings for `aibos cell check` as for an upload.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;
use wasmparser::{ConstExpr, Operator, Parser, Payload};

use super::manifest::Manifest;
use super::rejection::{Reason, ReasonCode};
use super::version::{CellVersion, digest_of};

/// The stack with which a fresh instance is cheap.
const STACK_BYTES_ADVISED: i32 = 128 * 1024;

/// Findings about a component and its manifest.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Report {
    /// Name and version, when the manifest can be read.
    pub cell: Option<String>,
    /// SHA-256 of the component.
    pub digest: String,
    /// Size, in bytes.
    pub bytes: usize,
    /// Names of imports.
    pub imports: Vec<String>,
    /// Names of exports.
    pub exports: Vec<String>,
    /// Limits as `name value`.
    pub limits: Vec<String>,
    /// Advice that does not hinder.
    pub advice: Vec<String>,
    /// Why it would not run; empty when it would.
    pub reasons: Vec<Reason>,
}

impl Report {
    /// Examines a manifest and a component.
    #[must_use]
    pub fn of(manifest: &str, component: &[u8]) -> Self {
        let mut report = Self {
            cell: None,
            digest: digest_of(component),
            bytes: component.len(),
            imports: Vec::new(),
            exports: Vec::new(),
            limits: Vec::new(),
            advice: Vec::new(),
            reasons: Vec::new(),
        };
        report.read_component(component);
        match Manifest::parse(manifest) {
            Ok(manifest) => {
                report.cell = Some(format!("{} {}", manifest.cell.name, manifest.cell.version));
                let limits = &manifest.limits;
                report.limits = vec![
                    format!("fuel {}", limits.fuel),
                    format!("timeout_ms {}", limits.timeout_ms),
                    format!("memory_mb {}", limits.memory_mb),
                    format!("output_kb {}", limits.output_kb),
                    format!("concurrency {}", limits.concurrency),
                ];
                if let Err(reasons) = CellVersion::load_blocking(manifest, component) {
                    report.reasons = reasons;
                }
            }
            Err(faults) => {
                report.reasons =
                    faults.into_iter().map(|fault| Reason::new(ReasonCode::InvalidManifest, fault)).collect();
            }
        }
        report
    }

    /// Reads names and the guest's stack size. What cannot be parsed is told by the compiler, with a reason.
    fn read_component(&mut self, component: &[u8]) {
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(component) {
            match payload {
                Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => depth += 1,
                Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
                Ok(Payload::ComponentImportSection(section)) if depth == 0 => {
                    let names = section.into_iter().filter_map(Result::ok).map(|import| import.name.name.to_owned());
                    self.imports.extend(names);
                }
                Ok(Payload::ComponentExportSection(section)) if depth == 0 => {
                    let names = section.into_iter().filter_map(Result::ok).map(|export| export.name.name.to_owned());
                    self.exports.extend(names);
                }
                Ok(Payload::GlobalSection(section)) => {
                    let stack =
                        section.into_iter().next().and_then(Result::ok).and_then(|global| constant(&global.init_expr));
                    if let Some(bytes) = stack.filter(|bytes| *bytes > STACK_BYTES_ADVISED) {
                        self.advice.push(format!(
                            "the guest's stack has {} KiB; every call pays for it. Build with `aibos cell build`, or with \
                             -Clink-arg=-zstack-size=65536",
                            bytes / 1024
                        ));
                    }
                }
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }
}

/// The value of a constant expression of a 32-bit integer: for the first global, where the stack begins.
fn constant(expression: &ConstExpr<'_>) -> Option<i32> {
    match expression.get_operators_reader().read().ok()? {
        Operator::I32Const { value } => Some(value),
        _ => None,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cell     {}", self.cell.as_deref().unwrap_or("unknown: the manifest cannot be read"))?;
        writeln!(f, "digest   {}", self.digest)?;
        writeln!(f, "size     {} KiB", self.bytes / 1024)?;
        writeln!(f, "limits   {}", self.limits.join(", "))?;
        for import in &self.imports {
            writeln!(f, "import   {import}")?;
        }
        for export in &self.exports {
            writeln!(f, "export   {export}")?;
        }
        for advice in &self.advice {
            writeln!(f, "advice   {advice}")?;
        }
        for reason in &self.reasons {
            writeln!(f, "refused  {}", reason.message)?;
        }
        write!(f, "{}", if self.reasons.is_empty() { "It would run." } else { "It would not run." })
    }
}
