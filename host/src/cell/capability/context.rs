//! `aibos:cell/context`: who is calling, and the only clock and source of ids that a cell needs.

use std::time::Instant;

use crate::cell::binding::aibos::cell::context::Host;
use crate::cell::store::CellStore;
use crate::id;

impl Host for CellStore {
    async fn tenant_id(&mut self) -> wasmtime::Result<Option<String>> {
        self.enter("context").await?;
        Ok(self.tenant().map(|tenant| tenant.to_string()))
    }

    async fn user_id(&mut self) -> wasmtime::Result<Option<String>> {
        self.enter("context").await?;
        Ok(self.tree.context.actor.user().map(|user| user.to_string()))
    }

    async fn correlation_id(&mut self) -> wasmtime::Result<String> {
        self.enter("context").await?;
        Ok(self.tree.context.correlation.to_string())
    }

    async fn caller(&mut self) -> wasmtime::Result<Option<String>> {
        self.enter("context").await?;
        Ok(self.caller.as_deref().map(str::to_owned))
    }

    async fn now_ms(&mut self) -> wasmtime::Result<u64> {
        self.enter("context").await?;
        Ok(u64::try_from(self.tree.context.now.as_millisecond()).unwrap_or(0))
    }

    async fn new_id(&mut self) -> wasmtime::Result<String> {
        self.enter("context").await?;
        let id = id::uuid(&self.tree.context.clock).to_string();
        self.tree.work.issue(&id);
        Ok(id)
    }

    async fn remaining_ms(&mut self) -> wasmtime::Result<u64> {
        self.enter("context").await?;
        let remaining = self.deadline.saturating_duration_since(Instant::now());
        Ok(u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX))
    }
}
