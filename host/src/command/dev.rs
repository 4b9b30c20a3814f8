//! `aibos dev`: the newcomer's command and the author's loop. One command from a clone to a payment, then a swap on every
//! change of a cell's source.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;

use super::output::{Failure, say};
use super::seed::{self, Credentials};
use super::serve::{listen, serve_until_stopped};
use super::toolchain;
use crate::clock::Clock;
use crate::config::{Config, Overrides, Profile};
use crate::kernel::{Kernel, compiled_dir};
use crate::telemetry;

/// How often the sources are looked at.
const WATCH: Duration = Duration::from_secs(1);

/// Build every cell under cells/, seed an embedded database, serve, and swap a cell when its source changes.
#[derive(Debug, Args)]
#[command(after_help = "Example: aibos dev --listen 127.0.0.1:9090")]
pub struct Dev {
    /// Where to listen.
    #[arg(long)]
    listen: Option<String>,
    /// Where the database and the keys are kept.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Forget the database, the keys and the credentials first.
    #[arg(long)]
    reset: bool,
}

impl Dev {
    /// Runs until SIGINT or SIGTERM.
    pub async fn run(self) -> Result<(), Failure> {
        let overrides = Overrides { listen: self.listen, data_dir: self.data_dir };
        if self.reset {
            reset(&Config::data_dir(&overrides))?;
        }
        let config = Config::load(Profile::Development, &overrides)?;
        telemetry::start_logs(config.log_format);
        telemetry::start_metrics();
        let listener = listen(&config)?;
        toolchain::ensure_target().await?;
        let directories = toolchain::find_cells(Path::new("cells"))?;
        let built = toolchain::build(&directories).await?;
        let credentials = Credentials::load_or_create(&config.data_dir)?;
        let kernel = Kernel::start(config, Clock::System).await?;
        seed::people(&kernel, &credentials).await?;
        for cell in &built {
            let version = seed::install(&kernel, &cell.manifest, &cell.component, None).await?;
            say(format_args!("cell {} {version} is active", cell.name))?;
        }
        say(greeting(&listener.local_addr()?.to_string(), &credentials))?;
        let watching = Arc::clone(&kernel);
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with the process; a change that it misses is built next time"
        )]
        tokio::spawn(async move { watch(&watching, &directories).await });
        serve_until_stopped(kernel, listener).await
    }
}

/// What a newcomer needs: the address, who to be, and one line that makes a payment.
fn greeting(address: &str, credentials: &Credentials) -> String {
    let (system, operator, demo, owner) = (seed::SYSTEM, seed::OPERATOR, seed::DEMO, seed::OWNER);
    let Credentials { operator: operator_password, demo: demo_password } = credentials;
    let login = format!(
        "curl -s http://{address}/api/v1/auth/login -H 'content-type: application/json' \
         -d '{{\"tenant\":\"{demo}\",\"email\":\"{owner}\",\"password\":\"{demo_password}\"}}' \
         | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/'"
    );
    format!(
        "\nServing http://{address}\n\n\
         \x20 customer  tenant {demo}    {owner}       password {demo_password}\n\
         \x20 operator  tenant {system}  {operator}  password {operator_password}\n\n\
         Make a payment:\n\n\
         curl -s http://{address}/payments/process -H \"authorization: Bearer $({login})\" \
         -H 'content-type: application/json' -H \"idempotency-key: $(date +%s%N)\" \
         -d '{{\"amount\":1999,\"currency\":\"EUR\",\"source\":\"tok_ok\",\"destination\":\"merchant-1\"}}'\n\n\
         Then look at http://{address}/docs, or change a file under cells/: the cell is swapped while it serves.\n\
         Stop with Ctrl-C."
    )
}

/// Builds and swaps a cell when one of its files, or the SDK, has changed.
async fn watch(kernel: &Arc<Kernel>, directories: &[PathBuf]) {
    let mut seen: Vec<Option<SystemTime>> = directories.iter().map(|directory| changed_at(directory)).collect();
    loop {
        tokio::time::sleep(WATCH).await;
        for (directory, seen) in directories.iter().zip(&mut seen) {
            let now = changed_at(directory);
            if now == *seen {
                continue;
            }
            *seen = now;
            let told = match swap(kernel, directory).await {
                Ok(text) => say(text),
                Err(failure) => say(format_args!("{}: {}", directory.display(), failure.0)),
            };
            if told.is_err() {
                return;
            }
        }
    }
}

async fn swap(kernel: &Arc<Kernel>, directory: &Path) -> Result<String, Failure> {
    let started = Instant::now();
    let built = toolchain::build(&[directory.to_path_buf()]).await?;
    let mut told = Vec::new();
    for cell in built {
        let version = seed::install(kernel, &cell.manifest, &cell.component, None).await?;
        told.push(format!("cell {} {version} is active after {:.1} s", cell.name, started.elapsed().as_secs_f32()));
    }
    Ok(told.join("\n"))
}

/// The newest change among the cell's files and those of the SDK beside it.
fn changed_at(directory: &Path) -> Option<SystemTime> {
    let sdk = directory.with_file_name("sdk");
    [directory, &sdk].into_iter().filter_map(newest).max()
}

fn newest(path: &Path) -> Option<SystemTime> {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).ok()?;
        return entries.filter_map(|entry| newest(&entry.ok()?.path())).max();
    }
    path.metadata().ok()?.modified().ok()
}

/// Removes what `dev` made, and nothing else.
fn reset(data_dir: &Path) -> Result<(), Failure> {
    const MADE: [&str; 6] =
        ["kernel.db", "kernel.db-wal", "kernel.db-shm", "kernel.db.lock", "master.key", "demo-credentials.json"];
    for name in MADE {
        let file = data_dir.join(name);
        match std::fs::remove_file(&file) {
            Ok(()) => {}
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
            Err(cause) => return Err(Failure(format!("{}: {cause}", file.display()))),
        }
    }
    let compiled = compiled_dir(data_dir);
    match std::fs::remove_dir_all(&compiled) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure(format!("{}: {cause}", compiled.display())))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
