//! One route for each limit: it is run into until the host stops the call. None of them may be optimised away, hence
//! the black boxes.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aibos_cell::{Problem, Reply, Request, Router, events, json, log, state};
use serde::Deserialize;

const MEBIBYTE: usize = 1 << 20;

/// Adds the routes of this file.
pub(crate) fn routes(router: Router) -> Router {
    router
        .get("/probe/memory", count_in_memory)
        .post("/probe/loop", spin)
        .post("/probe/eat", eat)
        .post("/probe/recurse", recurse)
        .post("/probe/output", output)
        .post("/probe/flood", flood)
        .post("/probe/panic", fail_an_assertion)
        .post("/probe/divide", divide)
        .post("/probe/sleep", sleep)
        .post("/probe/block", block)
        .post("/probe/publish-many/{n}", publish_many)
        .post("/probe/log/{n}", write_log)
}

/// Answers how many calls this memory has seen: always one, unless the manifest asks for warm instances.
fn count_in_memory(_: &Request) -> Result<Reply, Problem> {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let before = CALLS.fetch_add(1, Ordering::Relaxed);
    Reply::json(200, &json!({ "calls": before.saturating_add(1) }))
}

/// Runs for ever: fuel or the deadline ends it.
fn spin(_: &Request) -> Result<Reply, Problem> {
    let mut turns: u64 = 0;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Takes memory until there is no more, by the mebibyte; filling it would use up the fuel first.
fn eat(_: &Request) -> Result<Reply, Problem> {
    let mut eaten = Vec::new();
    loop {
        let mut block: Vec<u8> = Vec::with_capacity(MEBIBYTE);
        block.push(1);
        eaten.push(black_box(block));
    }
}

/// Calls itself until the stack ends.
fn recurse(_: &Request) -> Result<Reply, Problem> {
    Reply::json(200, &json!({ "sum": descend(0) }))
}

/// The rotation after the call keeps it from becoming a loop. Nothing in it has an address, so it uses the engine's
/// stack and not the one in linear memory: what ends it is the host's limit.
#[inline(never)]
fn descend(depth: u64) -> u64 {
    static DEEPEST: AtomicU64 = AtomicU64::new(0);
    DEEPEST.store(depth, Ordering::Relaxed);
    if depth == u64::MAX {
        return depth;
    }
    descend(depth.wrapping_add(1)).rotate_left(1).wrapping_sub(depth)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Size {
    kb: usize,
}

/// Answers as many kilobytes as the body asks for.
fn output(request: &Request) -> Result<Reply, Problem> {
    let Size { kb } = request.json()?;
    Ok(Reply::bytes(200, "application/octet-stream", vec![b'x'; kb.saturating_mul(1024)]))
}

/// Asks the host for the same key for ever.
fn flood(_: &Request) -> Result<Reply, Problem> {
    loop {
        black_box(state::read("flood")?);
    }
}

/// Panics, which a guest does by the instruction `unreachable`.
#[expect(clippy::panic, reason = "the panic is what is tested")]
fn fail_an_assertion(_: &Request) -> Result<Reply, Problem> {
    panic!("the probe panics as asked")
}

/// Divides by zero with the machine's own instruction, after which the fuel that was used is not known.
fn divide(_: &Request) -> Result<Reply, Problem> {
    let divisor = black_box(0);
    #[expect(unsafe_code, reason = "Rust's own check would panic before the engine could trap")]
    // SAFETY: not sound on purpose. The black box hides the zero from the optimiser, so that the wasm division runs
    // with it and traps; no code after it is reached.
    let quotient = unsafe {
        if divisor == 0 {
            std::hint::unreachable_unchecked();
        }
        black_box(1_u32) / divisor
    };
    Reply::json(200, &json!({ "quotient": quotient }))
}

/// Keeps busy for `?ms=` milliseconds of the WASI clock.
fn sleep(request: &Request) -> Result<Reply, Problem> {
    let wanted = request.query_integer("ms")?.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0);
    let began = Instant::now();
    // Reading the clock is a call of the host; their number must not be what ends this.
    while began.elapsed() < Duration::from_millis(wanted) {
        for turn in 0..100_000_u64 {
            black_box(u64::MAX / black_box(turn + 1));
        }
    }
    Reply::json(200, &json!({ "slept_ms": wanted }))
}

/// Waits for `?ms=` milliseconds in a call of the host: no code of the guest runs meanwhile.
fn block(request: &Request) -> Result<Reply, Problem> {
    let wanted = request.query_integer("ms")?.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0);
    std::thread::sleep(Duration::from_millis(wanted));
    Reply::json(200, &json!({ "waited_ms": wanted }))
}

/// Publishes so many events, or as many as it may.
fn publish_many(request: &Request) -> Result<Reply, Problem> {
    let wanted: u32 =
        request.parameter("n")?.parse().map_err(|_| Problem::invalid("/path/n", "must be a number of events"))?;
    let published = (0..wanted).take_while(|_| events::publish("probe.many", Some("many"), &json!({})).is_ok()).count();
    Reply::json(200, &json!({ "published": published }))
}

/// Writes so many log lines.
fn write_log(request: &Request) -> Result<Reply, Problem> {
    let lines: u32 =
        request.parameter("n")?.parse().map_err(|_| Problem::invalid("/path/n", "must be a number of lines"))?;
    for line in 1..=lines {
        log::info(&format!("line {line} of {lines}"));
    }
    Reply::json(200, &json!({ "lines": lines }))
}
