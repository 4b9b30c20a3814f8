//! `aibos:cell/log`: log lines of a cell, with the request's correlation id.

use std::sync::atomic::Ordering;

use crate::cell::binding::aibos::cell::log::{Host, Level};
use crate::cell::gate::LogLine;
use crate::cell::outcome::Stop;
use crate::cell::store::CellStore;
use crate::limit;

impl CellStore {
    fn keep_line(&self, level: Level, message: &str) {
        let Some(cell) = self.tree.catalog.cell(&self.version.name) else { return };
        let level = match level {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        cell.counts.log(LogLine {
            at: self.tree.context.now,
            level: level.to_owned(),
            message: message.to_owned(),
            correlation_id: self.tree.context.correlation,
            version: self.version.reference.version.clone(),
        });
    }
}

impl Host for CellStore {
    async fn write(&mut self, level: Level, mut message: String) -> wasmtime::Result<()> {
        self.enter().await?;
        if self.tree.log_lines.fetch_add(1, Ordering::Relaxed) >= limit::LOG_LINES_PER_CALL_MAX {
            return Err(Stop::Limit("log").into());
        }
        message.truncate(message.floor_char_boundary(limit::LOG_LINE_BYTES_MAX));
        self.keep_line(level, &message);
        let cell = &*self.version.name;
        let version = self.version.reference.version.as_str();
        let correlation_id = self.tree.context.correlation;
        match level {
            Level::Debug => tracing::debug!(target: "cell", cell, version, %correlation_id, "{message}"),
            Level::Info => tracing::info!(target: "cell", cell, version, %correlation_id, "{message}"),
            Level::Warn => tracing::warn!(target: "cell", cell, version, %correlation_id, "{message}"),
            Level::Error => tracing::error!(target: "cell", cell, version, %correlation_id, "{message}"),
        }
        Ok(())
    }
}
