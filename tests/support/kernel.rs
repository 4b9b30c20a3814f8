//! A whole kernel in this process, on a database and a port of its own. Requests go over real HTTP.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aibos::auth::seal::MasterKey;
use aibos::clock::Clock;
use aibos::config::{Config, Secret};
use aibos::http::server;
use aibos::id;
use aibos::kernel::{Kernel, StartError};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinHandle;

use crate::actor::{Actor, Reply};
use crate::database::{Backend, Database};

/// What `AIBOS_BOOTSTRAP_KEY` says.
pub const BOOTSTRAP_KEY: &str = "the-operators-bootstrap-key";
/// The password of every actor.
pub const PASSWORD: &str = "correct horse battery";

/// A running kernel. Its clock stands still until it is advanced.
#[derive(Debug)]
pub struct TestKernel {
    /// The kernel itself, for looking behind the API.
    pub kernel: Arc<Kernel>,
    /// Its clock.
    pub clock: Clock,
    /// The database, removed with the kernel.
    pub database: Database,
    config: Config,
    running: Running,
    owner: OnceCell<Actor>,
}

#[derive(Debug)]
struct Running {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl TestKernel {
    /// A kernel on an empty database.
    pub async fn start(backend: Backend) -> Self {
        Box::pin(Self::start_with(backend, |_| ())).await
    }

    /// A kernel with other settings.
    pub async fn start_with(backend: Backend, adjust: impl FnOnce(&mut Config)) -> Self {
        let database = Database::fresh(backend).await;
        let mut config = config(database.url());
        adjust(&mut config);
        let clock = Clock::manual(Timestamp::from_second(1_800_000_000).expect("a time of our days"));
        let starting = Box::pin(Kernel::start(config.clone(), clock.clone()));
        let kernel = starting.await.expect("a kernel starts on an empty database");
        let running = serve(&kernel);
        Self { kernel, clock, database, config, running, owner: OnceCell::new() }
    }

    /// Stops the kernel and starts it again on the same database.
    pub async fn restart(&mut self) {
        self.restart_with(|_| ()).await;
    }

    /// Starts a stopped kernel on the same database, perhaps with other settings.
    pub async fn start_again(&mut self, adjust: impl FnOnce(&mut Config)) {
        adjust(&mut self.config);
        self.kernel = self.try_start(self.config.clone()).await.expect("the kernel starts again");
        self.running = serve(&self.kernel);
    }

    /// Stops the kernel and starts it again on the same database with other settings.
    pub async fn restart_with(&mut self, adjust: impl FnOnce(&mut Config)) {
        self.stop().await;
        self.start_again(adjust).await;
    }

    /// Stops the kernel.
    pub async fn stop(&mut self) {
        self.running.stop.send(true).expect("the server listens to its stop");
        (&mut self.running.serving).await.expect("the server ends").expect("the server ends well");
        self.kernel.stop().await;
    }

    /// Starts another kernel on this kernel's database.
    pub async fn try_start(&self, config: Config) -> Result<Arc<Kernel>, StartError> {
        Box::pin(Kernel::start(config, self.clock.clone())).await
    }

    /// Starts and serves another kernel on this kernel's database.
    pub async fn twin(&self) -> Twin {
        let kernel = self.try_start(self.config()).await.expect("a second kernel starts");
        let running = serve(&kernel);
        Twin { kernel, running }
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> Config {
        self.config.clone()
    }

    /// Lets time pass.
    pub fn pass(&self, time: SignedDuration) {
        self.clock.advance(time);
    }

    /// Where the kernel listens, as `http://ADDRESS`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.running.address)
    }

    /// Somebody without a token.
    #[must_use]
    pub fn anonymous(&self) -> Actor {
        Actor::anonymous(&self.url())
    }

    /// Olga, the operator: owner of the system tenant `platform`, which the first call makes.
    pub async fn owner(&self) -> Actor {
        let owner = self.owner.get_or_init(async || {
            let body = json!({ "tenant": "platform", "email": "olga@platform.test", "password": PASSWORD });
            let made = self.bootstrap(BOOTSTRAP_KEY, &body).await.expect(201);
            let mut owner = self.sign_in("platform", "olga@platform.test", PASSWORD).await;
            owner.identify(&made["tenant_id"], &made["user_id"]);
            owner
        });
        owner.await.at(&self.url())
    }

    /// Asks for the bootstrap.
    pub async fn bootstrap(&self, key: &str, body: &Value) -> Reply {
        self.anonymous().with_header("x-bootstrap-key", key).post("/api/v1/bootstrap", body).await
    }

    /// Signs somebody in.
    pub async fn sign_in(&self, tenant: &str, email: &str, password: &str) -> Actor {
        let token = self.login(tenant, email, password).await.expect(200);
        let token = token["access_token"].as_str().expect("a token").to_owned();
        Actor::with_token(&self.url(), token)
    }

    /// Asks for a sign-in.
    pub async fn login(&self, tenant: &str, email: &str, password: &str) -> Reply {
        let body = json!({ "tenant": tenant, "email": email, "password": password });
        self.anonymous().post("/api/v1/auth/login", &body).await
    }

    /// A new tenant, by the name of its slug; answers its owner, signed in: `owner@SLUG.test`.
    pub async fn tenant(&self, slug: &str) -> Actor {
        let email = format!("owner@{slug}.test");
        let body = json!({ "slug": slug, "name": slug, "owner": { "email": email, "password": PASSWORD } });
        let made = self.owner().await.post("/api/v1/tenants", &body).await.expect(201);
        let mut owner = self.sign_in(slug, &email, PASSWORD).await;
        owner.identify(&made["id"], &made["owner_id"]);
        owner
    }

    /// A new user of an actor's tenant, signed in, with a role of exactly these permissions; without a role when there
    /// are none.
    pub async fn user(&self, made_by: &Actor, name: &str, permissions: &[&str]) -> Actor {
        let me = made_by.get("/api/v1/auth/me").await.expect(200);
        let slug = me["tenant"]["slug"].as_str().expect("a slug");
        let email = format!("{name}@{slug}.test");
        let made = made_by.post("/api/v1/users", &json!({ "email": email, "password": PASSWORD })).await.expect(201);
        if !permissions.is_empty() {
            let role = json!({ "name": format!("{name} role"), "permissions": permissions });
            let role = made_by.post("/api/v1/roles", &role).await.expect(201);
            let path = format!("/api/v1/users/{}/roles/{}", text(&made["id"]), text(&role["id"]));
            made_by.put(&path, &Value::Null).await.done(204);
        }
        let mut user = self.sign_in(slug, &email, PASSWORD).await;
        user.identify(&made["tenant_id"], &made["id"]);
        user
    }

    /// The audit entries that an actor's tenant has of an action, newest first.
    pub async fn audit(&self, reader: &Actor, action: &str) -> Vec<Value> {
        let page = reader.get(&format!("/api/v1/audit?action={action}&limit=200")).await.expect(200);
        page["data"].as_array().expect("a list").clone()
    }
}

/// A second kernel on the same server, as another process would be.
#[derive(Debug)]
pub struct Twin {
    kernel: Arc<Kernel>,
    running: Running,
}

impl Twin {
    /// Where it listens, as `http://ADDRESS`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.running.address)
    }

    /// Stops it.
    pub async fn stop(self) {
        self.running.stop.send(true).expect("the server listens to its stop");
        self.running.serving.await.expect("the server ends").expect("the server ends well");
        self.kernel.stop().await;
    }
}

impl Drop for TestKernel {
    fn drop(&mut self) {
        // A test that stopped its kernel has nobody listening any more.
        let _stopped = self.running.stop.send(true);
        let data_dir = &self.config.data_dir;
        if data_dir.exists() {
            std::fs::remove_dir_all(data_dir).expect("the kernel's directory can be removed");
        }
    }
}

/// The text of a JSON string.
#[must_use]
pub fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

/// The program that cargo built beside this test.
#[must_use]
pub fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a program knows its path");
    let found = test.parent().and_then(Path::parent).map(|profile| profile.join("aibos"));
    let found = found.filter(|path| path.is_file());
    found.expect("aibos is missing: tests/run builds it, or `cargo build --workspace --exclude probe --exclude proxy`")
}

fn config(database_url: &str) -> Config {
    let data_dir = std::env::temp_dir().join(format!("aibos_data_{}", id::uuid(&Clock::System).simple()));
    let mut config = Config::development(data_dir, MasterKey::new([42; 32]));
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    database_url.clone_into(&mut config.database_url);
    config.bootstrap_key = Some(Secret::new(BOOTSTRAP_KEY.to_owned()));
    "https://kernel.test".clone_into(&mut config.issuer);
    "kernel.test".clone_into(&mut config.audience);
    config
}

fn serve(kernel: &Arc<Kernel>) -> Running {
    let listener = server::bind(kernel.config.listen).expect("a port is free");
    let address = listener.local_addr().expect("the listener has an address");
    let (stop, stopped) = watch::channel(false);
    #[expect(clippy::disallowed_methods, reason = "stopped when the kernel is dropped")]
    let serving = tokio::spawn(server::serve(Arc::clone(kernel), listener, stopped));
    Running { address, stop, serving }
}
