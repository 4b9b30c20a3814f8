//! `aibos:cell/calls`: calls between cells. A callee runs in the caller's tree: same tenant, same pinned versions, inside the
//! caller's remaining time and fuel; what it stages joins the caller's unit of work or is dropped.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use wasmtime::component::Linker;
use wasmtime::{AsContextMut, StoreContextMut};

use crate::cell::binding::aibos::cell::calls::Error;
use crate::cell::binding::aibos::cell::health::Status;
use crate::cell::binding::{Request, Response};
use crate::cell::catalog::{ActiveCell, NotServing};
use crate::cell::invoke::{self, Ended, Invocation};
use crate::cell::outcome::{Outcome, Stop, own_failure};
use crate::cell::pattern::split_path;
use crate::cell::store::{CellStore, NestedFailure, Purpose};
use crate::cell::supervisor::Verdict;
use crate::cell::translate;
use crate::limit;
use crate::state::work::Effect;

/// One part in so many of the remaining fuel stays with the caller.
const CALLER_SHARE: u64 = 64;

/// Adds the interface by hand: only a function that sees the store can hand fuel to the callee and take back what is left.
pub fn add_to_linker(linker: &mut Linker<CellStore>) -> wasmtime::Result<()> {
    let mut instance = linker.instance("aibos:cell/calls@1.0.0")?;
    instance.func_wrap_async("call", |store, (cell, request): (String, Request)| {
        Box::new(async move { Ok((call(store, &cell, request).await?,)) })
    })?;
    instance.func_wrap_async("health", |store, (cell,): (String,)| {
        Box::new(async move { Ok((health(store, &cell).await?,)) })
    })
}

async fn call(
    mut store: StoreContextMut<'_, CellStore>,
    cell: &str,
    mut request: Request,
) -> wasmtime::Result<Result<Response, Error>> {
    store.data_mut().enter("calls").await?;
    let callee =
        match find(store.data(), cell).and_then(|callee| permit(store.data(), &callee, &request).map(|()| callee)) {
            Ok(callee) => callee,
            Err(error) => return Ok(Err(error)),
        };
    let tree = Arc::clone(&store.data().tree);
    request.headers = translate::forwarded_headers(request.headers, &tree.context);
    let Some(trial) = callee.canary_trial() else { return answer(store, &callee, request).await };
    let (answered, failed) = {
        let before = tree.failed_count();
        let answered = answer(store.as_context_mut(), &callee, request.clone()).await?;
        (answered, tree.failed_count() > before)
    };
    // What a canary fails at is done again by the active version: nothing of it was kept.
    match (answered, tree.catalog.cell(cell)) {
        (Err(_), Some(active)) if !tree.reached_out.load(Ordering::Relaxed) => {
            let again = match permit(store.data(), &active, &request) {
                Ok(()) => answer(store, &active, request).await?,
                Err(error) => Err(error),
            };
            if failed && again.is_ok() {
                tree.redone(trial);
            }
            Ok(again)
        }
        (answered, _) => Ok(answered),
    }
}

/// Calls one version and judges how it ended.
async fn answer(
    store: StoreContextMut<'_, CellStore>,
    callee: &ActiveCell,
    request: Request,
) -> wasmtime::Result<Result<Response, Error>> {
    let tree = Arc::clone(&store.data().tree);
    let (name, clock) = (&callee.version.name, &tree.context.clock);
    let pass = match callee.admit(tree.context.actor.tenant(), clock.now()) {
        Ok(pass) => pass,
        Err(NotServing::BreakerOpen(_)) => {
            return Ok(Err(Error::Unavailable(format!("the breaker of {name} is open"))));
        }
        Err(NotServing::Quarantined) => return Ok(Err(Error::Unavailable(format!("{name} is quarantined")))),
    };
    let depth = tree.work.begin();
    let called = nested(store, callee, move |invocation| invoke::handle(invocation, request)).await;
    let cell = callee.version.reference.clone();
    let (effect, answer) = match called {
        Ok(Ok(Called { result: Ok(response), .. })) => {
            let status = response.status;
            if own_failure(status) {
                tree.failed(NestedFailure { cell, report: None, pass: Some(pass), redone: None });
            } else {
                // A success closes a breaker; it never asks for more.
                _ = pass.judge(Verdict::Fine, clock.now());
            }
            if status >= 500 {
                (Effect::Drop, Ok(Err(Error::Unavailable(format!("{name} answered {status}")))))
            } else {
                let effect = if translate::commits(&response) { Effect::Keep } else { Effect::Drop };
                (effect, Ok(Ok(response)))
            }
        }
        Ok(Ok(Called { result: Err(Outcome::StorageFailed(error)), .. })) => {
            (Effect::Drop, Err(Stop::Storage(error).into()))
        }
        Ok(Ok(Called { result: Err(outcome), share })) => {
            if outcome.is_strike() {
                let report = Some(callee.version.report(&tree.context, &outcome));
                let pass = is_its_own(&outcome, share).then_some(pass);
                tree.failed(NestedFailure { cell, report, pass, redone: None });
            }
            (Effect::Drop, Ok(Err(error_of(&outcome))))
        }
        Ok(Err(error)) => (Effect::Drop, Ok(Err(error))),
        Err(error) => (Effect::Drop, Err(error)),
    };
    tree.work.end(depth, effect).map_err(Stop::Storage)?;
    answer
}

/// Asks how a cell is. It is no call that could close its breaker or count in a trial.
async fn health(mut store: StoreContextMut<'_, CellStore>, cell: &str) -> wasmtime::Result<Result<Status, Error>> {
    store.data_mut().enter("calls").await?;
    let tree = Arc::clone(&store.data().tree);
    let callee = match find(store.data(), cell) {
        Ok(callee) if callee.quarantine.is_some() => {
            return Ok(Err(Error::Unavailable(format!("{cell} is quarantined"))));
        }
        Ok(callee) => callee,
        Err(error) => return Ok(Err(error)),
    };
    Ok(match nested(store, &callee, invoke::health).await? {
        Ok(Called { result: Ok(status), .. }) => Ok(status),
        Ok(Called { result: Err(Outcome::StorageFailed(error)), .. }) => return Err(Stop::Storage(error).into()),
        Ok(Called { result: Err(outcome), .. }) => {
            if outcome.is_strike() {
                let report = Some(callee.version.report(&tree.context, &outcome));
                let cell = callee.version.reference.clone();
                tree.failed(NestedFailure { cell, report, pass: None, redone: None });
            }
            Err(error_of(&outcome))
        }
        Err(error) => Err(error),
    })
}

/// The active version of a cell that the caller's manifest names.
fn find(caller: &CellStore, cell: &str) -> Result<Arc<ActiveCell>, Error> {
    if !caller.version.manifest.capabilities.calls.iter().any(|granted| granted == cell) {
        return Err(Error::Denied(format!(
            "add {cell:?} to calls in [capabilities] of {}'s cell.toml",
            caller.version.name
        )));
    }
    let tenant = caller.tree.context.actor.tenant();
    caller.tree.catalog.serving(cell, tenant).ok_or_else(|| Error::Unavailable(format!("{cell} is not active")))
}

/// Whether the callee lets this caller at this path.
fn permit(caller: &CellStore, callee: &ActiveCell, request: &Request) -> Result<(), Error> {
    if caller.purpose == Purpose::Health {
        return Err(Error::Denied("a health check has no tenant and calls nobody; ask calls.health".into()));
    }
    if request.body.len() > limit::BODY_BYTES_MAX {
        return Err(Error::Denied(format!("a request has at most {} bytes", limit::BODY_BYTES_MAX)));
    }
    let path =
        split_path(&request.path).ok_or_else(|| Error::Denied(format!("path {:?} is not valid", request.path)))?;
    let triggers = &callee.version.manifest.trigger.call;
    let allowed = triggers.iter().any(|trigger| {
        trigger.route.matches(&path) && trigger.callers.iter().any(|name| **name == *caller.version.name)
    });
    if allowed {
        return Ok(());
    }
    let (callee, caller) = (&callee.version.name, &caller.version.name);
    Err(Error::Denied(format!(
        "{callee} has no [[trigger.call]] for {:?} with {caller:?} among its callers",
        request.path
    )))
}

/// How a callee's call ended.
struct Called<T> {
    result: Result<T, Outcome>,
    share: Share,
}

/// What a caller left its callee.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Share {
    /// At least half of the fuel and the time that its manifest grants.
    Fair,
    /// Less: what it could not do is its caller's doing.
    Scant,
}

/// Runs a callee inside what is left of the caller's time and fuel.
async fn nested<T, R>(
    mut store: StoreContextMut<'_, CellStore>,
    callee: &ActiveCell,
    run: impl FnOnce(Invocation) -> R,
) -> wasmtime::Result<Result<Called<T>, Error>>
where
    R: Future<Output = Ended<T>> + Send,
{
    let left = store.get_fuel()?;
    // Taken out before the first await: a store may not be shared between threads.
    let CellStore { tree, version, depth, deadline, .. } = store.data();
    let (tree, caller, depth, deadline) = (Arc::clone(tree), Arc::clone(&version.name), *depth, *deadline);
    if depth >= limit::CALL_DEPTH_MAX {
        return Err(Stop::Limit("call_depth").into());
    }
    // Half of what is left, so that the caller can still answer when the callee has no room.
    let patience = deadline.saturating_duration_since(Instant::now()).min(callee.timeout()) / 2;
    let until = Instant::now() + patience;
    let overloaded = || Ok(Err(Error::Unavailable(format!("{} is overloaded", callee.version.name))));
    let Ok(place) = callee.gate.enter(tree.context.actor.tenant(), until).await else { return overloaded() };
    let Ok(_slot) = callee.gate.run(&place, until).await else { return overloaded() };
    let (granted, now) = (callee.version.manifest.limits.fuel, Instant::now());
    // The caller keeps a share to handle a callee that used up everything (as in EIP-150).
    let fuel = granted.min(left - left / CALLER_SHARE);
    // Who is granted more than a usual call has is not short of it when called by one.
    let is_fair = fuel >= granted.min(limit::FUEL_DEFAULT) / 2 && deadline >= now + callee.timeout() / 2;
    let invocation = Invocation {
        version: Arc::clone(&callee.version),
        tree,
        caller: Some(caller),
        depth: depth + 1,
        fuel,
        deadline: deadline.min(now + callee.timeout()),
    };
    // Boxed because a callee may call in turn.
    let ended = Box::pin(run(invocation)).await;
    store.set_fuel(left.saturating_sub(ended.fuel_used))?;
    callee.counts.count(ended.result.as_ref().err());
    let share = if is_fair { Share::Fair } else { Share::Scant };
    Ok(Ok(Called { result: ended.result, share }))
}

/// Whether a failure is the callee's own: not for want of what its caller left, nor by a limit that all cells of the request
/// share.
fn is_its_own(outcome: &Outcome, share: Share) -> bool {
    match outcome {
        Outcome::FuelExhausted | Outcome::TimedOut => share == Share::Fair,
        Outcome::LimitExceeded(limit) => matches!(*limit, "stack" | "table"),
        Outcome::Trapped(_) | Outcome::MemoryExceeded | Outcome::OutputExceeded | Outcome::BadResponse(_) => true,
        Outcome::Rejected | Outcome::StorageFailed(_) => false,
    }
}

fn error_of(outcome: &Outcome) -> Error {
    match outcome {
        Outcome::Trapped(_) => Error::Trapped,
        Outcome::FuelExhausted => Error::Exhausted("fuel".into()),
        Outcome::MemoryExceeded => Error::Exhausted("memory".into()),
        Outcome::OutputExceeded => Error::Exhausted("output".into()),
        Outcome::LimitExceeded(limit) => Error::Exhausted((*limit).into()),
        Outcome::TimedOut => Error::TimedOut,
        Outcome::BadResponse(reason) => Error::Unavailable(reason.clone()),
        Outcome::Rejected => Error::Unavailable(outcome.message()),
        Outcome::StorageFailed(_) => Error::Other(outcome.label().into()),
    }
}
