//! Which codes an operation can answer with: those that its rule, its input and its kind bring, and those of its own.

use crate::http::input::InputDocument;
use crate::http::operation::{Audited, Route};
use crate::http::problem::Code;
use crate::rbac::permit::Rule;

/// The codes of an operation, in the order of [`Code::ALL`].
pub(super) fn of(route: &Route, input: &InputDocument) -> Vec<Code> {
    let mut codes = vec![Code::InvalidCorrelationId, Code::InternalError, Code::StorageUnavailable];
    if input.path.is_some() || input.query.is_some() || input.body.is_some() {
        codes.push(Code::ValidationError);
    }
    if input.path.is_some() {
        codes.push(Code::NotFound);
    }
    if input.body.is_some() {
        codes.extend([Code::PayloadTooLarge, Code::UnsupportedMediaType]);
    }
    match route.rule {
        Rule::Public => {}
        Rule::SignedIn => codes.push(Code::Unauthenticated),
        Rule::Needs(..) => codes.extend([Code::Unauthenticated, Code::Forbidden]),
    }
    if route.rule != Rule::Public && input.body.is_some() {
        codes.push(Code::TenantMismatch);
    }
    if route.audited != Audited::No {
        codes.extend([Code::WriteConflict, Code::CommitUnknown]);
    }
    codes.extend_from_slice(own(route.name));
    Code::ALL.iter().filter(|code| codes.contains(code)).copied().collect()
}

/// What only this operation refuses.
fn own(name: &str) -> &'static [Code] {
    match name {
        "kernel.bootstrap" => &[Code::InvalidCredentials, Code::AlreadyBootstrapped, Code::RateLimited],
        "auth.login" | "auth.password" => &[Code::InvalidCredentials, Code::RateLimited],
        "tenant.create" | "user.create" => &[Code::AlreadyExists, Code::RateLimited],
        "user.password.set" | "audit.verify" => &[Code::RateLimited],
        "role.create" => &[Code::AlreadyExists],
        "user.update" | "role.update" => &[Code::AlreadyExists, Code::InUse],
        "tenant.update" | "user.delete" | "user.role.revoke" | "role.delete" | "role.permissions.set" => &[Code::InUse],
        "event.publish" => &[Code::EventTypeReserved],
        "cell.upload" => &[Code::CellRejected, Code::VersionExists, Code::RouteConflict],
        "cell.activate" | "route.create" => &[Code::RouteConflict],
        "chaos.inject" | "chaos.fail" => &[Code::ChaosDisabled],
        "audit.proof" | "audit.export" => &[Code::NotSealed],
        "audit.checkpoint" | "audit.consistency" => &[Code::NotFound],
        _ => &[],
    }
}
