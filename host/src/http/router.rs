//! The whole URL table of the control plane, on one screen. No route is registered elsewhere. What is not here is a cell's
//! route or does not exist.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::{Method, Request};

use super::operation::Route;
use super::problem::{Code, Problem};
use super::route::{
    audit, audit_export, audit_proof, audit_verify, bootstrap, cell, cell_config, cell_route, cell_secret, chaos,
    documentation, event, key, lifecycle, permission, probe, role, session, tenant, usage, user,
};
use super::{cell as cell_edge, edge};
use crate::kernel::Kernel;

const DELETE: Method = Method::DELETE;
const GET: Method = Method::GET;
const PATCH: Method = Method::PATCH;
const POST: Method = Method::POST;
const PUT: Method = Method::PUT;

/// Every operation.
#[must_use]
#[rustfmt::skip]
pub fn table() -> Vec<Route> {
    vec![
        Route::new(GET,    "/livez",                             "probe.live",            "Whether the process runs.", probe::live),
        Route::new(GET,    "/readyz",                            "probe.ready",           "Whether the kernel can serve.", probe::ready),
        Route::new(GET,    "/openapi.json",                      "documentation.openapi", "The OpenAPI document.", documentation::document),
        Route::new(GET,    "/docs",                              "documentation.page",    "The documentation as a page.", documentation::page),
        Route::new(GET,    "/metrics",                           "probe.metrics",         "Metrics in the Prometheus text format.", probe::metrics),

        Route::new(POST,   "/api/v1/bootstrap",                  "kernel.bootstrap",      "Make the system tenant and its owner; once.", bootstrap::bootstrap),
        Route::new(POST,   "/api/v1/auth/login",                 "auth.login",            "Sign in.", session::login),
        Route::new(GET,    "/api/v1/auth/me",                    "auth.me",               "Who am I and what may I do?", session::me),
        Route::new(POST,   "/api/v1/auth/password",              "auth.password",         "Change my password; my other sessions end.", session::password),
        Route::new(GET,    "/.well-known/jwks.json",             "key.list",              "The public keys of access tokens.", key::jwks),

        Route::new(GET,    "/api/v1/tenants",                    "tenant.list",           "List tenants.", tenant::list),
        Route::new(POST,   "/api/v1/tenants",                    "tenant.create",         "Make a tenant, with its first owner if you like.", tenant::create),
        Route::new(GET,    "/api/v1/tenants/{id}",               "tenant.read",           "See a tenant.", tenant::read),
        Route::new(PATCH,  "/api/v1/tenants/{id}",               "tenant.update",         "Rename, suspend or reactivate a tenant.", tenant::update),

        Route::new(GET,    "/api/v1/users",                      "user.list",             "List users.", user::list),
        Route::new(POST,   "/api/v1/users",                      "user.create",           "Make a user.", user::create),
        Route::new(GET,    "/api/v1/users/{id}",                 "user.read",             "See a user and its roles.", user::read),
        Route::new(PATCH,  "/api/v1/users/{id}",                 "user.update",           "Change, disable or enable a user.", user::update),
        Route::new(DELETE, "/api/v1/users/{id}",                 "user.delete",           "Remove a user.", user::delete),
        Route::new(PUT,    "/api/v1/users/{id}/password",        "user.password.set",     "Set a user's password; all sessions of the user end.", user::set_password),
        Route::new(PUT,    "/api/v1/users/{id}/roles/{role_id}", "user.role.grant",       "Give a user a role.", user::grant_role),
        Route::new(DELETE, "/api/v1/users/{id}/roles/{role_id}", "user.role.revoke",      "Take a role from a user.", user::revoke_role),

        Route::new(GET,    "/api/v1/roles",                      "role.list",             "List roles.", role::list),
        Route::new(POST,   "/api/v1/roles",                      "role.create",           "Make a role.", role::create),
        Route::new(GET,    "/api/v1/roles/{id}",                 "role.read",             "See a role.", role::read),
        Route::new(PATCH,  "/api/v1/roles/{id}",                 "role.update",           "Rename a role.", role::update),
        Route::new(DELETE, "/api/v1/roles/{id}",                 "role.delete",           "Remove a role that nobody has.", role::delete),
        Route::new(PUT,    "/api/v1/roles/{id}/permissions",     "role.permissions.set",  "Replace what a role grants.", role::set_permissions),
        Route::new(GET,    "/api/v1/permissions",                "permission.list",       "List permissions of the kernel and of active cells.", permission::list),

        Route::new(POST,   "/api/v1/events",                     "event.publish",         "Publish an event.", event::publish),
        Route::new(POST,   "/api/v1/events/publish",             "event.publish",         "The same as POST /api/v1/events.", event::publish),
        Route::new(GET,    "/api/v1/events",                     "event.list",            "Read the event log, oldest first.", event::list),

        Route::new(GET,    "/api/v1/audit",                      "audit.list",            "Read the audit log, newest first.", audit::list).reads_audit(),
        Route::new(GET,    "/api/v1/audit/export",               "audit.export",          "Export entries with the proof that they are in the log.", audit_export::export).reads_audit(),
        Route::new(GET,    "/api/v1/audit/checkpoints/latest",   "audit.checkpoint",      "The newest signed checkpoint of the log.", audit_proof::latest).reads_audit(),
        Route::new(GET,    "/api/v1/audit/consistency",          "audit.consistency",     "Prove that the log of one size begins with that of another.", audit_proof::consistency).reads_audit(),
        Route::new(POST,   "/api/v1/audit/verify",               "audit.verify",          "Verify the whole log.", audit_verify::verify).reads_audit(),
        Route::new(GET,    "/api/v1/audit/{id}",                 "audit.read",            "See an audit entry.", audit::read).reads_audit(),
        Route::new(GET,    "/api/v1/audit/{id}/proof",           "audit.proof",           "Prove that an entry is in the log.", audit_proof::inclusion).reads_audit(),
        Route::new(GET,    "/.well-known/audit-key",             "audit.key",             "The key that verifies checkpoints.", audit_proof::key),

        Route::new(POST,   "/api/v1/cells",                      "cell.upload",           "Upload an immutable version of a cell.", cell::upload),
        Route::new(GET,    "/api/v1/cells",                      "cell.list",             "List cells.", cell::list),
        Route::new(GET,    "/api/v1/cells/{name}",               "cell.show",             "Show a cell.", cell::show),
        Route::new(GET,    "/api/v1/cells/{name}/versions",      "cell.versions",         "List the versions of a cell.", cell::versions),
        Route::new(GET,    "/api/v1/cells/{name}/traps",         "cell.traps",            "The newest failures of a cell.", cell::traps),
        Route::new(POST,   "/api/v1/cells/{name}/activate",      "cell.activate",         "Make a version the one that serves.", lifecycle::activate),
        Route::new(POST,   "/api/v1/cells/{name}/rollback",      "cell.rollback",         "End a canary, or go back to the version before.", lifecycle::rollback),
        Route::new(POST,   "/api/v1/cells/{name}/restart",       "cell.restart",          "Forget strikes and close breakers.", lifecycle::restart),
        Route::new(POST,   "/api/v1/cells/{name}/quarantine",    "cell.quarantine",       "Take a cell out of service.", lifecycle::quarantine),
        Route::new(POST,   "/api/v1/cells/{name}/release",       "cell.release",          "End a quarantine.", lifecycle::release),
        Route::new(GET,    "/api/v1/cells/{name}/logs",          "cell.logs",             "The newest lines that a cell logged.", lifecycle::logs),
        Route::new(DELETE, "/api/v1/cells/{name}",               "cell.delete",           "Take a cell out of service for good.", lifecycle::delete),
        Route::new(GET,    "/api/v1/cells/{name}/config",        "cell.config.list",      "List what a cell reads as its settings.", cell_config::list),
        Route::new(PUT,    "/api/v1/cells/{name}/config/{key}",  "cell.config.set",       "Give a cell a setting.", cell_config::set),
        Route::new(DELETE, "/api/v1/cells/{name}/config/{key}",  "cell.config.delete",    "Remove a stored setting of a cell.", cell_config::delete),
        Route::new(GET,    "/api/v1/cells/{name}/secrets",       "cell.secret.list",      "List the secrets of a cell, without their values.", cell_secret::list),
        Route::new(PUT,    "/api/v1/cells/{name}/secrets/{key}", "cell.secret.set",       "Give a cell a secret.", cell_secret::set),
        Route::new(DELETE, "/api/v1/cells/{name}/secrets/{key}", "cell.secret.delete",    "Remove a secret of a cell.", cell_secret::delete),

        Route::new(GET,    "/api/v1/usage",                      "usage.list",            "What my tenant used of which cell on which day.", usage::list),

        Route::new(GET,    "/api/v1/routes",                     "route.list",            "List the routes of cells.", cell_route::list),
        Route::new(POST,   "/api/v1/routes",                     "route.create",          "Add a route to a cell.", cell_route::create),
        Route::new(DELETE, "/api/v1/routes/{id}",                "route.delete",          "Remove a route that was added.", cell_route::delete),

        Route::new(POST,   "/api/v1/chaos/faults",               "chaos.inject",          "Inject a fault.", chaos::inject),
        Route::new(GET,    "/api/v1/chaos/faults",               "chaos.list",            "List injected faults.", chaos::list),
        Route::new(DELETE, "/api/v1/chaos/faults/{id}",          "chaos.remove",          "Remove a fault.", chaos::remove),
        Route::new(POST,   "/api/v1/chaos/fail/{cell}",          "chaos.fail",            "Make every call of a cell trap.", chaos::fail),
        Route::new(POST,   "/api/v1/chaos/recover/{cell}",       "chaos.recover",         "Remove the faults of a cell.", chaos::recover),
    ]
}

/// The router of a kernel.
pub fn router(kernel: &Arc<Kernel>) -> Router {
    let mut router = Router::new();
    for route in table() {
        let route = Arc::new(route);
        let path = route.path;
        router = router.route(path, method_router(kernel, route));
    }
    let cells = Arc::clone(kernel);
    router = router.fallback(move |request: Request<Body>| cell_edge::answer(Arc::clone(&cells), request));
    let missing_method = Arc::clone(kernel);
    router.method_not_allowed_fallback(move |request: Request<Body>| {
        edge::enveloped(Arc::clone(&missing_method), "unmatched".into(), request, async |_, _, parts, _| {
            Err(Problem::new(Code::MethodNotAllowed, format!("{} is not allowed here; see GET /docs.", parts.method)))
        })
    })
}

fn method_router(kernel: &Arc<Kernel>, route: Arc<Route>) -> MethodRouter {
    let kernel = Arc::clone(kernel);
    let filter = MethodFilter::try_from(route.method.clone()).unwrap_or(MethodFilter::GET);
    on(filter, move |request: Request<Body>| edge::operation(Arc::clone(&kernel), Arc::clone(&route), request))
}
