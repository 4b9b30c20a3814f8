//! How long a kernel takes to start with a thousand cells whose code is in the cache, and how much memory it has then.
//! Each cell is a component of its own digest; only their compiled code is the same, so that preparing takes seconds.
//!
//! `cargo build --workspace --exclude probe --example start && target/debug/examples/start [CELLS]`, after the guests were
//! built. The libraries are optimized in this profile as in a release.
#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use std::time::Instant;

use aibos::cell::catalog::CellRecord;
use aibos::cell::compiled::{Code, CompiledCache};
use aibos::cell::engine::Threads;
use aibos::cell::registry::{cell_key, version_key};
use aibos::cell::version::{VersionRecord, digest_of};
use aibos::clock::Clock;
use aibos::kernel::compiled_dir;
use aibos::limit;
use aibos::state::committer::Committer;
use aibos::state::work::Work;
use suite::cell::Guest;
use suite::database::Backend;
use suite::kernel::TestKernel;

#[tokio::main]
async fn main() {
    let cells = std::env::args().nth(1).map_or(1000, |text| text.parse().expect("a number of cells"));
    let mut test = Box::pin(TestKernel::start(Backend::Sqlite)).await;
    let guest = Guest::finance("processor");
    let code = Code::compile(&guest.component, Threads::All).expect("the processor compiles");
    let config = test.config();
    let secret = config.master_key.derive("compiled-code");
    let directory = compiled_dir(&config.data_dir);
    let cache = CompiledCache::open(directory.clone(), &secret, limit::COMPILED_CACHE_BYTES_MAX).expect("a cache");
    let work = Work::new(test.kernel.storage.clone());
    for number in 0..cells {
        let mut component = guest.component.clone();
        // A custom section at the end: the same code, another digest.
        component.extend([0, 6, 1, b'n']);
        component.extend(u32::to_le_bytes(number));
        let digest = digest_of(&component);
        cache.keep(&digest, &code);
        store(&work, &test.clock, &format!("cell-{number:04}"), &guest, digest);
    }
    // Past the kernel that runs, which would load them all.
    let (committer, _committing) = Committer::start(test.kernel.storage.clone(), test.clock.clone());
    committer.commit(work.finish()).await.expect("the records are stored");
    let bytes: u64 = std::fs::read_dir(&directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").metadata().expect("its size").len())
        .sum();
    test.stop().await;
    let before = resident_mb();
    let started = Instant::now();
    test.start_again(|_| ()).await;
    let seconds = started.elapsed().as_secs_f64();
    let counts = test.kernel.registry.compiler.counts();
    let active = test.kernel.live.load().catalog.cells.len();
    println!(
        "{active} cells from {} MiB of cache in {seconds:.2} s ({counts:?}); resident {before} MiB before, {} MiB after",
        bytes / 1024 / 1024,
        resident_mb()
    );
}

/// Stores an active cell, as an upload and an activation would; without its component, which nobody reads when its code is
/// in the cache.
fn store(work: &Work, clock: &Clock, name: &str, guest: &Guest, digest: String) {
    let manifest = guest.manifest.replace("name = \"processor\"", &format!("name = \"{name}\""));
    let (version, now) = ("1.0.0".to_owned(), clock.now());
    let record = VersionRecord {
        name: name.to_owned(),
        version: version.clone(),
        digest,
        manifest,
        signature: None,
        bytes: guest.component.len(),
        created_at: now,
    };
    work.save(version_key(name, &version), &record).expect("a record");
    let cell = CellRecord {
        name: name.to_owned(),
        active: Some(version),
        formats: vec![1],
        history: Vec::new(),
        canary: None,
        quarantine: None,
        restarts: 0,
        generation: 0,
        created_at: now,
        activated_at: Some(now),
    };
    work.save(cell_key(name), &cell).expect("a record");
}

/// Resident memory of this process.
fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) / 1024
}
