//! Whether the process runs and can serve.

use std::path::Path;

use axum::response::Response;
use http::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use crate::cell::supervisor::Breaker;
use crate::config::Config;
use crate::http::operation::Operation;
use crate::http::output::{Ok200, Output, with_type};
use crate::http::problem::{Code, Problem};
use crate::rbac::permit::Public;
use crate::state::unit::Receipt;
use crate::telemetry;

/// A probe's answer.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Alive {
    /// Always `ok`.
    pub status: &'static str,
}

/// `GET /livez`
pub async fn live(_operation: Operation, _permit: Public, (): ()) -> Result<Ok200<Alive>, Problem> {
    Ok(Ok200(Alive { status: "ok" }))
}

/// `GET /readyz`: the database answers, the commit queue has room, and so has the disk.
pub async fn ready(operation: Operation, _permit: Public, (): ()) -> Result<Ok200<Alive>, Problem> {
    operation.kernel.storage.ping().await.map_err(|error| Problem::from(error).with("failing", "database"))?;
    let (waiting, most) = operation.kernel.backlog();
    if waiting * 10 > most * 9 {
        return Err(Problem::new(Code::StorageUnavailable, "The commit queue is nearly full.")
            .with("failing", "commit_queue")
            .retry_after(1));
    }
    check_disks(&operation.kernel.config)?;
    Ok(Ok200(Alive { status: "ok" }))
}

/// Refuses when the data directory or the database's file is on a disk that is nearly full. A directory that is not there
/// yet fills nothing.
fn check_disks(config: &Config) -> Result<(), Problem> {
    let file =
        config.database_url.strip_prefix("sqlite:").map(|path| Path::new(path.strip_prefix("//").unwrap_or(path)));
    for place in [Some(config.data_dir.as_path()), file].into_iter().flatten() {
        let Ok(disk) = rustix::fs::statvfs(place) else { continue };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let size = disk.f_blocks.saturating_mul(disk.f_frsize);
        if free < (config.disk_free_min)(size) {
            tracing::debug!(place = %place.display(), free, "the disk is nearly full");
            return Err(
                Problem::new(Code::StorageUnavailable, "A disk of the kernel is nearly full.").with("failing", "disk")
            );
        }
    }
    Ok(())
}

/// The Prometheus text.
#[derive(Debug)]
pub struct Text(String);

impl Output for Text {
    const STATUS: StatusCode = StatusCode::OK;
    fn respond(self, _receipt: &Receipt) -> Response {
        with_type(Self::STATUS, "text/plain; version=0.0.4", self.0)
    }
    fn describe(_generator: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        Some(("text/plain", json_schema!({"type": "string"})))
    }
}

/// `GET /metrics`
pub async fn metrics(operation: Operation, _permit: Public, (): ()) -> Result<Text, Problem> {
    let kernel = &operation.kernel;
    let (used, idle) = kernel.storage.connections();
    metrics::gauge!("db_pool_connections", "state" => "used").set(f64::from(used));
    metrics::gauge!("db_pool_connections", "state" => "idle").set(f64::from(idle));
    metrics::gauge!("audit_checkpoint_age_seconds").set(kernel.sealer.age_seconds(&kernel.clock));
    for cell in kernel.live.load().catalog.cells.values() {
        let name = metrics::SharedString::from(std::sync::Arc::clone(&cell.version.name));
        metrics::gauge!("cell_instances", "cell" => name.clone(), "state" => "running")
            .set(f64::from(cell.gate.running()));
        let resting = u32::try_from(kernel.registry.warm.count(&cell.version)).unwrap_or(u32::MAX);
        metrics::gauge!("cell_instances", "cell" => name.clone(), "state" => "warm").set(f64::from(resting));
        let breaker = match cell.supervisor.breaker(&cell.version, kernel.clock.now()) {
            Breaker::Closed => 0,
            Breaker::HalfOpen => 1,
            Breaker::Open => 2,
        };
        metrics::gauge!("cell_breaker_state", "cell" => name).set(breaker);
    }
    Ok(Text(telemetry::metrics_text()))
}
