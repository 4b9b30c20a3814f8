//! Runs one call of a cell: a fresh instance or a warm one, its fuel, its deadline, and the judgement of how it ended.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::BoxFuture;
use wasmtime::component::{Instance, TypedFunc};
use wasmtime::{Store, UpdateDeadline};

use super::binding::aibos::cell::health::Status;
use super::binding::{Effect, Request, Response};
use super::course::{self, Course};
use super::fault::FaultPlace;
use super::outcome::{Outcome, Stop};
use super::proxy;
use super::spent::Spent;
use super::store::{CellStore, Purpose, Tree};
use super::translate;
use super::version::{CellVersion, World};
use super::warm::{Rested, Warm};
use crate::limit;

/// `handler.handle`.
type Handle<'a> = TypedFunc<(&'a Request,), (Response,)>;

/// Everything that one call needs.
#[derive(Debug)]
pub struct Invocation {
    /// The code.
    pub version: Arc<CellVersion>,
    /// The request's tree.
    pub tree: Arc<Tree>,
    /// The cell that calls.
    pub caller: Option<Arc<str>>,
    /// 1 for the outermost call.
    pub depth: u32,
    /// Fuel that it may use.
    pub fuel: u64,
    /// When it is stopped.
    pub deadline: Instant,
}

/// How a call ended and what it cost.
#[derive(Debug)]
pub struct Ended<T> {
    /// What came of it.
    pub result: Result<T, Outcome>,
    /// Fuel that the engine counted. After a trap it is a lower bound: what was used since the engine last wrote the counter
    /// back is lost (wasmtime #13802).
    pub fuel_used: u64,
    /// Fuel to be charged: what was used, or the whole grant when the call did not return.
    pub fuel_charged: u64,
    /// The instance, where it may have another call.
    rested: Option<Rested>,
}

/// Calls the cell's handler, of whichever world.
pub async fn handle(invocation: Invocation, request: Request) -> Ended<Response> {
    let output_bytes_max = usize::try_from(invocation.version.manifest.limits.output_kb * 1024).unwrap_or(usize::MAX);
    let (tree, bytes_in) = (Arc::clone(&invocation.tree), request.body.len() as u64);
    let version = Arc::clone(&invocation.version);
    let mut ended = run(invocation, Purpose::Handle, failure, move |store, version| {
        Box::pin(async move {
            let instance = match store.data().instance {
                Some(instance) => instance,
                None => instantiate(store, &version).await?,
            };
            strike(store).await?;
            match version.world {
                World::Typed { handle, .. } => {
                    let handle: Handle<'_> = instance.get_typed_func(&mut *store, handle)?;
                    let (response,) = handle.call_async(&mut *store, (&request,)).await?;
                    Ok(response)
                }
                World::Proxy { handle } => proxy::answer(store, instance, handle, request, output_bytes_max).await,
            }
        })
    })
    .await;
    tree.carried(bytes_in, ended.result.as_ref().map_or(0, |response| response.body.len() as u64));
    if let Ok(response) = &ended.result
        && let Err(outcome) = check_response(response, output_bytes_max)
    {
        ended.result = Err(outcome);
    }
    let rested = ended.rested.take();
    // Of a call that is dropped, nothing stays: neither what it staged nor what it remembers.
    if let Some(rested) = rested.filter(|_| ended.result.as_ref().is_ok_and(translate::commits)) {
        tree.park(version, rested);
    }
    ended
}

/// Asks the cell's `health`; a cell without one is healthy when it can be started and its handler has the right shape.
pub async fn health(invocation: Invocation) -> Ended<Status> {
    let unhealthy = || Status::Unhealthy;
    run(invocation, Purpose::Health, unhealthy, |store, version| {
        Box::pin(async move {
            let instance = instantiate(store, &version).await?;
            strike(store).await?;
            let check = match version.world {
                World::Typed { handle, health } => {
                    let _shape: Handle<'_> = instance.get_typed_func(&mut *store, handle)?;
                    health
                }
                World::Proxy { handle } => {
                    let _shape: proxy::Handle = instance.get_typed_func(&mut *store, handle)?;
                    None
                }
            };
            let Some(check) = check else { return Ok(Status::Healthy) };
            let check: TypedFunc<(), (Status,)> = instance.get_typed_func(&mut *store, check)?;
            let (status,) = check.call_async(&mut *store, ()).await?;
            Ok(status)
        })
    })
    .await
}

/// Runs a call; `failure` is what an injected failure of the cell's own answers.
async fn run<T, F>(invocation: Invocation, purpose: Purpose, failure: fn() -> T, call: F) -> Ended<T>
where
    T: Send + 'static,
    F: for<'a> FnOnce(&'a mut Store<CellStore>, Arc<CellVersion>) -> BoxFuture<'a, wasmtime::Result<T>>
        + Send
        + 'static,
{
    // A callee runs where its caller does: when the caller gives up, nothing of the callee goes on.
    if invocation.depth > 1 {
        return run_armed(invocation, purpose, failure, call).await;
    }
    let (version, tree) = (Arc::clone(&invocation.version), Arc::clone(&invocation.tree));
    let running = run_armed(invocation, purpose, failure, call);
    course::follow(Arc::clone(&tree.course), &version.habits, tree.context.actor.tenant(), running).await
}

async fn run_armed<T, F>(invocation: Invocation, purpose: Purpose, failure: fn() -> T, call: F) -> Ended<T>
where
    F: for<'a> FnOnce(&'a mut Store<CellStore>, Arc<CellVersion>) -> BoxFuture<'a, wasmtime::Result<T>>,
{
    let started = Instant::now();
    let Invocation { version, tree, caller, depth, fuel, deadline } = invocation;
    let course = Arc::clone(&tree.course);
    let fault = tree.catalog.faults(&version.name, &tree.context);
    let stay = match purpose {
        Purpose::Handle => Warm::stay(&version, tree.context.actor.tenant(), tree.catalog.generation),
        Purpose::Health => None,
    };
    let warm = stay.and_then(|stay| tree.catalog.warm.take(&version, stay));
    let (mut store, stay) = if let Some((mut store, stay)) = warm {
        store.data_mut().begin_again(tree, caller, depth, deadline, fault);
        (store, Some(stay))
    } else {
        let data = CellStore::new(tree, Arc::clone(&version), caller, depth, deadline, fault, purpose);
        (Store::new(version.instance.engine(), data), stay)
    };
    if let Err(error) = arm(&mut store, fuel, course) {
        return Ended { result: Err(Outcome::of_error(error)), fuel_used: 0, fuel_charged: 0, rested: None };
    }
    // The epoch stops guest code; the timer wakes a host call that waits. A little later, so that the epoch comes first.
    let patience = deadline.saturating_duration_since(Instant::now()) + 2 * super::engine::TICK;
    let called = async {
        let value = call(&mut store, Arc::clone(&version)).await?;
        if let Some(stop) = store.data_mut().struck.take() {
            return Err(stop.into());
        }
        store.data_mut().meet(FaultPlace::Return).await?;
        Ok::<T, wasmtime::Error>(value)
    };
    let called = tokio::time::timeout(patience, called).await;
    let returned = matches!(called, Ok(Ok(_)));
    let result = match called {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) if matches!(error.downcast_ref::<Stop>(), Some(Stop::Failure)) => Ok(failure()),
        Ok(Err(error)) => Err(Outcome::of_error(error)),
        Err(_elapsed) => Err(Outcome::TimedOut),
    };
    let fuel_used = fuel.saturating_sub(store.get_fuel().unwrap_or(0));
    let fuel_charged = if result.is_ok() { fuel_used } else { fuel };
    let outcome = result.as_ref().map_or_else(Outcome::label, |_| "returned");
    version.measures.ended(&version.name, outcome, started.elapsed());
    let data = store.data_mut();
    if purpose == Purpose::Handle {
        let host_calls = data.counted();
        data.tree.spend(Spent {
            version: Arc::clone(&version),
            outcome,
            depth,
            fuel_granted: fuel,
            fuel_used,
            fuel_charged,
            wall: started.elapsed(),
            host_calls,
            bytes_in: 0,
            bytes_out: 0,
        });
    }
    let rested = stay.filter(|_| returned).and_then(|stay| {
        let warm = Arc::clone(&store.data().tree.catalog.warm);
        warm.rest(store, stay)
    });
    Ended { result, fuel_used, fuel_charged, rested }
}

/// Makes the instance of a store.
async fn instantiate(store: &mut Store<CellStore>, version: &CellVersion) -> wasmtime::Result<Instance> {
    let instance = version.instance.instantiate_async(&mut *store).await?;
    store.data_mut().instance = Some(instance);
    Ok(instance)
}

/// Gives a store its limits, its fuel and its deadline.
fn arm(store: &mut Store<CellStore>, fuel: u64, course: Arc<Course>) -> wasmtime::Result<()> {
    store.limiter(|data| data);
    store.set_fuel(fuel)?;
    store.epoch_deadline_callback(move |mut store| {
        let data = store.data_mut();
        if let Some(stop) = data.struck.take() {
            return Err(stop.into());
        }
        if Instant::now() >= data.deadline {
            return Err(Stop::Deadline.into());
        }
        if !course.is_over() {
            return Ok(UpdateDeadline::Continue(1));
        }
        // A long call shares its thread with the other long ones, one tick at a time.
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    });
    store.set_epoch_deadline(1);
    // More than the largest request or value that crosses at once; the default of 128 MiB would be the host's memory.
    store.set_hostcall_fuel(limit::HOST_CALL_BYTES_MAX);
    Ok(())
}

/// Lets the faults of the start strike at the guest's first instruction: without fuel, or because its epoch deadline is now.
async fn strike(store: &mut Store<CellStore>) -> wasmtime::Result<()> {
    match store.data_mut().meet(FaultPlace::Start).await {
        Ok(()) => {}
        Err(stop @ Stop::Deadline) => return Err(stop.into()),
        Err(Stop::Fuel) => store.set_fuel(0)?,
        Err(stop) => {
            store.data_mut().struck = Some(stop);
            store.set_epoch_deadline(0);
        }
    }
    Ok(())
}

/// What a cell answers that fails on command.
fn failure() -> Response {
    Response { status: 500, headers: Vec::new(), body: Vec::new(), effect: Effect::Discard }
}

/// Refuses an answer that is too large or no HTTP.
pub fn check_response(response: &Response, output_bytes_max: usize) -> Result<(), Outcome> {
    if response.body.len() > output_bytes_max {
        return Err(Outcome::OutputExceeded);
    }
    let bad = |reason: String| Err(Outcome::BadResponse(reason));
    if !(200..=599).contains(&response.status) {
        return bad(format!("status {} is not between 200 and 599", response.status));
    }
    let bytes: usize = response.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if response.headers.len() > limit::REPLY_HEADERS_MAX || bytes > limit::REPLY_HEADER_BYTES_MAX {
        return bad(format!(
            "more than {} headers or {} bytes of them",
            limit::REPLY_HEADERS_MAX,
            limit::REPLY_HEADER_BYTES_MAX
        ));
    }
    for (name, value) in &response.headers {
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() || http::HeaderValue::from_str(value).is_err() {
            return bad(format!("header {name:?} is not valid"));
        }
    }
    Ok(())
}
