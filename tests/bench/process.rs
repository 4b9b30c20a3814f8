//! What one call of the computing cell costs within the process, without HTTP: from the request as the cell sees it to its
//! reply, with fuel, deadline and limits, on a fresh and on a warm instance. Prints microseconds of one thread.
//!
//! `cargo build --release -p suite --example process && target/release/examples/process`, after `tests/bench/run` has built
//! the guests.
#![allow(clippy::print_stdout, reason = "it prints what it measured")]

mod computing;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aibos::auth::actor::Actor;
use aibos::cell::binding::Request;
use aibos::cell::invoke::{self, Invocation};
use aibos::cell::store::Tree;
use aibos::context::Context;
use aibos::id::{CorrelationId, SessionId, TenantId, UserId};
use aibos::state::work::Work;
use suite::database::Backend;
use suite::kernel::TestKernel;

/// Calls in a round.
const CALLS: u32 = 4000;
const ROUNDS: usize = 9;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut test = Box::pin(TestKernel::start(Backend::Sqlite)).await;
    computing::install(&test.kernel).await;
    for (name, cell) in [("fresh", "bench-cell"), ("warm", "bench-cell-warm")] {
        round(&test, cell).await;
        for _ in 0..ROUNDS {
            println!("{name} {:.2}", round(&test, cell).await);
        }
    }
    test.stop().await;
}

/// Microseconds for a call.
async fn round(test: &TestKernel, name: &str) -> f64 {
    let live = test.kernel.live.load_full();
    let cell = live.catalog.cell(name).expect("it is active");
    let context = context(test);
    let request = Request {
        method: "POST".to_owned(),
        path: "/bench/cell".to_owned(),
        query: None,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: br#"{"amount":1999,"currency":"EUR","destination":"merchant-1"}"#.to_vec(),
    };
    let begun = Instant::now();
    for _ in 0..CALLS {
        let work = Work::bounded(test.kernel.storage.clone(), HashSet::new(), 1 << 20);
        let (catalog, settings) = (Arc::clone(&live.catalog), Arc::default());
        let tree = Arc::new(Tree::new(context.clone(), Arc::new(work), catalog, settings));
        let invocation = Invocation {
            version: Arc::clone(&cell.version),
            tree: Arc::clone(&tree),
            caller: None,
            depth: 1,
            fuel: cell.version.manifest.limits.fuel,
            deadline: Instant::now() + Duration::from_secs(1),
        };
        let ended = invoke::handle(invocation, request.clone()).await;
        assert_eq!(ended.result.expect("a quote").status, 200);
        tree.keep_warm();
    }
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS)
}

fn context(test: &TestKernel) -> Context {
    let clock = &test.clock;
    Context {
        actor: Actor::User { user: UserId::new(clock), tenant: TenantId::new(clock), session: SessionId::new(clock) },
        correlation: CorrelationId::new(clock),
        traceparent: None,
        now: clock.now(),
        clock: clock.clone(),
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
    }
}
