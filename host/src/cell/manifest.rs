//! `cell.toml`: what a cell is called, when it runs, what it may use and how much of it. Parsed into values that cannot be
//! out of bounds; unknown keys are errors; every limit has a default and is always on.

use serde::{Deserialize, Serialize};

use super::given::valid_name;
use super::outbound::Origin;
use super::pattern::Pattern;
use crate::rbac::permission;
use crate::rbac::permit::PUBLIC;
use crate::state::KERNEL_SPACE;
use crate::{event, limit};

/// A parsed manifest.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name, version and the permission of its own path.
    pub cell: Identity,
    /// When it runs.
    #[serde(default)]
    pub trigger: Triggers,
    /// How much it may use.
    #[serde(default)]
    pub limits: Limits,
    /// What it may use.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// The format of its stored state.
    #[serde(default)]
    pub state: StateFormat,
    /// When it is taken out of service.
    #[serde(default)]
    pub failure: Failure,
    /// The text that it was parsed from.
    #[serde(skip)]
    pub text: String,
}

/// `[cell]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Lower-case words joined by `-`.
    pub name: String,
    /// Semantic version.
    pub version: semver::Version,
    /// One sentence.
    #[serde(default)]
    pub description: String,
    /// The permission of `/cells/NAME/…` for a cell without HTTP triggers.
    pub permission: String,
}

/// `[[trigger.…]]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Triggers {
    /// Routes for HTTP clients.
    pub http: Vec<HttpTrigger>,
    /// Routes for other cells.
    pub call: Vec<CallTrigger>,
    /// Event types that it hears.
    pub event: Vec<EventTrigger>,
    /// Times at which it runs.
    pub cron: Vec<CronTrigger>,
}

/// `[[trigger.http]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpTrigger {
    /// The pattern.
    pub route: Pattern,
    /// Upper-case methods.
    pub methods: Vec<String>,
    /// The permission asked for, or `public`.
    pub permission: String,
    /// What becomes of `Idempotency-Key`.
    #[serde(default)]
    pub idempotency: Idempotency,
    /// Which successful calls are audited.
    #[serde(default)]
    pub audit: Option<AuditRule>,
}

/// What a route does with `Idempotency-Key`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Idempotency {
    /// A call without one is refused.
    Required,
    /// Used when given.
    #[default]
    Optional,
    /// Ignored.
    None,
}

/// Which successful calls leave an audit entry. Failures always do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuditRule {
    /// Every call: the rule of unsafe methods.
    Always,
    /// Calls that changed something: the rule of GET, HEAD and OPTIONS, and right for a POST that only computes.
    Effects,
}

/// `[[trigger.call]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallTrigger {
    /// The pattern.
    pub route: Pattern,
    /// The cells that may call it.
    pub callers: Vec<String>,
}

/// `[[trigger.event]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventTrigger {
    /// A type, or `prefix.*`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// `[[trigger.cron]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CronTrigger {
    /// Five fields: minute, hour, day of month, month, day of week.
    pub schedule: String,
    /// Its name.
    pub name: String,
}

/// `[limits]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Fuel of one call.
    pub fuel: u64,
    /// Time of one call.
    pub timeout_ms: u64,
    /// Linear memory.
    pub memory_mb: u64,
    /// Body of a reply.
    pub output_kb: u64,
    /// Calls at once.
    pub concurrency: u32,
    /// How instances are made.
    pub instance: Instance,
}

/// How instances are made.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Instance {
    /// `"fresh"`: one for each call.
    Named(Fresh),
    /// `{ warm = N }`: kept for N calls of one tenant.
    Warm {
        /// Calls before it is replaced.
        warm: u32,
    },
}

impl Instance {
    /// Calls that one instance may answer; none when each call has its own.
    #[must_use]
    pub fn warm(&self) -> Option<u32> {
        match self {
            Self::Named(Fresh::Fresh) => None,
            Self::Warm { warm } => Some(*warm),
        }
    }
}

/// The word `fresh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fresh {
    /// One instance for each call.
    Fresh,
}

/// `[capabilities]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Capabilities {
    /// Its own keys and values.
    pub state: bool,
    /// Event types that it publishes: a type, or `prefix.*`.
    pub publish: Vec<String>,
    /// Cells that it calls.
    pub calls: Vec<String>,
    /// Settings that it reads.
    pub config: Vec<String>,
    /// Secrets that it may obtain.
    pub secrets: Vec<String>,
    /// Origins that it may look things up at.
    pub outbound: Vec<Origin>,
}

/// `[state]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StateFormat {
    /// The format that this version writes.
    pub format: u32,
    /// The formats that it can read.
    pub reads: Vec<u32>,
}

/// `[failure]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Failure {
    /// Failures within the window that take the cell out of service.
    pub strikes: u32,
    /// The window, in seconds.
    pub window_s: u32,
    /// Shortest and longest wait before a probe.
    pub backoff_ms: [u64; 2],
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fuel: limit::FUEL_DEFAULT,
            timeout_ms: limit::TIMEOUT_MS_DEFAULT,
            memory_mb: limit::MEMORY_MB_DEFAULT,
            output_kb: limit::OUTPUT_KB_DEFAULT,
            concurrency: limit::CONCURRENCY_DEFAULT,
            instance: Instance::Named(Fresh::Fresh),
        }
    }
}

impl Default for StateFormat {
    fn default() -> Self {
        Self { format: 1, reads: vec![1] }
    }
}

impl Default for Failure {
    fn default() -> Self {
        Self { strikes: 5, window_s: 60, backoff_ms: [100, 30_000] }
    }
}

impl Manifest {
    /// Parses a manifest; otherwise everything that is wrong with it, one sentence each.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let mut manifest: Self =
            toml::from_str(text).map_err(|error| vec![format!("cell.toml: {}", error.to_string().trim())])?;
        text.clone_into(&mut manifest.text);
        let mut faults = Vec::new();
        manifest.check_identity(&mut faults);
        manifest.check_triggers(&mut faults);
        manifest.check_limits(&mut faults);
        manifest.check_failure(&mut faults);
        manifest.check_capabilities(&mut faults);
        if faults.is_empty() { Ok(manifest) } else { Err(faults) }
    }

    /// The permissions that its routes ask for.
    pub fn permissions(&self) -> impl Iterator<Item = &str> {
        let routes = self.trigger.http.iter().map(|trigger| trigger.permission.as_str());
        routes.chain(std::iter::once(self.cell.permission.as_str())).filter(|name| *name != PUBLIC)
    }

    fn check_identity(&self, faults: &mut Vec<String>) {
        let name = &self.cell.name;
        if !valid_cell_name(name) {
            faults.push(format!(
                "[cell] name = {name:?}: 1 to 63 lower-case letters, digits and -, starting with a letter"
            ));
        }
        if name == KERNEL_SPACE {
            faults.push(format!("[cell] name = {name:?} is the kernel's own; take another"));
        }
        check_permission("[cell] permission", &self.cell.permission, faults);
    }

    fn check_triggers(&self, faults: &mut Vec<String>) {
        for trigger in &self.trigger.http {
            let place = format!("[[trigger.http]] {:?}", trigger.route.as_str());
            if trigger.route.reserved() {
                faults.push(format!("{place}: the path is the kernel's own; start with another literal segment"));
            }
            check_methods(&place, &trigger.methods, faults);
            check_permission(&place, &trigger.permission, faults);
        }
        for trigger in &self.trigger.call {
            for caller in trigger.callers.iter().filter(|caller| !valid_cell_name(caller)) {
                faults.push(format!("[[trigger.call]] {:?}: {caller:?} is not a cell's name", trigger.route.as_str()));
            }
        }
        for trigger in &self.trigger.event {
            check_type_pattern("[[trigger.event]] type", &trigger.kind, faults);
        }
        for trigger in &self.trigger.cron {
            if trigger.schedule.split_whitespace().count() != 5 {
                faults
                    .push(format!("[[trigger.cron]] {:?}: schedule has five fields, like \"0 * * * *\"", trigger.name));
            }
        }
    }

    fn check_limits(&self, faults: &mut Vec<String>) {
        let limits = &self.limits;
        let bounded = [
            ("fuel", limits.fuel, limit::FUEL_MAX),
            ("timeout_ms", limits.timeout_ms, limit::TIMEOUT_MS_MAX),
            ("memory_mb", limits.memory_mb, limit::MEMORY_MB_MAX),
            ("output_kb", limits.output_kb, limit::OUTPUT_KB_MAX),
            ("concurrency", u64::from(limits.concurrency), u64::from(limit::CONCURRENCY_MAX)),
        ];
        for (name, value, most) in bounded {
            if !(1..=most).contains(&value) {
                faults.push(format!("[limits] {name} = {value}: must be between 1 and {most}"));
            }
        }
        if let Some(calls) = limits.instance.warm()
            && !(1..=limit::WARM_CALLS_MAX).contains(&calls)
        {
            let most = limit::WARM_CALLS_MAX;
            faults.push(format!("[limits] instance = {{ warm = {calls} }}: must be between 1 and {most}"));
        }
    }

    fn check_failure(&self, faults: &mut Vec<String>) {
        let Failure { strikes, window_s, backoff_ms: [shortest, longest] } = self.failure;
        let bounded = [
            ("strikes", u64::from(strikes), limit::STRIKES_MAX),
            ("window_s", u64::from(window_s), limit::STRIKE_WINDOW_S_MAX),
            ("backoff_ms", shortest, limit::BACKOFF_MS_MAX),
            ("backoff_ms", longest, limit::BACKOFF_MS_MAX),
        ];
        for (name, value, most) in bounded {
            if !(1..=most).contains(&value) {
                faults.push(format!("[failure] {name} = {value}: must be between 1 and {most}"));
            }
        }
        if shortest > longest {
            faults.push(format!("[failure] backoff_ms = [{shortest}, {longest}]: the shortest pause comes first"));
        }
    }

    fn check_capabilities(&self, faults: &mut Vec<String>) {
        for kind in &self.capabilities.publish {
            check_type_pattern("[capabilities] publish", kind, faults);
        }
        for cell in self.capabilities.calls.iter().filter(|cell| !valid_cell_name(cell)) {
            faults.push(format!("[capabilities] calls: {cell:?} is not a cell's name"));
        }
        for (key, names) in [("config", &self.capabilities.config), ("secrets", &self.capabilities.secrets)] {
            for name in names.iter().filter(|name| !valid_name(name)) {
                faults.push(format!(
                    "[capabilities] {key}: {name:?} must be 1 to 64 letters, digits, _, - and ., with a letter first"
                ));
            }
        }
        if !self.state.reads.contains(&self.state.format) {
            faults.push(format!(
                "[state] reads must contain format = {}: a version reads what it writes",
                self.state.format
            ));
        }
    }
}

/// Whether a text may name a cell.
#[must_use]
pub fn valid_cell_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// Checks the methods of a route.
pub fn check_methods(place: &str, methods: &[String], faults: &mut Vec<String>) {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    if methods.is_empty() {
        faults.push(format!("{place}: methods must name at least one of {}", KNOWN.join(", ")));
    }
    for method in methods.iter().filter(|method| !KNOWN.contains(&method.as_str())) {
        faults.push(format!("{place}: {method:?} is not one of {}", KNOWN.join(", ")));
    }
}

/// Checks the permission of a route.
pub fn check_permission(place: &str, name: &str, faults: &mut Vec<String>) {
    if name != PUBLIC && !permission::valid_name(name) {
        faults.push(format!("{place}: permission {name:?} must be dotted lower-case words, or \"public\""));
    } else if name.starts_with("kernel.") {
        faults.push(format!("{place}: permission {name:?} is the kernel's own; a cell declares its own"));
    }
}

fn check_type_pattern(place: &str, pattern: &str, faults: &mut Vec<String>) {
    let exact = pattern.strip_suffix(".*").unwrap_or(pattern);
    if !event::valid_type(exact) {
        faults.push(format!("{place}: {pattern:?} must be a type like \"payment.created\" or \"payment.*\""));
    }
}
