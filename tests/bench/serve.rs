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
use std::sync::Arc;
use std::time::Duration;

use aibos::auth::seal::MasterKey;
use aibos::auth::session::{self, Session};
use aibos::clock::Clock;
use aibos::command::seed;
use aibos::config::{Chaos, Config, LogFormat};
use aibos::http::edge::{self, Caller, Incoming};
use aibos::http::operation::locally;
use aibos::http::problem::Problem;
use aibos::http::{router, server};
use aibos::id::{SessionId, TenantId, UserId};
use aibos::kernel::Kernel;
use aibos::rbac::name::{Email, Slug};
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
use tokio::net::TcpListener;
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
    let kernel = Kernel::start(config, Clock::System).await.expect("a kernel starts");
    let customers = people(&kernel, options.tenants).await;
    cells(&kernel, options.concurrency).await;
    if options.polyglot {
        polyglot(&kernel).await;
    }
    preload::routes(&kernel, options.routes).await;
    preload::payments(&kernel, &customers, options.payments).await;
    preload::audit(&kernel, &customers, options.audit).await;
    serve(&kernel, options.listen, &options.data_dir.join("tokens"), &customers).await;
    kernel.stop().await;
}

/// Serves until a signal, and renews the tokens.
async fn serve(kernel: &Arc<Kernel>, listen: std::net::SocketAddr, tokens: &Path, customers: &[Customer]) {
    let listener = TcpListener::bind(listen).await.expect("the port is free");
    let twin = Arc::clone(kernel);
    let native = move |request: Request<Body>| edge::enveloped(Arc::clone(&twin), "/bench/native", request, answer);
    let router = router::router(kernel).route("/bench/native", post(native));
    let (stop, stopped) = watch::channel(false);
    let serving = server::serve_router(router, listener, stopped);
    let renewing = async {
        loop {
            write_tokens(kernel, tokens, customers);
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

/// The operator's tenant and so many customers, each with an owner and a session.
async fn people(kernel: &Arc<Kernel>, tenants: usize) -> Vec<Customer> {
    let owner = |of: &str| {
        let email = format!("owner@{of}.test").parse::<Email>().expect("an address");
        NewUser { email, display_name: None, password_hash: None }
    };
    let slug = |text: &str| text.parse::<Slug>().expect("a slug");
    let made = locally(kernel, "bench.system", async |operation| {
        let (work, context) = (&operation.work, &operation.context);
        tenant::system_tenant(work, context, slug("system"), owner("system")).await?;
        Ok(())
    });
    made.await.map_err(|problem| problem.detail).expect("an empty database");
    let mut customers = Vec::new();
    for number in 0..tenants {
        let name = format!("customer-{number}");
        let made = locally(kernel, "bench.customer", async |operation| {
            let (work, context) = (&operation.work, &operation.context);
            let title = slug(&name).to_name();
            let (made, role) = tenant::create(work, context, slug(&name), title, tenant::Kind::Customer).await?;
            let user = user::create(work, context, made.id, owner(&name)).await?;
            membership::grant(work, context, &user, &role).await?;
            let session = Session {
                id: SessionId::new(&context.clock),
                user_id: user.id,
                created_at: context.now,
                expires_at: Session::end(context.now),
                client: context.client,
                epoch: user.session_epoch,
            };
            work.save(session::key(made.id, user.id, session.id), &session)?;
            Ok(Customer { tenant: made.id, user: user.id, session: session.id })
        });
        customers.push(made.await.map_err(|problem| problem.detail).expect("a customer"));
    }
    customers
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
