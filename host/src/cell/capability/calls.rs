//! `aibos:cell/calls`: calls between cells. A callee runs in the caller's tree: same tenant, same pinned versions, inside the
//! caller's remaining time and fuel; what it stages joins the caller's unit of work or is dropped.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use crate::cell::binding::aibos::cell::calls::Error;
use crate::cell::binding::aibos::cell::health::Status;
use crate::cell::binding::{Request, Response};
use crate::cell::catalog::ActiveCell;
use crate::cell::invoke::{self, Ended, Invocation};
use crate::cell::outcome::{Outcome, Stop};
use crate::cell::pattern::split_path;
use crate::cell::store::{CellStore, Purpose};
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
    store.data_mut().enter().await?;
    let callee =
        match find(store.data(), cell).and_then(|callee| permit(store.data(), &callee, &request).map(|()| callee)) {
            Ok(callee) => callee,
            Err(error) => return Ok(Err(error)),
        };
    request.headers = translate::forwarded_headers(request.headers, &store.data().tree.context);
    let work = Arc::clone(&store.data().tree.work);
    let depth = work.begin();
    let called = nested(store, &callee, move |invocation| invoke::handle(invocation, request)).await;
    let (effect, answer) = match called {
        Ok(Ok(response)) if response.status >= 500 => {
            (Effect::Drop, Ok(Err(Error::Unavailable(format!("{cell} answered {}", response.status)))))
        }
        Ok(Ok(response)) if translate::commits(&response) => (Effect::Keep, Ok(Ok(response))),
        Ok(Ok(response)) => (Effect::Drop, Ok(Ok(response))),
        failed => (Effect::Drop, failed),
    };
    work.end(depth, effect).map_err(Stop::Storage)?;
    answer
}

async fn health(mut store: StoreContextMut<'_, CellStore>, cell: &str) -> wasmtime::Result<Result<Status, Error>> {
    store.data_mut().enter().await?;
    match find(store.data(), cell) {
        Ok(callee) => nested(store, &callee, invoke::health).await,
        Err(error) => Ok(Err(error)),
    }
}

/// The active version of a cell that the caller's manifest names.
fn find(caller: &CellStore, cell: &str) -> Result<Arc<ActiveCell>, Error> {
    if !caller.version.manifest.capabilities.calls.iter().any(|granted| granted == cell) {
        return Err(Error::Denied(format!(
            "add {cell:?} to calls in [capabilities] of {}'s cell.toml",
            caller.version.name
        )));
    }
    caller.tree.catalog.cell(cell).ok_or_else(|| Error::Unavailable(format!("{cell} is not active")))
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

/// Runs a callee inside what is left of the caller's time and fuel.
async fn nested<T, R>(
    mut store: StoreContextMut<'_, CellStore>,
    callee: &ActiveCell,
    run: impl FnOnce(Invocation) -> R,
) -> wasmtime::Result<Result<T, Error>>
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
    let limits = &callee.version.manifest.limits;
    let Ok(_slot) = callee.gate.enter(deadline).await else {
        return Ok(Err(Error::Unavailable(format!("{} is overloaded", callee.version.name))));
    };
    let invocation = Invocation {
        version: Arc::clone(&callee.version),
        tree: Arc::clone(&tree),
        caller: Some(caller),
        depth: depth + 1,
        // The caller keeps a share to handle a callee that used up everything (as in EIP-150).
        fuel: limits.fuel.min(left - left / CALLER_SHARE),
        deadline: deadline.min(Instant::now() + Duration::from_millis(limits.timeout_ms)),
    };
    // Boxed because a callee may call in turn.
    let ended = Box::pin(run(invocation)).await;
    store.set_fuel(left.saturating_sub(ended.fuel_used))?;
    callee.gate.count(ended.result.as_ref().err());
    match ended.result {
        Ok(value) => Ok(Ok(value)),
        Err(Outcome::StorageFailed(error)) => Err(Stop::Storage(error).into()),
        Err(outcome) => {
            tree.failed(callee.version.reference.clone(), callee.version.report(&tree.context, &outcome));
            Ok(Err(error_of(&outcome)))
        }
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
