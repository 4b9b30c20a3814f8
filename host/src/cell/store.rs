//! What one invocation carries: its limits, its deadline, its place in the tree of calls. Dropped with its instance, or made
//! new for the next call of a warm one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use wasmtime::ResourceLimiter;
use wasmtime::component::Instance;
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::catalog::Catalog;
use super::course::Course;
use super::fault::{Armed, FaultPlace, Strike};
use super::outbound::Outbound;
use super::outcome::{Stop, TrapReport};
use super::spent::{self, Spent};
use super::stdio::Printer;
use super::supervisor::{Pass, Trial};
use super::version::CellVersion;
use super::warm::Rested;
use crate::audit::receipt::Receipt;
use crate::audit::{AuditEntry, CellReference, Outcome, Party};
use crate::context::Context;
use crate::id::TenantId;
use crate::limit;
use crate::state::Space;
use crate::state::work::Work;

/// What all invocations of one request share. The whole tree runs on the versions that were active when it began.
#[derive(Debug)]
pub struct Tree {
    /// Who, when, which request.
    pub context: Context,
    /// Reads and staged changes.
    pub work: Arc<Work>,
    /// The pinned versions.
    pub catalog: Arc<Catalog>,
    /// Settings of cells.
    pub settings: Arc<HashMap<String, HashMap<String, String>>>,
    /// How long all of it has computed: the whole tree goes on in the background, never a callee alone.
    pub course: Arc<Course>,
    /// Host calls so far, of all cells.
    pub host_calls: AtomicU32,
    /// Staged bytes so far, of all cells; dropped ones count too.
    pub staged_bytes: AtomicUsize,
    /// Staged writes so far.
    pub staged_writes: AtomicUsize,
    /// Events so far.
    pub events: AtomicUsize,
    /// Audit notes so far.
    pub notes: AtomicUsize,
    /// Log lines so far.
    pub log_lines: AtomicU32,
    /// Printed lines so far, the dropped ones included.
    pub printed_lines: AtomicU32,
    /// Requests to the outside so far.
    pub outbound_requests: AtomicU32,
    /// Whether something outside was connected to: such a call is not run again.
    pub reached_out: AtomicBool,
    /// Failures below the outermost call.
    pub failures: Mutex<Vec<NestedFailure>>,
    /// What the invocations spent, in the order in which they ended.
    spent: Mutex<Vec<Spent>>,
    /// Secrets that were revealed.
    revealed: Mutex<Vec<(CellReference, String)>>,
    /// Instances that wait for the request's fate.
    parked: Mutex<Vec<(Arc<CellVersion>, Rested)>>,
}

impl Tree {
    /// A tree in which nothing has happened yet.
    #[must_use]
    pub fn new(
        context: Context,
        work: Arc<Work>,
        catalog: Arc<Catalog>,
        settings: Arc<HashMap<String, HashMap<String, String>>>,
    ) -> Self {
        Self {
            context,
            work,
            catalog,
            settings,
            course: Arc::new(Course::new(Instant::now())),
            host_calls: AtomicU32::new(0),
            staged_bytes: AtomicUsize::new(0),
            staged_writes: AtomicUsize::new(0),
            events: AtomicUsize::new(0),
            notes: AtomicUsize::new(0),
            log_lines: AtomicU32::new(0),
            printed_lines: AtomicU32::new(0),
            outbound_requests: AtomicU32::new(0),
            reached_out: AtomicBool::new(false),
            failures: Mutex::default(),
            spent: Mutex::default(),
            revealed: Mutex::default(),
            parked: Mutex::default(),
        }
    }

    /// A tree of no request, for what rests between two.
    #[must_use]
    pub fn of_nobody(&self) -> Self {
        let context = Context::operator(&self.context.clock);
        Self::new(context, Arc::new(self.work.of_nobody()), Arc::default(), Arc::default())
    }

    /// Remembers that a cell revealed a secret: audited once for each name, whatever becomes of the request.
    pub fn reveal(&self, cell: &CellReference, name: &str) {
        let mut revealed = self.revealed.lock().unwrap_or_else(PoisonError::into_inner);
        if revealed.iter().any(|(known, secret)| known == cell && secret == name) {
            return;
        }
        // An attempt that is run again leaves no entry; this line stays.
        let correlation_id = self.context.correlation;
        tracing::info!(cell = cell.name, secret = name, %correlation_id, "a secret is revealed");
        revealed.push((cell.clone(), name.to_owned()));
    }

    /// The audit entries of revealed secrets. A secret is the operator's, so they are in the operator's log and name the
    /// tenant that it was revealed for.
    pub fn reveals(&self) -> Vec<AuditEntry> {
        let revealed = std::mem::take(&mut *self.revealed.lock().unwrap_or_else(PoisonError::into_inner));
        let entry = |(cell, name): (CellReference, String)| {
            let target = Party::new("secret", format!("{}/{name}", cell.name));
            let mut entry = self.context.entry("secret.reveal", target, Outcome::Success);
            entry.details.insert("tenant_id".into(), entry.tenant_id.to_string().into());
            entry.tenant_id = TenantId::PLATFORM;
            entry.cell = Some(cell);
            entry
        };
        revealed.into_iter().map(entry).collect()
    }

    /// Remembers a failure below the outermost call: its caller may handle it, its report is kept all the same.
    pub fn failed(&self, failure: NestedFailure) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < limit::FAILURES_PER_REQUEST_MAX {
            failures.push(failure);
        }
    }
}

impl Tree {
    /// Remembers an instance that returned: it may have another call if the whole request is kept.
    pub fn park(&self, version: Arc<CellVersion>, rested: Rested) {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner).push((version, rested));
    }

    /// The request is kept, so its instances rest.
    pub fn keep_warm(&self) {
        let parked = std::mem::take(&mut *self.parked.lock().unwrap_or_else(PoisonError::into_inner));
        for (version, rested) in parked {
            self.catalog.warm.keep(&version, rested);
        }
    }

    /// Remembers what an invocation spent.
    pub fn spend(&self, spent: Spent) {
        self.spent().push(spent);
    }

    /// Adds the bodies to the invocation that ended last.
    pub fn carried(&self, bytes_in: u64, bytes_out: u64) {
        if let Some(spent) = self.spent().last_mut() {
            (spent.bytes_in, spent.bytes_out) = (bytes_in, bytes_out);
        }
    }

    /// What the invocations spent so far.
    pub fn spent(&self) -> MutexGuard<'_, Vec<Spent>> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The receipt of the request.
    #[must_use]
    pub fn receipt(&self) -> Option<Receipt> {
        spent::receipt(&self.spent())
    }

    /// Failures so far.
    #[must_use]
    pub fn failed_count(&self) -> usize {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The newest failure of a canary turned out to be its alone.
    pub fn redone(&self, trial: &Arc<Trial>) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = failures.last_mut() {
            failure.redone = Some(Arc::clone(trial));
        }
    }
}

/// A failure below the outermost call. It counts once everything that was read is known to belong together.
#[derive(Debug)]
pub struct NestedFailure {
    /// The cell that failed.
    pub cell: CellReference,
    /// What is kept of it; none when it answered with a 5xx of its own.
    pub report: Option<TrapReport>,
    /// Its admission, not judged yet; none when its caller left it too little to work with.
    pub pass: Option<Pass>,
    /// When a canary failed and the active version then did the same call: their trial.
    pub redone: Option<Arc<Trial>>,
}

/// What an invocation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To answer a request.
    Handle,
    /// To judge itself: without a tenant, so without state.
    Health,
}

/// The data of a wasmtime store.
pub struct CellStore {
    /// Made when the guest first asks: most calls ask nothing, and its sources of randomness are a good part of a fresh store.
    wasi: Option<Box<WasiCtx>>,
    http: WasiHttpCtx,
    table: ResourceTable,
    /// The request.
    pub tree: Arc<Tree>,
    /// The code that runs.
    pub version: Arc<CellVersion>,
    /// The cell that called this one.
    pub caller: Option<Arc<str>>,
    /// 1 for the outermost call.
    pub depth: u32,
    /// When the guest is stopped.
    pub deadline: Instant,
    /// The faults that strike this call.
    pub fault: Armed,
    /// The end that waits for the guest's next epoch tick: at its first instruction, or after a call of WASI too many.
    pub struck: Option<Stop>,
    /// What it is for.
    pub purpose: Purpose,
    /// Host calls of this invocation.
    pub host_calls: u32,
    /// The same by interface.
    pub by_interface: Vec<(&'static str, u32)>,
    /// The door to the outside.
    pub outbound: Outbound,
    /// The guest, once it is made.
    pub instance: Option<Instance>,
    /// Whether something was taken from the guest that it may still count on: such an instance has no other call.
    pub spent: bool,
    printer: Printer,
    wasi_calls: u32,
    memory_bytes: usize,
}

impl CellStore {
    /// The data of a new invocation.
    #[must_use]
    pub fn new(
        tree: Arc<Tree>,
        version: Arc<CellVersion>,
        caller: Option<Arc<str>>,
        depth: u32,
        deadline: Instant,
        fault: Armed,
        purpose: Purpose,
    ) -> Self {
        let printer = Printer::new(&version, &tree);
        Self {
            wasi: None,
            http: http_limits(),
            table: resources(),
            tree,
            version,
            caller,
            depth,
            deadline,
            fault,
            struck: None,
            purpose,
            host_calls: 0,
            by_interface: Vec::new(),
            outbound: Outbound::default(),
            instance: None,
            spent: false,
            printer,
            wasi_calls: 0,
            memory_bytes: 0,
        }
    }

    /// The same guest for another call: all that belongs to a call is new, all that the guest has is as it left it.
    pub fn begin_again(
        &mut self,
        tree: Arc<Tree>,
        caller: Option<Arc<str>>,
        depth: u32,
        deadline: Instant,
        fault: Armed,
    ) {
        self.printer.turn_to(&tree);
        self.tree = tree;
        self.caller = caller;
        self.depth = depth;
        self.deadline = deadline;
        self.fault = fault;
        self.struck = None;
        self.host_calls = 0;
        self.by_interface.clear();
        self.wasi_calls = 0;
    }

    /// Lets go of the request, for `nobody`; answers whether the guest may have another call.
    pub fn rest(&mut self, nobody: Arc<Tree>) -> bool {
        let deadline = self.deadline;
        self.begin_again(nobody, None, 0, deadline, Armed::default());
        self.outbound = Outbound::default();
        !self.spent && self.instance.is_some()
    }

    /// Bytes of linear memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Begins a host call: counts it, and lets an armed fault strike.
    pub async fn enter(&mut self, interface: &'static str) -> Result<(), Stop> {
        self.host_calls += 1;
        match self.by_interface.iter_mut().find(|(name, _)| *name == interface) {
            Some((_, count)) => *count += 1,
            None => self.by_interface.push((interface, 1)),
        }
        self.meet(FaultPlace::HostCall(self.host_calls)).await?;
        if self.tree.host_calls.fetch_add(1, Ordering::Relaxed) >= limit::HOST_CALLS_MAX {
            return Err(Stop::Limit("host_calls"));
        }
        Ok(())
    }

    /// Lets the faults of a place strike: waits, and then goes on or ends.
    pub async fn meet(&mut self, place: FaultPlace) -> Result<(), Stop> {
        let Strike { delay, end } = self.fault.at(place);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
            if Instant::now() >= self.deadline {
                return Err(Stop::Deadline);
            }
        }
        let memory = super::engine::bytes(self.version.manifest.limits.memory_mb);
        end.map_or(Ok(()), |(kind, id)| Err(Stop::injected(kind, id, memory)))
    }

    /// Counts a call of WASI, which no fault strikes. Its functions are linked by the engine's library and cannot refuse, so
    /// a guest that is over the limit ends at the next tick of the epoch, or when it returns before that.
    fn count_wasi(&mut self) {
        self.wasi_calls += 1;
        if self.tree.host_calls.fetch_add(1, Ordering::Relaxed) >= limit::HOST_CALLS_MAX {
            self.struck = Some(Stop::Limit("host_calls"));
        }
    }

    /// What the guest asked of the host, by interface; WASI is one.
    pub fn counted(&mut self) -> Vec<(&'static str, u32)> {
        let mut counted = std::mem::take(&mut self.by_interface);
        counted.extend((self.wasi_calls > 0).then_some(("wasi", self.wasi_calls)));
        counted
    }

    /// The view of a guest that calls `wasi:http/types`; the host's own is [`WasiHttpView::http`].
    pub fn guest_http(&mut self) -> WasiHttpCtxView<'_> {
        self.count_wasi();
        self.http()
    }

    /// Drops every WASI resource of the guest, which has no other call after that.
    pub fn release(&mut self) {
        self.table = resources();
        self.spent = true;
    }

    /// What the guest holds handles to.
    pub fn handles(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    /// The tenant of the call; none on a public route without a token.
    #[must_use]
    pub fn tenant(&self) -> Option<TenantId> {
        self.tree.context.actor.tenant().filter(|_| self.purpose == Purpose::Handle)
    }

    /// The cell's own space for the caller's tenant; none without a tenant.
    #[must_use]
    pub fn space(&self) -> Option<Space> {
        let tenant = self.tenant()?;
        Some(Space { tenant, name: Arc::clone(&self.version.name) })
    }

    /// Charges a staged write against the limits of the request.
    pub fn charge_write(&self, bytes: usize) -> Result<(), Stop> {
        if self.tree.staged_writes.fetch_add(1, Ordering::Relaxed) >= limit::STATE_WRITES_MAX {
            return Err(Stop::Limit("writes"));
        }
        if self.tree.staged_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > limit::STATE_WRITE_BYTES_MAX {
            return Err(Stop::Limit("write_bytes"));
        }
        Ok(())
    }
}

/// Headers that a guest holds are bounded like those of a reply.
fn http_limits() -> WasiHttpCtx {
    let mut http = WasiHttpCtx::new();
    http.set_field_size_limit(limit::WASI_FIELD_BYTES_MAX);
    http
}

/// A WASI context that grants nothing: no file, no socket, no environment.
fn wasi_of(printer: &Printer) -> WasiCtx {
    WasiCtx::builder()
        .max_random_size(limit::WASI_RANDOM_BYTES_MAX)
        .stdout(printer.clone())
        .stderr(printer.of_errors())
        .build()
}

/// A table that cannot grow without end.
fn resources() -> ResourceTable {
    let mut table = ResourceTable::new();
    table.set_max_capacity(limit::WASI_RESOURCES_MAX);
    table
}

impl WasiView for CellStore {
    // Once for each call of the guest: the linked functions ask for it, nothing else does.
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.count_wasi();
        let Self { wasi, printer, table, .. } = self;
        WasiCtxView { ctx: wasi.get_or_insert_with(|| Box::new(wasi_of(printer))), table }
    }
}

impl WasiHttpView for CellStore {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.outbound, table: &mut self.table, ctx: &mut self.http }
    }
}

// A refusal would reach a Rust guest as a failed allocation and end as `unreachable`, indistinguishable from its own panic;
// so a limit is an error of its own type.
impl ResourceLimiter for CellStore {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let most = super::engine::bytes(self.version.manifest.limits.memory_mb);
        let total = self.memory_bytes.saturating_sub(current).saturating_add(desired);
        if total > most {
            return Err(Stop::Memory(most).into());
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > limit::TABLE_ELEMENTS_MAX { Err(Stop::Limit("table").into()) } else { Ok(true) }
    }
}
