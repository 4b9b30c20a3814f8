//! Which cell answers a request, and what it asks for: the routes of manifests and of operators in one table, made anew for
//! each snapshot. No two routes could match one request, so there is no order between them.

use std::collections::HashMap;
use std::sync::Arc;

use http::Method;

use crate::cell::catalog::{ActiveCell, Catalog, RouteRecord};
use crate::cell::manifest::{AuditRule, HttpTrigger, Idempotency, Manifest};
use crate::cell::pattern::{Pattern, decode_path, split_path};

/// A snapshot with its routes.
#[derive(Debug, Default)]
pub struct Live {
    /// Cells and faults.
    pub catalog: Arc<Catalog>,
    /// Routes.
    pub routes: Routes,
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub struct Target {
    /// The cell.
    pub cell: Arc<str>,
    /// The route's template.
    pub template: Arc<str>,
    /// The permission asked for, or `public`.
    pub permission: Arc<str>,
    /// What becomes of `Idempotency-Key`.
    pub idempotency: Idempotency,
    /// Which successful calls are audited, where the manifest says so.
    pub audit: Option<AuditRule>,
}

/// A target with the path as the cell sees it.
#[derive(Clone, Debug)]
pub struct Match {
    /// Where it goes.
    pub target: Arc<Target>,
    /// The cell's path.
    pub path: String,
    /// The method as the cell sees it: GET for a HEAD that only a GET route answers.
    pub method: Method,
}

/// Why no target was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// Nothing has this path.
    Unknown,
    /// The path has these methods.
    OtherMethods(Vec<String>),
}

/// Two routes that could match one request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{first} and {second} could match one request")]
pub struct RouteConflict {
    /// One, with its cell.
    pub first: String,
    /// The other.
    pub second: String,
}

/// The table.
#[derive(Default)]
pub struct Routes {
    by_method: HashMap<String, matchit::Router<Arc<Target>>>,
}

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Routes").field("methods", &self.by_method.keys()).finish()
    }
}

/// One route of the table before it is built.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The pattern.
    pub pattern: Pattern,
    /// Upper-case methods; empty stands for every method, as a `[[trigger.call]]` has.
    pub methods: Vec<String>,
    /// Where it goes; none for a route that must never be reached by HTTP.
    pub target: Option<Arc<Target>>,
    /// The cell, for messages.
    pub cell: String,
}

impl Candidate {
    fn conflicts(&self, other: &Self) -> bool {
        // Routes for other cells live apart from those of HTTP, except within one cell: there a path must mean one thing.
        let apart = (self.target.is_none() || other.target.is_none()) && self.cell != other.cell;
        let both_calls = self.target.is_none() && other.target.is_none();
        let shared = self.methods.is_empty()
            || other.methods.is_empty()
            || self.methods.iter().any(|method| other.methods.contains(method));
        !apart && !both_calls && shared && self.pattern.overlaps(&other.pattern)
    }
}

/// The routes of a manifest.
#[must_use]
pub fn candidates_of(manifest: &Manifest) -> Vec<Candidate> {
    let cell = &manifest.cell.name;
    let http = manifest.trigger.http.iter().map(|trigger| Candidate {
        pattern: trigger.route.clone(),
        methods: trigger.methods.clone(),
        target: Some(Arc::new(target_of(cell, trigger))),
        cell: cell.clone(),
    });
    let calls = manifest.trigger.call.iter().map(|trigger| Candidate {
        pattern: trigger.route.clone(),
        methods: Vec::new(),
        target: None,
        cell: cell.clone(),
    });
    http.chain(calls).collect()
}

fn target_of(cell: &str, trigger: &HttpTrigger) -> Target {
    Target {
        cell: Arc::from(cell),
        template: Arc::from(trigger.route.as_str()),
        permission: Arc::from(trigger.permission.as_str()),
        idempotency: trigger.idempotency,
        audit: trigger.audit,
    }
}

/// Unsafe methods are audited always, safe ones when they changed something (RFC 9110, section 9.2.1).
#[must_use]
pub fn default_audit(method: &Method) -> AuditRule {
    if method.is_safe() { AuditRule::Effects } else { AuditRule::Always }
}

/// The routes of a snapshot.
#[must_use]
pub fn candidates(catalog: &Catalog) -> Vec<Candidate> {
    let manifests = catalog.cells.values().flat_map(|cell| candidates_of(&cell.version.manifest));
    let operators = catalog.routes.iter().map(candidate_of);
    manifests.chain(operators).collect()
}

/// A route of an operator.
#[must_use]
pub fn candidate_of(route: &RouteRecord) -> Candidate {
    let target = Target {
        cell: Arc::from(route.cell.as_str()),
        template: Arc::from(route.route.as_str()),
        permission: Arc::from(route.permission.as_str()),
        idempotency: route.idempotency,
        audit: None,
    };
    Candidate {
        pattern: route.route.clone(),
        methods: route.methods.clone(),
        target: Some(Arc::new(target)),
        cell: route.cell.clone(),
    }
}

/// The first pair of routes that could match one request.
pub fn check_conflicts(candidates: &[Candidate]) -> Result<(), RouteConflict> {
    // Only routes with the same first segment can meet, or with one that begins with a parameter; those are few.
    let (open, fixed): (Vec<&Candidate>, Vec<&Candidate>) =
        candidates.iter().partition(|candidate| first_segment(candidate).starts_with('{'));
    let mut by_first: HashMap<&str, Vec<&Candidate>> = HashMap::new();
    for (place, candidate) in open.iter().chain(&fixed).enumerate() {
        let neighbours = by_first.entry(first_segment(candidate)).or_default();
        let met = neighbours.iter().chain(open.iter().take(place)).find(|other| other.conflicts(candidate));
        if let Some(other) = met {
            return Err(RouteConflict { first: name(other), second: name(candidate) });
        }
        neighbours.push(candidate);
    }
    Ok(())
}

fn first_segment(candidate: &Candidate) -> &str {
    candidate.pattern.as_str().split('/').nth(1).unwrap_or_default()
}

fn name(candidate: &Candidate) -> String {
    let methods = if candidate.methods.is_empty() { "calls to".into() } else { candidate.methods.join(",") };
    format!("{methods} {} of {}", candidate.pattern.as_str(), candidate.cell)
}

impl Live {
    /// A snapshot with its table.
    #[must_use]
    pub fn new(catalog: Catalog) -> Self {
        let routes = Routes::build(&candidates(&catalog));
        Self { catalog: Arc::new(catalog), routes }
    }

    /// Where a request goes.
    pub fn resolve(&self, method: &Method, path: &str) -> Result<Match, NoRoute> {
        if let Some(rest) = path.strip_prefix("/cells/") {
            return self.resolve_by_name(method, rest);
        }
        let (target, method) = self.routes.find(method, path)?;
        Ok(Match { target, path: path.to_owned(), method })
    }

    /// `/cells/{name}/{*path}`: the cell's own triggers with their own permissions; a cell without any by its `[cell]`
    /// permission, except where only other cells may call.
    fn resolve_by_name(&self, method: &Method, rest: &str) -> Result<Match, NoRoute> {
        let (name, path) = rest.split_once('/').ok_or(NoRoute::Unknown)?;
        let path = format!("/{path}");
        let cell = self.catalog.cell(name).ok_or(NoRoute::Unknown)?;
        let manifest = &cell.version.manifest;
        if manifest.trigger.http.is_empty() {
            let target = Arc::new(own_target(&cell, &path)?);
            return Ok(Match { target, path, method: method.clone() });
        }
        let (target, method) = Routes::build(&candidates_of(manifest)).find(method, &path)?;
        Ok(Match { target, path, method })
    }
}

fn own_target(cell: &ActiveCell, path: &str) -> Result<Target, NoRoute> {
    let manifest = &cell.version.manifest;
    let segments = split_path(path).ok_or(NoRoute::Unknown)?;
    if manifest.trigger.call.iter().any(|trigger| trigger.route.matches(&segments)) {
        return Err(NoRoute::Unknown);
    }
    Ok(Target {
        cell: Arc::clone(&cell.version.name),
        template: Arc::from(format!("/cells/{}/{{*path}}", cell.version.name)),
        permission: Arc::from(manifest.cell.permission.as_str()),
        idempotency: Idempotency::Optional,
        audit: None,
    })
}

impl Routes {
    fn build(candidates: &[Candidate]) -> Self {
        let mut routes = Self::default();
        for candidate in candidates {
            let Some(target) = &candidate.target else { continue };
            for method in &candidate.methods {
                let router = routes.by_method.entry(method.clone()).or_default();
                if let Err(cause) = router.insert(normal(candidate.pattern.as_str()), Arc::clone(target)) {
                    tracing::error!(%cause, route = candidate.pattern.as_str(), "a route cannot be added");
                }
            }
        }
        routes
    }

    fn find(&self, method: &Method, path: &str) -> Result<(Arc<Target>, Method), NoRoute> {
        let decoded = decode_path(path).ok_or(NoRoute::Unknown)?;
        let at = |method: &str| {
            let router = self.by_method.get(method)?;
            router.at(&decoded).ok().map(|found| Arc::clone(found.value))
        };
        if let Some(target) = at(method.as_str()) {
            return Ok((target, method.clone()));
        }
        let by_get = if *method == Method::HEAD { at("GET") } else { None };
        by_get.map(|target| (target, Method::GET)).ok_or_else(|| {
            let mut others: Vec<String> = self.by_method.keys().filter(|name| at(name).is_some()).cloned().collect();
            others.sort();
            if others.is_empty() { NoRoute::Unknown } else { NoRoute::OtherMethods(others) }
        })
    }
}

/// A pattern with its parameters named by place, because the router wants one name at one place.
fn normal(pattern: &str) -> String {
    let segment = |(place, part): (usize, &str)| match part.strip_prefix('{') {
        Some(rest) if rest.starts_with('*') => format!("{{*p{place}}}"),
        Some(_) => format!("{{p{place}}}"),
        None => part.to_owned(),
    };
    pattern.split('/').enumerate().map(segment).collect::<Vec<_>>().join("/")
}
