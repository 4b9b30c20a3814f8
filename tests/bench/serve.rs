//! A kernel with the settings of a benchmark: `tests/bench/run` starts one for each side of a comparison. It serves the
//! finance cells, the computing route as a cell, and the same route natively, behind the same edge; and it keeps a file of
//! access tokens, one for each tenant, because signing in is not what is measured.
//!
//! `cargo build --release -p suite --example serve && target/release/examples/serve --help`, after the guests were built.
#![allow(clippy::print_stdout, reason = "it says when it is ready")]

mod computing;
mod preload;
mod quote;

use std::path::{Path, PathBuf};
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aibos::auth::password::{Password, PasswordHash};
use aibos::auth::seal::MasterKey;
use aibos::auth::session::{self, Session};
use aibos::clock::Clock;
use aibos::command::seed;
use aibos::config::{Chaos, Config, LogFormat};
use aibos::http::edge::{self, Caller, Incoming};
use aibos::http::operation::{Operation, locally};
use aibos::http::problem::Problem;
use aibos::http::{router, server};
use aibos::id::{SessionId, TenantId, UserId};
use aibos::kernel::Kernel;
use aibos::rbac::name::Slug;
use aibos::rbac::permit::RoutePermit;
use aibos::rbac::user::NewUser;
use aibos::rbac::{membership, tenant, user};
use aibos::{limit, telemetry};
use axum::body::Body;
use axum::response::Response;
use axum::routing::post;
use clap::Parser;
use http::Request;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use suite::cell::Guest;
use tokio::sync::watch;

/// Tokens live for ten minutes.
const NEW_TOKENS: Duration = Duration::from_mins(4);

/// Serves a kernel for a benchmark until it is stopped.
#[derive(Debug, Parser)]
struct Options {
    /// Where to listen.
    #[arg(long)]
    listen: std::net::SocketAddr,
    /// For the compiled code, the embedded database and the file `tokens`.
    #[arg(long)]
    data_dir: PathBuf,
    /// `postgres://…`; the embedded database when absent.
    #[arg(long)]
    database: Option<String>,
    /// Units in one commit.
    #[arg(long, default_value_t = limit::COMMIT_BATCH_MAX)]
    batch: usize,
    /// Customers.
    #[arg(long, default_value_t = 1)]
    tenants: usize,
    /// Routes of cells.
    #[arg(long, default_value_t = 1)]
    routes: usize,
    /// Payments that are stored before.
    #[arg(long, default_value_t = 0)]
    payments: usize,
    /// Audit entries that are stored before.
    #[arg(long, default_value_t = 0)]
    audit: usize,
    /// Users with a password in the first customer's tenant.
    #[arg(long, default_value_t = 0)]
    people: usize,
    /// Further cells, which nobody calls.
    #[arg(long, default_value_t = 0)]
    cells: u32,
    /// Starts on a directory that was prepared before, and prepares nothing.
    #[arg(long, conflicts_with_all = ["tenants", "routes", "payments", "audit", "people", "cells"])]
    again: bool,
    /// Calls of each finance cell that run at once.
    #[arg(long, default_value_t = limit::CONCURRENCY_DEFAULT)]
    concurrency: u32,
    /// Also the cells in other languages, where they are built.
    #[arg(long)]
    polyglot: bool,
}

/// Who calls: a tenant and its owner, signed in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Customer {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    session: SessionId,
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    let mut config = Config::development(options.data_dir.clone(), MasterKey::new([42; 32]));
    config.listen = options.listen;
    config.chaos = Chaos::Disabled;
    config.commit_batch_max = options.batch;
    if let Some(url) = &options.database {
        config.database_url.clone_from(url);
    }
    telemetry::start_logs(LogFormat::Json);
    telemetry::start_metrics();
    std::fs::create_dir_all(&options.data_dir).expect("the directory can be made");
    let started = Instant::now();
    let kernel = Kernel::start(config, Clock::System).await.expect("a kernel starts");
    println!(
        "started with {} cells in {:.3} s",
        kernel.live.load().catalog.cells.len(),
        started.elapsed().as_secs_f64()
    );
    let callers = if options.again { Vec::new() } else { prepare(&kernel, &options).await };
    serve(&kernel, options.listen, &options.data_dir, &callers).await;
    kernel.stop().await;
}

/// Stores what a comparison needs; answers the operator and the customers.
async fn prepare(kernel: &Arc<Kernel>, options: &Options) -> Vec<Customer> {
    let mut callers = vec![operator(kernel).await];
    callers.extend(customers(kernel, options.tenants).await);
    let customers = &callers[1..];
    people(kernel, customers[0].tenant, options.people).await;
    cells(kernel, options.concurrency).await;
    if options.polyglot {
        polyglot(kernel).await;
    }
    preload::cells(kernel, options.cells).await;
    preload::routes(kernel, options.routes).await;
    preload::payments(kernel, customers, options.payments).await;
    preload::audit(kernel, customers, options.audit).await;
    callers
}

/// Serves until a signal, and renews the tokens: the operator's, and the customers'.
async fn serve(kernel: &Arc<Kernel>, listen: std::net::SocketAddr, directory: &Path, callers: &[Customer]) {
    let listener = server::bind(listen).expect("the port is free");
    let twin = Arc::clone(kernel);
    let native =
        move |request: Request<Body>| edge::enveloped(Arc::clone(&twin), "/bench/native".into(), request, answer);
    let router = router::router(kernel).route("/bench/native", post(native));
    let (stop, stopped) = watch::channel(false);
    let serving = server::serve_router(router, listener, stopped);
    let renewing = async {
        loop {
            if let [operator, customers @ ..] = callers {
                write_tokens(kernel, &directory.join("operator"), slice::from_ref(operator));
                write_tokens(kernel, &directory.join("tokens"), customers);
            }
            println!("ready");
            tokio::time::sleep(NEW_TOKENS).await;
        }
    };
    let asked_to_stop = async {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::terminate()).expect("a signal can be waited for").recv().await;
        stop.send_replace(true);
    };
    tokio::pin!(serving);
    tokio::select! {
        served = &mut serving => served.expect("it serves"),
        () = renewing => {}
        () = asked_to_stop => serving.await.expect("it ends well"),
    }
}

/// The native twin: the same edge and the same handler, without a sandbox.
async fn answer(kernel: Arc<Kernel>, caller: Caller, parts: Parts, body: Incoming) -> Result<Response, Problem> {
    RoutePermit::prove(computing::PERMISSION, caller.access.as_ref())?;
    let body = body.read(limit::BODY_BYTES_MAX).await?;
    edge::own_tenant_only(&kernel, &caller.context, &parts.headers, &body).await?;
    let quoted = quote::quote(&body).ok_or_else(|| Problem::invalid("", "the body is no order"))?;
    let mut response = Response::new(Body::from(quoted));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn slug(text: &str) -> Slug {
    text.parse().expect("a slug")
}

fn new_user(email: &str, password_hash: Option<PasswordHash>) -> NewUser {
    NewUser { email: email.parse().expect("an address"), display_name: None, password_hash }
}

/// Opens a session, without a password.
fn sign_in(operation: &Operation, tenant: TenantId, user: UserId) -> Result<Customer, Problem> {
    let context = &operation.context;
    let session = Session {
        id: SessionId::new(&context.clock),
        user_id: user,
        created_at: context.now,
        expires_at: Session::end(context.now),
        client: context.client,
        epoch: 0,
    };
    operation.work.save(session::key(tenant, user, session.id), &session)?;
    Ok(Customer { tenant, user, session: session.id })
}

/// The operator's tenant and its owner, signed in.
async fn operator(kernel: &Arc<Kernel>) -> Customer {
    let made = locally(kernel, "bench.system", async |operation| {
        let owner = new_user("owner@system.test", None);
        let made = tenant::system_tenant(&operation.work, &operation.context, slug("system"), owner).await?;
        sign_in(&operation, made.tenant_id, made.user_id)
    });
    made.await.map_err(|problem| problem.detail).expect("an empty database")
}

/// So many customers, each with an owner and a session.
async fn customers(kernel: &Arc<Kernel>, tenants: usize) -> Vec<Customer> {
    let mut customers = Vec::new();
    for number in 0..tenants {
        let name = format!("customer-{number}");
        let made = locally(kernel, "bench.customer", async |operation| {
            let (work, context) = (&operation.work, &operation.context);
            let title = slug(&name).to_name();
            let (made, role) = tenant::create(work, context, slug(&name), title, tenant::Kind::Customer).await?;
            let user = user::create(work, context, made.id, new_user(&format!("owner@{name}.test"), None)).await?;
            membership::grant(work, context, &user, &role).await?;
            sign_in(&operation, made.id, user.id)
        });
        customers.push(made.await.map_err(|problem| problem.detail).expect("a customer"));
    }
    customers
}

/// So many users who sign in themselves. They share a hash: only checking it is measured.
async fn people(kernel: &Arc<Kernel>, tenant: TenantId, count: usize) {
    if count == 0 {
        return;
    }
    let password = Password::try_from("correct horse battery".to_owned()).expect("a password");
    let hash = kernel.identity.passwords.hash(password).await.expect("a hash");
    let made = locally(kernel, "bench.people", async |operation| {
        for number in 0..count {
            let new = new_user(&format!("person-{number}@customer-0.test"), Some(hash.clone()));
            user::create(&operation.work, &operation.context, tenant, new).await?;
        }
        Ok(())
    });
    made.await.map_err(|problem| problem.detail).expect("users");
}

/// The finance cells and the computing route, typed and in the standard world.
async fn cells(kernel: &Arc<Kernel>, concurrency: u32) {
    for name in ["ledger", "processor", "payment-hub"] {
        let Guest { manifest, component } =
            Guest::finance(name).with("concurrency = 64", &format!("concurrency = {concurrency}"));
        let installed = seed::install(kernel, &manifest, &component, None).await;
        installed.map_err(|failure| failure.0).expect("a cell is installed");
    }
    computing::install(kernel).await;
}

/// Installs the cells in other languages that `tests/guests/polyglot/build` has built, each at
/// `/bench/…`.
async fn polyglot(kernel: &Arc<Kernel>) {
    for language in ["javascript", "python"] {
        let Ok(component) = std::fs::read(format!("target/polyglot/{language}.wasm")) else { continue };
        let manifest = std::fs::read_to_string(format!("tests/guests/polyglot/{language}/cell.toml"));
        let manifest = format!(
            "{}\n[[trigger.http]]\nroute = \"/bench/{language}\"\nmethods = [\"POST\"]\npermission = \"{}\"\n\
             idempotency = \"none\"\naudit = \"effects\"\n",
            manifest.expect("it has a manifest"),
            computing::PERMISSION
        );
        let installed = seed::install(kernel, &manifest, &component, None).await;
        installed.map_err(|failure| failure.0).expect("a cell is installed");
    }
}

/// A token for each customer, one a line.
fn write_tokens(kernel: &Kernel, file: &Path, customers: &[Customer]) {
    let token = |customer: &Customer| {
        let issued = kernel.identity.tokens.issue(customer.user, customer.tenant, customer.session);
        issued.expect("a token").token + "\n"
    };
    let text: String = customers.iter().map(token).collect();
    let new = file.with_extension("new");
    std::fs::write(&new, text).expect("the tokens are written");
    std::fs::rename(&new, file).expect("the tokens are in place");
}
