//! `aibos serve`: production. Never seeds, never migrates by itself, refuses unsafe settings.

use std::sync::Arc;

use clap::Args;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::output::Failure;
use crate::clock::Clock;
use crate::config::{Config, Overrides, Profile};
use crate::http::server;
use crate::kernel::Kernel;
use crate::limit;
use crate::telemetry;

/// Serve in production, with settings from the environment and aibos.toml.
#[derive(Clone, Copy, Debug, Args)]
#[command(
    after_help = "Example: AIBOS_MASTER_KEY=$(openssl rand -hex 32) DATABASE_URL=postgres://localhost/aibos aibos serve"
)]
pub struct Serve {}

impl Serve {
    /// Runs until SIGINT or SIGTERM.
    pub async fn run(self) -> Result<(), Failure> {
        let config = Config::load(Profile::Production, &Overrides::default())?;
        telemetry::start_logs(config.log_format);
        telemetry::start_metrics();
        let listener = listen(&config)?;
        let kernel = Kernel::start(config, Clock::System).await?;
        tracing::info!(address = %listener.local_addr()?, "serving");
        serve_until_stopped(kernel, listener).await
    }
}

/// Binds the address of the settings.
pub fn listen(config: &Config) -> Result<TcpListener, Failure> {
    #[cfg(unix)]
    {
        let (files, wanted) = (server::open_files_most(), limit::CONNECTIONS_MAX + limit::FILES_BESIDE);
        if files < wanted as u64 {
            tracing::warn!(
                files,
                wanted,
                "too few files may be open for all connections; raise `ulimit -n` or LimitNOFILE"
            );
        }
    }
    server::bind(config.listen).map_err(|cause| {
        Failure(format!("cannot listen on {}: {cause}; choose another with AIBOS_LISTEN", config.listen))
    })
}

/// Serves, and on a signal lets requests and commits finish.
pub async fn serve_until_stopped(kernel: Arc<Kernel>, listener: TcpListener) -> Result<(), Failure> {
    let (stop, stopped) = watch::channel(false);
    #[expect(clippy::disallowed_methods, reason = "ends with the process")]
    tokio::spawn(async move {
        signal().await;
        tracing::info!("stopping: requests in flight finish first");
        stop.send_replace(true);
    });
    server::serve(Arc::clone(&kernel), listener, stopped).await?;
    kernel.stop().await;
    Ok(())
}

#[cfg(unix)]
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

#[cfg(not(unix))]
async fn signal() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}
