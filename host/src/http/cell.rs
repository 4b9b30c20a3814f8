//! The edge of cell routes: everything that is not in the URL table is looked up among the routes of active cells.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::response::Response;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Request};
use metrics::SharedString;

use super::edge::{self, Caller};
use super::problem::{Code, Problem};
use crate::auth::actor::Actor;
use crate::cell::outcome::Outcome;
use crate::gateway::call::{self, CellCall};
use crate::gateway::call_error::CallError;
use crate::gateway::idempotency::{self, KeyError};
use crate::gateway::resolve::{Match, NoRoute, Target};
use crate::kernel::Kernel;
use crate::limit;
use crate::rbac::permit::{PUBLIC, RoutePermit};

/// Answers a request by a cell, or says that there is none.
pub async fn answer(kernel: Arc<Kernel>, request: Request<Body>) -> Response {
    let live = kernel.live.load_full();
    let route = live.resolve(request.method(), request.uri().path());
    let label = match &route {
        Ok(Match { target, .. }) => SharedString::from(Arc::clone(&target.template)),
        Err(_) => SharedString::const_str("unmatched"),
    };
    // Whom a canary serves is not known yet.
    if let Ok(Match { target, .. }) = &route
        && let Some(cell) = live.catalog.cell(&target.cell)
        && cell.gate.is_short()
        && cell.canary.is_none()
        && let Some(caller) = caller(&kernel, target, request.headers())
        && call::is_refused(&cell, caller.tenant())
    {
        return edge::refuse(&kernel, label, request, problem_of(CallError::Overloaded, target));
    }
    edge::enveloped(kernel, label, request, async move |kernel, caller, parts, body| {
        let route = route.map_err(|none| no_route(&none, &parts))?;
        let target = Arc::clone(&route.target);
        let Caller { context, access } = caller;
        let permit = match RoutePermit::prove(&target.permission, access.as_ref()) {
            Ok(permit) => permit,
            Err(denied) => {
                let problem = Problem::from(denied);
                edge::audit_denial(&kernel, &context, &target.template, &problem).await?;
                return Err(problem);
            }
        };
        let body = body.read(limit::BODY_BYTES_MAX).await?;
        edge::own_tenant_only(&kernel, &context, &parts.headers, &body).await?;
        let key = idempotency::key(&parts.headers, target.idempotency).map_err(|error| key_problem(error, &target))?;
        // Without a tenant there is nothing to store the reply under.
        let key = key.filter(|_| context.actor.tenant().is_some());
        let Parts { method, uri, headers, .. } = parts;
        let query = uri.query().map(str::to_owned);
        let call = CellCall {
            live,
            route,
            context,
            method,
            query,
            headers,
            body,
            key,
            reached_out: AtomicBool::default(),
            revealed: Mutex::default(),
        };
        call::run(&kernel, call, permit).await.map_err(|error| problem_of(error, &target))
    })
    .await
}

/// Whose call it is, by the token alone. None where the request may be refused for another reason.
fn caller(kernel: &Kernel, target: &Target, headers: &HeaderMap) -> Option<Actor> {
    let known = headers.get(AUTHORIZATION).and_then(|header| kernel.identity.bearer(header));
    // Without a good token it is nobody's, which is refused elsewhere unless the route is for everybody.
    known.or_else(|| (&*target.permission == PUBLIC).then_some(Actor::Anonymous))
}

fn no_route(none: &NoRoute, parts: &Parts) -> Problem {
    match none {
        NoRoute::Unknown => Problem::new(
            Code::NotFound,
            format!(
                "There is no route {} {}; GET /openapi.json and GET /api/v1/routes list them.",
                parts.method,
                parts.uri.path()
            ),
        ),
        NoRoute::OtherMethods(methods) => Problem::new(
            Code::MethodNotAllowed,
            format!("{} is not allowed here; allowed: {}.", parts.method, methods.join(", ")),
        )
        .with("allowed_methods", methods.clone())
        .allow(methods.join(", ")),
    }
}

fn key_problem(error: KeyError, target: &Target) -> Problem {
    match error {
        KeyError::Required => Problem::new(
            Code::IdempotencyKeyRequired,
            format!("{} needs an Idempotency-Key header, so that a repetition has no second effect.", target.template),
        ),
        KeyError::Invalid => Problem::invalid("/header/Idempotency-Key", "must be 1 to 255 visible ASCII characters"),
    }
}

/// What a client hears of a call that has no reply of its own.
fn problem_of(error: CallError, target: &Target) -> Problem {
    let cell = &target.cell;
    match error {
        CallError::Work(error) => error.into(),
        CallError::Commit(error) => error.into(),
        CallError::Failed(outcome) => failed(&outcome, cell),
        CallError::Inactive(name) => {
            Problem::new(Code::CellUnavailable, format!("The cell {name} is not active.")).retry_after(1)
        }
        CallError::Overloaded => Problem::new(
            Code::CellOverloaded,
            format!(
                "All slots of the cell {cell} are taken. This request was not begun; an earlier one with the same \
                 Idempotency-Key stands as it was: repeat it with that key."
            ),
        )
        .retry_after(1),
        CallError::BreakerOpen(refused) => Problem::new(
            Code::CircuitOpen,
            format!("The cell {cell} failed repeatedly and rests; it is tried again soon. Nothing happened."),
        )
        .retry_after(refused.retry_after_s),
        CallError::Quarantined => Problem::new(
            Code::CellQuarantined,
            format!("The cell {cell} is quarantined until an operator releases it. Nothing happened."),
        )
        .retry_after(60),
        CallError::Withheld(status) => {
            Problem::new(Code::CellFailed, format!("The cell {cell} answered {status}. Nothing was kept."))
                .retry_after(1)
        }
        CallError::Conflicted => {
            Problem::new(Code::WriteConflict, "Others kept changing what this call reads. Nothing was kept; try again.")
        }
        CallError::KeyReused => Problem::new(
            Code::IdempotencyKeyReused,
            "This Idempotency-Key was used for another request; take a new key for a new request.",
        ),
        CallError::KeyInUse => Problem::new(
            Code::IdempotencyKeyInUse,
            "The first request with this Idempotency-Key is still running; ask again.",
        )
        .retry_after(1),
    }
}

fn failed(outcome: &Outcome, cell: &str) -> Problem {
    let kept = "Nothing of it was kept; GET /api/v1/cells/";
    let sentence = |what: &str| format!("The cell {cell} {what}. {kept}{cell}/traps has the report.");
    match outcome {
        Outcome::Trapped(_) => Problem::new(Code::CellTrapped, sentence("trapped")).retry_after(1),
        Outcome::FuelExhausted => Problem::new(Code::FuelExhausted, sentence("used up its fuel")),
        Outcome::MemoryExceeded => Problem::new(Code::MemoryExceeded, sentence("wanted more memory than it may have")),
        Outcome::LimitExceeded(limit) => {
            Problem::new(Code::LimitExceeded, sentence(&format!("exceeded its limit of {limit}"))).with("limit", *limit)
        }
        Outcome::OutputExceeded => Problem::new(Code::OutputExceeded, sentence("answered with more than output_kb")),
        Outcome::BadResponse(_) => Problem::new(Code::BadResponse, sentence("gave an answer that is not valid HTTP")),
        Outcome::TimedOut => Problem::new(Code::CellTimeout, sentence("used up its time")),
        Outcome::Rejected => {
            Problem::new(Code::CellOverloaded, "All instances of this kernel are taken.").retry_after(1)
        }
        Outcome::StorageFailed(_) => {
            Problem::new(Code::StorageUnavailable, "The database cannot be reached. Nothing happened; try again.")
                .retry_after(1)
        }
    }
}
