//! One request to a cell, from its route to its reply. The call runs as one unit of work; when what it read has changed by
//! the time of its commit, the same call runs again on fresh reads.

mod record;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::response::Response as HttpResponse;
use bytes::Bytes;
use http::{HeaderMap, Method};

use super::call_error::CallError;
use super::idempotency::{self, RunningKey};
use super::resolve::{Live, Match, default_audit};
use super::supervise;
use crate::audit::{AuditEntry, Outcome as AuditOutcome};
use crate::cell::binding::{Request, Response};
use crate::cell::catalog::{ActiveCell, NotServing};
use crate::cell::gate::Place;
use crate::cell::invoke::{self, Invocation};
use crate::cell::manifest::AuditRule;
use crate::cell::outcome::{Outcome, own_failure};
use crate::cell::store::{NestedFailure, Tree};
use crate::cell::supervisor::{Pass, Verdict};
use crate::cell::translate;
use crate::context::Context;
use crate::id::TenantId;
use crate::kernel::Kernel;
use crate::limit;
use crate::rbac::permit::RoutePermit;
use crate::state::unit::{Conflict, ReplyKey, StoredReply, Unit, Verdict as Committed};
use crate::state::work::{Work, WorkError};
use crate::state::{StateKey, Version};
use record::trap_write;

/// Attempts after which conflicting calls of one tenant and cell take turns.
const ATTEMPTS_AT_ONCE: u32 = 2;
/// Attempts after which newcomers of the same tenant and cell wait for their turn, too.
const ATTEMPTS_IN_TURN: u32 = 4;
/// All attempts of a call together may take so many times its `timeout_ms`.
const ATTEMPT_TIMES: u32 = 8;

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
    /// Whether an attempt asked something outside, which is never done twice.
    pub reached_out: AtomicBool,
    /// Entries of revealed secrets that no commit has kept yet: they outlive an attempt that is run again.
    pub revealed: Mutex<Vec<AuditEntry>>,
}

/// Where an attempt reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    /// What the process knows already is as good as the newest: it is checked at the end.
    Known,
    /// Each read sees what is committed by then.
    Newest,
    /// All reads see one state.
    Pinned,
}

/// What one attempt may do.
struct Terms<'a> {
    /// Counters that are answered against their fresh values.
    decided: &'a HashSet<StateKey>,
    place: &'a Place,
    /// How long it waits for a slot.
    wait_until: Instant,
    reads: Reads,
}

/// How one attempt ended.
enum Attempt {
    Reply(HttpResponse),
    /// Run again; these counters are answered against their fresh values from now on.
    Again(Vec<StateKey>),
    /// It would have to run again, but it has asked something outside, which is never done twice.
    Never,
    /// It did not run: others did, for all the time that there was.
    NoSlot,
}

impl Attempt {
    fn again(tree: &Tree, bounds: Vec<StateKey>) -> Self {
        if tree.reached_out.load(Ordering::Relaxed) { Self::Never } else { Self::Again(bounds) }
    }
}

/// Runs the call. The permit proves that the caller may. What a canary fails at is done again by the active version: nothing
/// of it was kept, so nobody need notice that a new version is being tried.
pub async fn run(kernel: &Kernel, call: CellCall, _permit: RoutePermit) -> Result<HttpResponse, CallError> {
    let (name, tenant) = (&call.route.target.cell, call.context.actor.tenant());
    let inactive = || CallError::Inactive(name.to_string());
    let cell = call.live.catalog.serving(name, tenant).ok_or_else(inactive)?;
    let reply_key = call.reply_key();
    let _running: Option<RunningKey<'_>> = match &reply_key {
        Some(key) => Some(kernel.gateway.running.take(key.clone()).ok_or(CallError::KeyInUse)?),
        None => None,
    };
    let deadline = Instant::now() + cell.timeout() * ATTEMPT_TIMES;
    let mut answer = Box::pin(run_on(kernel, &call, &cell, reply_key.as_ref(), deadline)).await;
    if let Some(trial) = cell.canary_trial()
        && !call.reached_out.load(Ordering::Relaxed)
        && matches!(answer, Err(CallError::Failed(_) | CallError::Withheld(_) | CallError::BreakerOpen(_)))
    {
        let failed = !matches!(answer, Err(CallError::BreakerOpen(_)));
        let active = call.live.catalog.cell(name).ok_or_else(inactive)?;
        answer = Box::pin(run_on(kernel, &call, &active, reply_key.as_ref(), deadline)).await;
        if failed && answer.is_ok() {
            supervise::failed_alone(kernel, &call.context, &cell.version.reference, trial).await;
        }
    }
    match (answer, &reply_key) {
        // What was done and answered once is answered again, however the cell stands by now. Not when it is overloaded: that
        // is over soon, and asking the database for everyone who is refused would make it worse.
        (Err(CallError::BreakerOpen(_) | CallError::Quarantined), Some(key))
            if let Some(stored) = kernel.storage.reply(key).await.map_err(WorkError::from)? =>
        {
            call.replay(&stored)
        }
        (answer, _) => answer,
    }
}

/// Runs the call on a version, again on fresh reads while what it read keeps changing.
async fn run_on(
    kernel: &Kernel,
    call: &CellCall,
    cell: &ActiveCell,
    reply_key: Option<&ReplyKey>,
    deadline: Instant,
) -> Result<HttpResponse, CallError> {
    let (target, tenant) = (&call.route.target, call.context.actor.tenant());
    let mut pass = Some(cell.admit(tenant, kernel.clock.now()).map_err(|refused| refused_by(cell, refused))?);
    let place = cell.gate.enter(tenant, Instant::now() + cell.timeout()).await.map_err(|_| overloaded(cell))?;
    let mut decided = HashSet::new();
    // A read needs no turn: after the same attempts it reads one state of the database.
    let lane = kernel.gateway.lane(tenant, &target.cell).filter(|_| !call.method.is_safe());
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
        if Instant::now() >= deadline {
            break;
        }
        // Who kept meeting changes between its reads gets them all from one state of the database.
        let reads = match attempt {
            // A call that only reads would have to ask at its end what it did not ask before.
            0 if !call.method.is_safe() => Reads::Known,
            _ if attempt < ATTEMPTS_AT_ONCE => Reads::Newest,
            _ => Reads::Pinned,
        };
        // Nothing has happened before the first; later ones have a place already, and end with the call.
        let wait_until = if attempt == 0 { deadline.min(Instant::now() + cell.timeout()) } else { deadline };
        let terms = Terms { decided: &decided, place: &place, wait_until, reads };
        let attempted = Box::pin(call.attempt(kernel, cell, &mut pass, reply_key, terms));
        match attempted.await? {
            Attempt::Reply(response) => return Ok(response),
            Attempt::Again(bounds) => decided.extend(bounds),
            Attempt::NoSlot if attempt == 0 => return Err(overloaded(cell)),
            Attempt::NoSlot | Attempt::Never => break,
        }
    }
    metrics::counter!("cell_conflicts_total", "cell" => target.cell.to_string()).increment(1);
    let mut unit = Unit { audit: call.reveals(), ..Unit::default() };
    unit.audit.insert(0, call.entry(cell, AuditOutcome::Failure, "conflicted", "kept conflicting with other calls"));
    kernel.commit(unit).await?;
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
        pass: &mut Option<Pass>,
        reply_key: Option<&ReplyKey>,
        terms: Terms<'_>,
    ) -> Result<Attempt, CallError> {
        let as_of = kernel.storage.as_of();
        if let Some(key) = reply_key
            && let Some(stored) = kernel.storage.reply(key).await.map_err(WorkError::from)?
        {
            return self.replay(&stored).map(Attempt::Reply);
        }
        let Ok(slot) = cell.gate.run(terms.place, terms.wait_until).await else { return Ok(Attempt::NoSlot) };
        let tree = self.tree(kernel, terms.decided, terms.reads, as_of).await?;
        let limits = &cell.version.manifest.limits;
        let invocation = Invocation {
            version: Arc::clone(&cell.version),
            tree: Arc::clone(&tree),
            caller: None,
            depth: 1,
            fuel: limits.fuel,
            // Its own time, whatever it waited for before.
            deadline: Instant::now() + cell.timeout(),
        };
        let ended = invoke::handle(invocation, self.request()).await;
        // Who waits for the commit keeps nobody from running.
        drop(slot);
        kernel.gateway.meter.count(self.context.tenant(), self.context.now, &tree.spent());
        self.remember_reveals(&tree);
        self.reached_out.fetch_or(tree.reached_out.load(Ordering::Relaxed), Ordering::Relaxed);
        tree.work.unpin().await;
        cell.counts.count(ended.result.as_ref().err());
        match ended.result {
            Ok(response) if translate::commits(&response) => {
                let status = response.status;
                let attempt = self.commit(kernel, cell, &tree, response, reply_key).await?;
                if matches!(attempt, Attempt::Reply(_)) {
                    self.judge(kernel, cell, pass, verdict_of(status)).await;
                }
                Ok(attempt)
            }
            Ok(response) => {
                let verdict = verdict_of(response.status);
                let discarded = self.discard(kernel, cell, &tree, response).await;
                if matches!(discarded, Ok(Attempt::Reply(_)) | Err(CallError::Withheld(_))) {
                    self.judge(kernel, cell, pass, verdict).await;
                }
                discarded
            }
            Err(Outcome::StorageFailed(error)) => {
                let unit = Unit { audit: self.reveals(), ..Unit::default() };
                if !unit.changes_nothing() {
                    kernel.commit(unit).await?;
                }
                Err(error.into())
            }
            Err(outcome) => {
                // A failure that rests on reads which did not belong together is not the cell's.
                if !tree.work.still_valid().await? {
                    return Ok(Attempt::again(&tree, tree.work.promises()));
                }
                let report = cell.version.report(&self.context, &outcome);
                let mut unit = Unit::default();
                unit.writes.push(trap_write(kernel, &cell.version.reference.name, &report));
                unit.audit.push(self.entry_of(cell, &tree, AuditOutcome::Failure, outcome.label(), &outcome.message()));
                let nested = self.add_failures(kernel, &tree, &mut unit);
                kernel.commit(unit).await?;
                self.forget_reveals();
                self.judge_nested(kernel, nested).await;
                if outcome.is_strike() {
                    self.judge(kernel, cell, pass, Verdict::Strike).await;
                }
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

    async fn tree(
        &self,
        kernel: &Kernel,
        decided: &HashSet<StateKey>,
        reads: Reads,
        as_of: Option<Version>,
    ) -> Result<Arc<Tree>, CallError> {
        let work = Work::bounded(kernel.storage.clone(), decided.clone(), limit::STATE_READ_BYTES_MAX).begun(as_of);
        let work = match reads {
            Reads::Known => work.recalling(),
            Reads::Newest => work,
            Reads::Pinned => work.pinned().await?,
        };
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
            unit.audit.insert(0, self.entry_of(cell, tree, AuditOutcome::Success, "returned", &status));
        }
        unit.reply = reply_key.map(|key| self.stored_reply(key, &response));
        let nested = self.add_failures(kernel, tree, &mut unit);
        if unit.changes_nothing() {
            if !tree.work.still_valid().await? {
                return Ok(Attempt::again(tree, tree.work.promises()));
            }
            tree.keep_warm();
            self.judge_nested(kernel, nested).await;
            return Ok(Attempt::Reply(reply(response)));
        }
        Ok(match kernel.commit(unit).await? {
            Committed::Committed(_) => {
                tree.keep_warm();
                self.forget_reveals();
                self.judge_nested(kernel, nested).await;
                Attempt::Reply(reply(response))
            }
            Committed::Conflicted(Conflict::Bound(key)) => Attempt::again(tree, vec![key]),
            Committed::Conflicted(Conflict::Read | Conflict::Reply | Conflict::Event) => {
                Attempt::again(tree, Vec::new())
            }
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
            return Ok(Attempt::again(tree, tree.work.promises()));
        }
        let failed = response.status >= 500;
        let mut unit = Unit::default();
        if failed {
            let message = format!("answered {}", response.status);
            unit.audit.push(self.entry_of(cell, tree, AuditOutcome::Failure, "returned", &message));
        }
        let nested = self.add_failures(kernel, tree, &mut unit);
        if !unit.changes_nothing() {
            kernel.commit(unit).await?;
            self.forget_reveals();
        }
        self.judge_nested(kernel, nested).await;
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

    /// Counts how the call ended, once.
    async fn judge(&self, kernel: &Kernel, cell: &ActiveCell, pass: &mut Option<Pass>, verdict: Verdict) {
        if let Some(pass) = pass.take() {
            supervise::judge(kernel, &self.context, &cell.version.reference, pass, verdict).await;
        }
    }

    /// Counts the failures below, now that their reads are known to be valid.
    async fn judge_nested(&self, kernel: &Kernel, failures: Vec<NestedFailure>) {
        for NestedFailure { cell, pass, redone, .. } in failures {
            if let Some(pass) = pass {
                supervise::judge(kernel, &self.context, &cell, pass, Verdict::Strike).await;
            }
            if let Some(trial) = redone {
                supervise::failed_alone(kernel, &self.context, &cell, &trial).await;
            }
        }
    }
}

fn reply(response: Response) -> HttpResponse {
    translate::http_response(response.status, &response.headers, response.body)
}

fn verdict_of(status: u16) -> Verdict {
    if own_failure(status) { Verdict::Strike } else { Verdict::Fine }
}

fn refused_by(cell: &ActiveCell, refused: NotServing) -> CallError {
    cell.version.count_rejected();
    match refused {
        NotServing::BreakerOpen(refused) => CallError::BreakerOpen(refused),
        NotServing::Quarantined => CallError::Quarantined,
    }
}

/// Whether a cell refuses a call that comes now. Counts it, when it does.
#[must_use]
pub fn is_refused(cell: &ActiveCell, tenant: Option<TenantId>) -> bool {
    let refused = cell.gate.refuses(tenant);
    if refused {
        cell.version.count_rejected();
    }
    refused
}

fn overloaded(cell: &ActiveCell) -> CallError {
    cell.version.count_rejected();
    CallError::Overloaded
}
