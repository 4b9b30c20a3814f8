//! `aibos:cell/log`: log lines of a cell, with the request's correlation id.

use std::sync::atomic::Ordering;

use crate::cell::binding::aibos::cell::log::{Host, Level};
use crate::cell::counts::LogLine;
use crate::cell::outcome::Stop;
use crate::cell::store::{CellStore, Tree};
use crate::cell::version::CellVersion;
use crate::limit;

impl Host for CellStore {
    async fn write(&mut self, level: Level, mut message: String) -> wasmtime::Result<()> {
        self.enter("log").await?;
        if self.tree.log_lines.fetch_add(1, Ordering::Relaxed) >= limit::LOG_LINES_PER_CALL_MAX {
            return Err(Stop::Limit("log").into());
        }
        message.truncate(message.floor_char_boundary(limit::LOG_LINE_BYTES_MAX));
        emit(&self.version, &self.tree, level, &message);
        Ok(())
    }
}

/// Writes one line of a cell.
pub fn emit(version: &CellVersion, tree: &Tree, level: Level, message: &str) {
    keep(version, tree, level, message);
    let cell = &*version.name;
    let version = version.reference.version.as_str();
    let correlation_id = tree.context.correlation;
    match level {
        Level::Debug => tracing::debug!(target: "cell", cell, version, %correlation_id, "{message}"),
        Level::Info => tracing::info!(target: "cell", cell, version, %correlation_id, "{message}"),
        Level::Warn => tracing::warn!(target: "cell", cell, version, %correlation_id, "{message}"),
        Level::Error => tracing::error!(target: "cell", cell, version, %correlation_id, "{message}"),
    }
}

/// Keeps a line for `GET /api/v1/cells/{name}/logs`.
fn keep(version: &CellVersion, tree: &Tree, level: Level, message: &str) {
    let Some(cell) = tree.catalog.cell(&version.name) else { return };
    let level = match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    cell.counts.log(LogLine {
        at: tree.context.now,
        level: level.to_owned(),
        message: message.to_owned(),
        correlation_id: tree.context.correlation,
        version: version.reference.version.clone(),
    });
}
