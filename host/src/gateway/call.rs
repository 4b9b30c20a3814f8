//! One request to a cell, from its route to its reply. The call runs as one unit of work; when what it read has changed by
//! the time of its commit, the same call runs again on fresh reads.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use axum::response::Response as HttpResponse;
use bytes::Bytes;
use http::{HeaderMap, Method};

use super::idempotency::{self, RunningKey};
use super::resolve::{Live, Match, default_audit};
use crate::audit::{AuditEntry, Outcome as AuditOutcome, Party};
use crate::cell::binding::{Request, Response};
use crate::cell::catalog::ActiveCell;
use crate::cell::invoke::{self, Invocation};
use crate::cell::manifest::AuditRule;
use crate::cell::outcome::Outcome;
use crate::cell::store::Tree;
use crate::cell::translate;
use crate::context::Context;
use crate::kernel::Kernel;
use crate::limit;
use crate::rbac::permit::RoutePermit;
use crate::state::StateKey;
use crate::state::committer::CommitError;
use crate::state::unit::{Conflict, ReplyKey, StoredReply, Unit, Verdict, Write};
use crate::state::work::{Work, WorkError};

/// Attempts after which conflicting calls of one tenant and cell take turns.
const ATTEMPTS_AT_ONCE: u32 = 2;
/// Attempts after which newcomers of the same tenant and cell wait for their turn, too.
const ATTEMPTS_IN_TURN: u32 = 4;
/// All attempts of a call together may take so many times its `timeout_ms`.
const ATTEMPT_TIMES: u32 = 8;

/// Why a call has no reply of its own.
#[derive(Debug)]
pub enum CallError {
    /// The cell is not active.
    Inactive(String),
    /// All slots are taken.
    Overloaded,
    /// The cell failed; nothing remains but the report.
    Failed(Outcome),
    /// The cell answered with a 5xx other than 503.
    Withheld(u16),
    /// It kept conflicting.
    Conflicted,
    /// The idempotency key belongs to another request.
    KeyReused,
    /// The first request with this key is still running.
    KeyInUse,
    /// The database failed below a read.
    Work(WorkError),
    /// The commit failed.
    Commit(CommitError),
}

impl From<WorkError> for CallError {
    fn from(error: WorkError) -> Self {
        Self::Work(error)
    }
}

impl From<CommitError> for CallError {
    fn from(error: CommitError) -> Self {
        Self::Commit(error)
    }
}

/// A request that has passed its access rule.
#[derive(Debug)]
pub struct CellCall {
    /// The snapshot that it runs on.
    pub live: Arc<Live>,
    /// Where it goes.
    pub route: Match,
    /// Who, when, which request.
    pub context: Context,
    /// Method.
    pub method: Method,
    /// Query.
    pub query: Option<String>,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// Idempotency key.
    pub key: Option<String>,
}

/// Where an attempt reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    /// Each read sees what is committed by then.
    Newest,
    /// All reads see one state.
    Pinned,
}

/// How one attempt ended.
enum Attempt {
    Reply(HttpResponse),
    /// Run again; these counters are answered against their fresh values from now on.
    Again(Vec<StateKey>),
}

/// Runs the call. The permit proves that the caller may.
pub async fn run(kernel: &Kernel, call: CellCall, _permit: RoutePermit) -> Result<HttpResponse, CallError> {
    let target = &call.route.target;
    let cell = call.live.catalog.cell(&target.cell).ok_or_else(|| CallError::Inactive(target.cell.to_string()))?;
    let reply_key = call.reply_key();
    let _running: Option<RunningKey<'_>> = match &reply_key {
        Some(key) => Some(kernel.gateway.running.take(key.clone()).ok_or(CallError::KeyInUse)?),
        None => None,
    };
    let timeout = Duration::from_millis(cell.version.manifest.limits.timeout_ms);
    let deadline = Instant::now() + timeout * ATTEMPT_TIMES;
    let _slot = cell.gate.enter(Instant::now() + timeout).await.map_err(|_| CallError::Overloaded)?;
    let mut decided = HashSet::new();
    // A read needs no turn: after the same attempts it reads one state of the database.
    let lane = kernel.gateway.lane(call.context.actor.tenant(), &target.cell).filter(|_| !call.method.is_safe());
    let (mut turn, mut _starving) = (None, None);
    for attempt in 0..limit::CONFLICT_ATTEMPTS_MAX {
        if let Some(lane) = lane {
            let crowded = attempt >= ATTEMPTS_AT_ONCE || lane.starves();
            if crowded && turn.is_none() {
                turn = tokio::time::timeout_at(deadline.into(), lane.turn()).await.ok();
            }
            if attempt == ATTEMPTS_IN_TURN {
                _starving = Some(lane.starve());
            }
        }
        let now = Instant::now();
        if now >= deadline {
            break;
        }
        let ends = deadline.min(now + timeout);
        // Who kept meeting changes between its reads gets them all from one state of the database.
        let reads = if attempt < ATTEMPTS_AT_ONCE { Reads::Newest } else { Reads::Pinned };
        let attempted = Box::pin(call.attempt(kernel, &cell, reply_key.as_ref(), &decided, ends, reads));
        match attempted.await? {
            Attempt::Reply(response) => return Ok(response),
            Attempt::Again(bounds) => decided.extend(bounds),
        }
    }
    metrics::counter!("cell_conflicts_total", "cell" => target.cell.to_string()).increment(1);
    kernel.record(call.entry(&cell, AuditOutcome::Failure, "conflicted", "kept conflicting with other calls")).await?;
    Err(CallError::Conflicted)
}

impl CellCall {
    fn reply_key(&self) -> Option<ReplyKey> {
        self.key.as_ref().map(|key| ReplyKey {
            tenant: self.context.tenant(),
            principal: self.context.actor.principal(),
            route: self.route.target.template.to_string(),
            key: key.clone(),
        })
    }

    fn fingerprint(&self) -> [u8; 32] {
        idempotency::fingerprint(&self.method, &self.route.path, self.query.as_deref(), &self.body)
    }

    async fn attempt(
        &self,
        kernel: &Kernel,
        cell: &ActiveCell,
        reply_key: Option<&ReplyKey>,
        decided: &HashSet<StateKey>,
        deadline: Instant,
        reads: Reads,
    ) -> Result<Attempt, CallError> {
        if let Some(key) = reply_key
            && let Some(stored) = kernel.storage.reply(key).await.map_err(WorkError::from)?
        {
            return self.replay(&stored).map(Attempt::Reply);
        }
        let tree = self.tree(kernel, decided, reads).await?;
        let limits = &cell.version.manifest.limits;
        let invocation = Invocation {
            version: Arc::clone(&cell.version),
            tree: Arc::clone(&tree),
            caller: None,
            depth: 1,
            fuel: limits.fuel,
            deadline,
        };
        let ended = invoke::handle(invocation, self.request()).await;
        tree.work.unpin().await;
        cell.gate.count(ended.result.as_ref().err());
        match ended.result {
            Ok(response) if translate::commits(&response) => {
                self.commit(kernel, cell, &tree, response, reply_key).await
            }
            Ok(response) => self.discard(kernel, cell, &tree, response).await,
            Err(Outcome::StorageFailed(error)) => Err(error.into()),
            Err(outcome) => {
                // A failure that rests on reads which did not belong together is not the cell's.
                if !tree.work.still_valid().await? {
                    return Ok(Attempt::Again(tree.work.promises()));
                }
                let report = cell.version.report(&self.context, &outcome);
                let mut unit = Unit::default();
                unit.writes.push(trap_write(kernel, &cell.version.reference.name, &report));
                unit.audit.push(self.entry(cell, AuditOutcome::Failure, outcome.label(), &outcome.message()));
                self.add_failures(kernel, &tree, &mut unit);
                kernel.commit(unit).await?;
                Err(CallError::Failed(outcome))
            }
        }
    }

    fn request(&self) -> Request {
        Request {
            method: self.route.method.to_string(),
            path: self.route.path.clone(),
            query: self.query.clone(),
            headers: translate::request_headers(&self.headers, &self.context),
            body: self.body.to_vec(),
        }
    }

    async fn tree(&self, kernel: &Kernel, decided: &HashSet<StateKey>, reads: Reads) -> Result<Arc<Tree>, CallError> {
        let work = Work::bounded(kernel.storage.clone(), decided.clone(), limit::STATE_READ_BYTES_MAX);
        let work = if reads == Reads::Pinned { work.pinned().await? } else { work };
        let catalog = Arc::clone(&self.live.catalog);
        let settings = Arc::clone(&kernel.config.cell_settings);
        Ok(Arc::new(Tree::new(self.context.clone(), Arc::new(work), catalog, settings)))
    }

    /// Commits what the call staged, with its audit entry and its stored reply.
    async fn commit(
        &self,
        kernel: &Kernel,
        cell: &ActiveCell,
        tree: &Tree,
        response: Response,
        reply_key: Option<&ReplyKey>,
    ) -> Result<Attempt, CallError> {
        let changes = !tree.work.stages_nothing() || reply_key.is_some();
        let rule = self.route.target.audit.unwrap_or_else(|| default_audit(&self.method));
        let always = rule == AuditRule::Always && self.context.actor.tenant().is_some();
        let mut unit = tree.work.finish();
        if changes || always {
            let status = response.status.to_string();
            unit.audit.insert(0, self.entry(cell, AuditOutcome::Success, "returned", &status));
        }
        unit.reply = reply_key.map(|key| self.stored_reply(key, &response));
        self.add_failures(kernel, tree, &mut unit);
        if unit.changes_nothing() {
            let valid = tree.work.still_valid().await?;
            return Ok(if valid { Attempt::Reply(reply(response)) } else { Attempt::Again(tree.work.promises()) });
        }
        Ok(match kernel.commit(unit).await? {
            Verdict::Committed(_) => Attempt::Reply(reply(response)),
            Verdict::Conflicted(Conflict::Bound(key)) => Attempt::Again(vec![key]),
            Verdict::Conflicted(Conflict::Read | Conflict::Reply | Conflict::Event) => Attempt::Again(Vec::new()),
        })
    }

    /// Drops what the call staged. A 5xx is the cell's failure and is audited as such.
    async fn discard(
        &self,
        kernel: &Kernel,
        cell: &ActiveCell,
        tree: &Tree,
        response: Response,
    ) -> Result<Attempt, CallError> {
        tree.work.discard();
        if !tree.work.still_valid().await? {
            return Ok(Attempt::Again(tree.work.promises()));
        }
        let failed = response.status >= 500;
        let mut unit = Unit::default();
        if failed {
            let message = format!("answered {}", response.status);
            unit.audit.push(self.entry(cell, AuditOutcome::Failure, "returned", &message));
        }
        self.add_failures(kernel, tree, &mut unit);
        if !unit.changes_nothing() {
            kernel.commit(unit).await?;
        }
        match response.status {
            503 | 0..500 => Ok(Attempt::Reply(reply(response))),
            status => Err(CallError::Withheld(status)),
        }
    }

    fn replay(&self, stored: &StoredReply) -> Result<HttpResponse, CallError> {
        if stored.fingerprint != self.fingerprint() {
            return Err(CallError::KeyReused);
        }
        let mut response = translate::http_response(stored.status, &stored.headers, stored.body.clone());
        response.headers_mut().insert("idempotency-replayed", http::HeaderValue::from_static("true"));
        Ok(response)
    }

    fn stored_reply(&self, key: &ReplyKey, response: &Response) -> StoredReply {
        StoredReply {
            key: key.clone(),
            fingerprint: self.fingerprint(),
            status: response.status,
            headers: response.headers.clone(),
            body: Bytes::copy_from_slice(&response.body),
            created_at: self.context.now,
            expires_at: self.context.now.saturating_add(limit::IDEMPOTENCY_LIFE).unwrap_or(self.context.now),
        }
    }

    fn entry(&self, cell: &ActiveCell, outcome: AuditOutcome, ended: &str, message: &str) -> AuditEntry {
        let reference = cell.version.reference.clone();
        let mut entry = self.context.entry("cell.call", Party::new("cell", &reference.name), outcome);
        entry.details.insert("method".into(), self.method.as_str().into());
        entry.details.insert("route".into(), self.route.target.template.as_ref().into());
        entry.details.insert("outcome".into(), ended.into());
        entry.details.insert("message".into(), message.into());
        entry.cell = Some(reference);
        entry
    }

    /// Adds the reports of cells that failed below: their callers may have handled it, it happened all the same.
    fn add_failures(&self, kernel: &Kernel, tree: &Tree, unit: &mut Unit) {
        unit.audit.extend(tree.reveals());
        let failures = std::mem::take(&mut *tree.failures.lock().unwrap_or_else(PoisonError::into_inner));
        for (reference, report) in failures {
            let mut entry =
                self.context.entry("cell.failure", Party::new("cell", &reference.name), AuditOutcome::Failure);
            entry.details.insert("outcome".into(), report.kind.as_str().into());
            entry.details.insert("message".into(), report.message.as_str().into());
            unit.writes.push(trap_write(kernel, &reference.name, &report));
            entry.cell = Some(reference);
            unit.audit.push(entry);
        }
    }
}

fn trap_write(kernel: &Kernel, cell: &str, report: &crate::cell::outcome::TrapReport) -> Write {
    let bytes = serde_json::to_vec(report).unwrap_or_default();
    Write::Put(kernel.gateway.trap_slot(cell), bytes.into())
}

fn reply(response: Response) -> HttpResponse {
    translate::http_response(response.status, &response.headers, response.body)
}
