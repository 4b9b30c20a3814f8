//! The composition root: builds every part from the configuration, and is the one door through which anything is committed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::task::JoinHandle;

use crate::audit::seal::Sealer;
use crate::audit::storm::{Ending, Storm};
use crate::audit::{self, AuditEntry, Outcome};
use crate::auth::{Identity, IdentityError, Settings, checkpoint_key};
use crate::cell::compiled::{Compiler, Counts};
use crate::cell::given::Vault;
use crate::cell::registry::{self, Registry};
use crate::clock::Clock;
use crate::config::{Config, Migrations};
use crate::gateway::resolve::Live;
use crate::gateway::{Gateway, meter};
use crate::id::{AuditId, TenantId};
use crate::limit;
use crate::rbac::Directory;
use crate::rbac::tenant::bootstrapped;
use crate::state::KERNEL_SPACE;
use crate::state::committer::{CommitError, Committer};
use crate::state::unit::{Receipt, Unit, Verdict};
use crate::state::work::Work;
use crate::storage::{Storage, StorageError};

/// All parts of a running kernel.
#[derive(Debug)]
pub struct Kernel {
    /// Settings.
    pub config: Config,
    /// The source of time.
    pub clock: Clock,
    /// The database, for reads. Writes go through [`Kernel::commit`].
    pub storage: Storage,
    /// Tokens and passwords.
    pub identity: Identity,
    /// What users may do.
    pub directory: Directory,
    /// What serves now.
    pub live: ArcSwap<Live>,
    /// Loaded cells.
    pub registry: Registry,
    /// Running requests.
    pub gateway: Gateway,
    /// Extends and signs the tree over the audit log.
    pub sealer: Arc<Sealer>,
    storm: Storm,
    /// Held while storms or usage are written: a stop waits for it, and so does who reads usage.
    writing: tokio::sync::Mutex<()>,
    /// Held while somebody verifies the audit log: each verification reads all of it.
    pub verifying: tokio::sync::Mutex<()>,
    /// Pages of exports of the audit log that are read at once.
    pub exporting: Arc<tokio::sync::Semaphore>,
    system: OnceLock<TenantId>,
    committer: ArcSwapOption<Committer>,
    committing: Mutex<Option<JoinHandle<()>>>,
    housekeeping: Mutex<Option<JoinHandle<()>>>,
}

/// Time between two looks at what waits to be written in the background.
const HOUSEKEEPING_PAUSE: Duration = Duration::from_secs(1);

/// Time for each part of a stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between two sweeps while there is more to remove.
const SWEEP_PAUSE: Duration = Duration::from_millis(20);

/// Where compiled code is kept. It can be removed at any time; the next start takes longer.
#[must_use]
pub fn compiled_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("cache").join("compiled")
}

/// Why a kernel did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The sandbox.
    #[error("the sandbox cannot start: {0}")]
    Engine(String),
    /// Tokens and passwords.
    #[error("identity cannot start")]
    Identity(#[from] IdentityError),
}

impl Kernel {
    /// Builds a kernel on a migrated database and loads its active cells.
    pub async fn start(config: Config, clock: Clock) -> Result<Arc<Self>, StartError> {
        // Boxed because everything that a start waits for is part of its future.
        Box::pin(Self::build(config, clock)).await
    }

    async fn build(config: Config, clock: Clock) -> Result<Arc<Self>, StartError> {
        crate::cell::engine::engine().map_err(StartError::Engine)?;
        let storage = Storage::open(&config.database_url).await?;
        match config.migrations {
            Migrations::Apply => _ = storage.migrate_up(clock.now()).await?,
            Migrations::Leave => storage.check_schema().await?,
        }
        let (committer, committing) = Committer::start_with(storage.clone(), clock.clone(), config.commit_batch_max);
        let settings = Settings {
            master_key: config.master_key.clone(),
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
        };
        let compiler = Compiler::with_cache(compiled_dir(&config.data_dir), &config.master_key.derive("compiled-code"))
            .apart(config.compiler.clone());
        let master_key = config.master_key.clone();
        let vault = Vault::new(move |purpose, sealed| master_key.open(purpose, sealed).ok());
        let signer = checkpoint_key::load_or_create(&storage, &committer, &clock, &config.master_key, &config.issuer);
        let signer = Box::pin(signer).await;
        let kernel = Arc::new(Self {
            sealer: Arc::new(Sealer::new(signer.map_err(IdentityError::from)?, &clock)),
            gateway: Gateway::new(&clock),
            identity: Identity::start(&storage, &committer, &clock, settings).await?,
            directory: Directory::default(),
            live: ArcSwap::default(),
            registry: Registry::new(config.cell_keys.clone(), compiler, vault, config.outside.clone()),
            storm: Storm::default(),
            writing: tokio::sync::Mutex::default(),
            verifying: tokio::sync::Mutex::default(),
            exporting: Arc::new(tokio::sync::Semaphore::new(limit::AUDIT_EXPORTS_MAX)),
            system: OnceLock::new(),
            committer: ArcSwapOption::from_pointee(committer),
            committing: Mutex::new(Some(committing)),
            housekeeping: Mutex::default(),
            config,
            clock,
            storage,
        });
        kernel.refresh().await?;
        let Counts { hits, misses, rejected } = kernel.registry.compiler.counts();
        tracing::info!(cached = hits, compiled = misses + rejected, "cells are loaded");
        let keeping = keep_house(Arc::downgrade(&kernel));
        #[expect(clippy::disallowed_methods, reason = "ended when the kernel stops, and by itself when it is dropped")]
        let task = tokio::spawn(keeping);
        *kernel.housekeeping.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        Ok(kernel)
    }

    /// Commits a unit of work and lets every part that keeps a copy of what changed see it, before the reply.
    pub async fn commit(&self, mut unit: Unit) -> Result<Verdict, CommitError> {
        self.file_under_system(&mut unit).await;
        if self.hold_back(&mut unit) && unit.changes_nothing() {
            return Ok(Verdict::Committed(Receipt::default()));
        }
        self.commit_whole(unit).await
    }

    /// Takes what belongs to a storm out of a unit that holds nothing but failures, denials and readings of the log; answers whether it did. A
    /// trap report goes with its entry: a storm of traps writes nothing for each request.
    fn hold_back(&self, unit: &mut Unit) -> bool {
        let reading = |entry: &AuditEntry| entry.action == audit::READ && entry.target.id != audit::EXPORT;
        let countable = |entry: &AuditEntry| entry.outcome != Outcome::Success || reading(entry);
        let failed = !unit.audit.is_empty() && unit.audit.iter().all(countable);
        // What could conflict would be counted once for each attempt.
        if !failed || !unit.reads.is_empty() {
            return false;
        }
        let entries = unit.audit.len();
        unit.audit.retain(|entry| self.storm.admits(entry, &self.clock));
        if unit.audit.is_empty() {
            unit.writes.retain(|write| !registry::is_trap(write.key()));
        }
        unit.audit.len() < entries
    }

    /// Writes the counts of storms whose window has closed, or of all.
    pub async fn write_storms(&self, ending: Ending) {
        let _alone = self.writing.lock().await;
        let due = self.storm.due(ending, &self.clock);
        for entries in due.chunks(limit::COMMIT_BATCH_MAX) {
            let unit = Unit { audit: entries.to_vec(), ..Unit::default() };
            let mut again = entries.to_vec();
            match self.commit_whole(unit).await {
                Ok(_) => continue,
                // They may have been written. A second count is better than none, but under another id: the log takes no
                // id twice.
                Err(CommitError::Unknown) => again.iter_mut().for_each(|entry| entry.id = AuditId::new(&self.clock)),
                Err(_) => {}
            }
            self.storm.put_back(again);
        }
    }

    /// Writes what was used since the last time.
    pub async fn write_usage(&self) {
        let _alone = self.writing.lock().await;
        let counted = self.gateway.meter.take();
        for some in counted.chunks(limit::USAGE_ACCOUNTS_PER_UNIT) {
            let writes = some.iter().flat_map(|(account, used)| meter::writes(account, *used)).collect();
            match self.commit_whole(Unit { writes, ..Unit::default() }).await {
                Ok(_) => {}
                // It may have been written: better a second of usage too little than one too much.
                Err(CommitError::Unknown) => tracing::warn!("a second of usage may be lost"),
                Err(_) => self.gateway.meter.put_back(some),
            }
        }
    }

    /// Forgets stored replies whose time is over.
    pub async fn sweep(&self) {
        for _ in 0..limit::SWEEPS_PER_SECOND_MAX {
            match self.storage.sweep_replies(self.clock.now()).await {
                Ok(swept) if i64::try_from(swept).is_ok_and(|swept| swept >= limit::SWEEP_ROWS_MAX) => {
                    // Commits that waited meanwhile go first.
                    tokio::time::sleep(SWEEP_PAUSE).await;
                }
                Ok(_) => return,
                Err(cause) => {
                    tracing::warn!(%cause, "expired replies stay for now");
                    return;
                }
            }
        }
    }

    /// Takes what was committed into the tree over the audit log and signs a checkpoint of it.
    pub async fn seal_audit(&self) {
        let _alone = self.writing.lock().await;
        if let Err(error) = self.sealer.seal(&self.storage, &self.clock).await {
            tracing::error!(error = &error as &dyn std::error::Error, "no checkpoint of the audit log can be signed");
        }
    }

    async fn commit_whole(&self, unit: Unit) -> Result<Verdict, CommitError> {
        let kernel_writes = || unit.writes.iter().filter(|write| &*write.key().space.name == KERNEL_SPACE);
        let concerns_access = kernel_writes().any(Directory::concerns);
        let concerns_cells = kernel_writes().any(|write| registry::concerns(write.key()));
        let committer = self.committer.load_full().ok_or(CommitError::Unavailable)?;
        let verdict = committer.commit(unit).await;
        // Also when the outcome is unknown: it may have happened.
        if !matches!(verdict, Ok(Verdict::Conflicted(_))) {
            if concerns_access {
                self.directory.invalidate();
            }
            if concerns_cells {
                self.refresh_until_done().await;
            }
        }
        verdict
    }

    /// What happened without a tenant is the operator's to read: its audit entries go to the system tenant, once it exists.
    async fn file_under_system(&self, unit: &mut Unit) {
        let homeless = |entry: &&mut AuditEntry| entry.tenant_id == TenantId::PLATFORM;
        if unit.audit.iter_mut().find(homeless).is_none() {
            return;
        }
        if self.system.get().is_none() {
            match bootstrapped(&Work::new(self.storage.clone())).await {
                Ok(Some(made)) => _ = self.system.set(made.tenant_id),
                Ok(None) => {}
                Err(cause) => tracing::warn!(%cause, "the system tenant cannot be looked up"),
            }
        }
        if let Some(system) = self.system.get() {
            unit.audit.iter_mut().filter(homeless).for_each(|entry| entry.tenant_id = *system);
        }
    }

    /// A commit that changed what serves must be seen before its reply; a database that hiccups is asked again.
    async fn refresh_until_done(&self) {
        for pause_ms in [50, 250, 1000] {
            match self.refresh().await {
                Ok(()) => return,
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "the new snapshot cannot be built yet");
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                }
            }
        }
    }

    /// Writes an audit entry by itself: of a denial or a failure, durable before its reply.
    pub async fn record(&self, entry: AuditEntry) -> Result<(), CommitError> {
        self.commit(Unit { audit: vec![entry], ..Unit::default() }).await.map(|_| ())
    }

    /// Units of work that wait to be committed, against the limit.
    #[must_use]
    pub fn backlog(&self) -> (usize, usize) {
        self.committer.load().as_ref().map_or((0, 1), |committer| committer.backlog())
    }

    /// The cell whose manifest publishes events of this type.
    #[must_use]
    pub fn reserved_by(&self, kind: &str) -> Option<String> {
        self.live.load().catalog.publisher(kind).map(str::to_owned)
    }

    /// The permissions that active cells declare and operators' routes ask for.
    #[must_use]
    pub fn declared_permissions(&self) -> Vec<String> {
        self.live.load().catalog.permissions()
    }

    /// Builds the snapshot anew and swaps it in. Requests in flight go on with the one that they pinned.
    pub async fn refresh(&self) -> Result<(), StorageError> {
        let _one_at_a_time = self.registry.refreshing.lock().await;
        let catalog = self.registry.snapshot(&self.storage, self.config.chaos).await?;
        self.live.store(Arc::new(Live::new(catalog)));
        Ok(())
    }

    /// Commits what waits, then closes the database.
    pub async fn stop(&self) {
        let keeping = self.housekeeping.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = keeping {
            let idle = tokio::time::timeout(STOP_TIMEOUT, self.writing.lock()).await;
            if idle.is_err() {
                tracing::error!("the database is silent: what is written in the background is given up");
            }
            task.abort();
        }
        self.write_storms(Ending::All).await;
        self.write_usage().await;
        self.registry.warm.renew();
        drop(self.committer.swap(None));
        let committing = self.committing.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = committing
            && tokio::time::timeout(STOP_TIMEOUT, task).await.is_err()
        {
            tracing::error!("some commits were not finished in time");
        }
        if tokio::time::timeout(STOP_TIMEOUT, self.seal_audit()).await.is_err() {
            tracing::warn!("the last entries of the audit log get their checkpoint at the next start");
        }
        // A connection to a database that says nothing is closed by the end of the process.
        if tokio::time::timeout(STOP_TIMEOUT, self.storage.close()).await.is_err() {
            tracing::error!("the database does not say good-bye");
        }
    }
}

/// Does what no request waits for, until the kernel is gone.
async fn keep_house(kernel: Weak<Kernel>) {
    loop {
        tokio::time::sleep(HOUSEKEEPING_PAUSE).await;
        let Some(kernel) = kernel.upgrade() else { return };
        kernel.write_storms(Ending::Closed).await;
        kernel.write_usage().await;
        kernel.sweep().await;
        kernel.registry.warm.sweep(Instant::now());
        kernel.seal_audit().await;
    }
}
