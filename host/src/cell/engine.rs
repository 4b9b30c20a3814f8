//! The wasmtime engine of this process and its settings. There is one, because its pool reserves terabytes of address space
//! (not memory), and one operating-system thread that ticks its epoch.

use std::sync::LazyLock;
use std::time::Duration;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::limit;

/// Length of an epoch tick: how late a deadline in guest code may be noticed, and the end of a slice.
pub const TICK: Duration = Duration::from_millis(1);
/// Linear memory that a pool slot keeps mapped between calls: faulting pages in costs more than clearing them, for the 12 MB
/// of an interpreter, too. All of what the guest has, up to this, is cleared: a scan for the pages that were written misses
/// those that are swapped out (wasmtime #14357).
const KEEP_RESIDENT_BYTES: usize = 16 * 1024 * 1024;
/// Instances alive at once, for all cells together.
const INSTANCES_MAX: u32 = 2 * limit::CONCURRENCY_MAX;

static ENGINE: LazyLock<Result<Engine, String>> = LazyLock::new(|| start().map_err(|error| format!("{error:#}")));

/// The serving engine, or why this machine cannot have one.
pub fn engine() -> Result<&'static Engine, String> {
    ENGINE.as_ref().map_err(Clone::clone)
}

fn start() -> wasmtime::Result<Engine> {
    let engine = Engine::new(&settings(INSTANCES_MAX))?;
    let ticking = engine.weak();
    std::thread::Builder::new().name("epoch".into()).spawn(move || {
        while let Some(engine) = ticking.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    })?;
    Ok(engine)
}

/// Compiles a component to machine code on an engine of its own: wasmtime 48 keeps what it compiled for an engine's whole
/// life (#13912), so the serving engine only ever loads.
pub fn compile(wasm: &[u8], threads: Threads) -> wasmtime::Result<Vec<u8>> {
    // It runs nothing: its pool has one of each.
    let mut config = settings(1);
    config.parallel_compilation(threads == Threads::All);
    Engine::new(&config)?.precompile_component(wasm)
}

/// How much of the machine a compilation may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// The calling thread: beside a kernel that serves.
    One,
    /// As many as there are cores: on an author's machine.
    All,
}

fn settings(instances_max: u32) -> Config {
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(instances_max)
        .total_core_instances(instances_max * 4)
        .total_memories(instances_max)
        .total_tables(instances_max * 4)
        .total_stacks(instances_max)
        .max_memories_per_component(1)
        .max_core_instances_per_component(32)
        .max_tables_per_component(8)
        .table_elements(limit::TABLE_ELEMENTS_MAX)
        .max_memory_size(bytes(limit::MEMORY_MB_MAX))
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(16 * 1024);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .concurrency_support(false)
        .consume_fuel(true)
        .epoch_interruption(true)
        .memory_init_cow(true)
        // For debuggers of machine code and for offsets in backtraces, which ours do not have: an eighth of the memory that a
        // cell takes while it rests. The functions of a backtrace have their names without.
        .native_unwind_info(false)
        .generate_address_map(false)
        .max_wasm_stack(limit::GUEST_STACK_BYTES_MAX)
        .async_stack_size(2 * limit::GUEST_STACK_BYTES_MAX);
    config
}

/// Mebibytes as bytes.
#[must_use]
pub fn bytes(mebibytes: u64) -> usize {
    usize::try_from(mebibytes.saturating_mul(1024 * 1024)).unwrap_or(usize::MAX)
}
