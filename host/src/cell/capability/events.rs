//! `aibos:cell/events`: events of a cell, staged until its reply commits. The host sets the source.

use std::sync::atomic::Ordering;

use serde::de::IgnoredAny;

use crate::cell::binding::aibos::cell::events::{Error, Host};
use crate::cell::store::CellStore;
use crate::event::{self, Event};
use crate::{id, limit};

impl Host for CellStore {
    async fn publish(
        &mut self,
        kind: String,
        subject: Option<String>,
        data: String,
    ) -> wasmtime::Result<Result<String, Error>> {
        self.enter("events").await?;
        let Some(tenant) = self.tenant() else { return Ok(Err(Error::NoTenant)) };
        if let Err(refused) = self.check(&kind, subject.as_deref(), &data) {
            return Ok(Err(refused));
        }
        let context = &self.tree.context;
        let id = id::uuid(&context.clock).to_string();
        self.tree.work.publish(Event {
            id: id.clone(),
            id_chosen: false,
            source: format!("/cells/{}", self.version.name),
            kind,
            subject,
            time: context.now,
            data,
            tenant,
            actor: context.actor.principal(),
            correlation: context.correlation,
            traceparent: context.traceparent.clone(),
        });
        Ok(Ok(id))
    }
}

impl CellStore {
    fn check(&self, kind: &str, subject: Option<&str>, data: &str) -> Result<(), Error> {
        if !event::valid_type(kind) {
            return Err(Error::Invalid(format!("type {kind:?} must be dotted lower-case words")));
        }
        let granted = &self.version.manifest.capabilities.publish;
        if !granted.iter().any(|pattern| event::matches(pattern, kind)) {
            return Err(Error::Denied(format!("add {kind:?} to publish in [capabilities] of cell.toml")));
        }
        if !event::valid_subject(subject) {
            return Err(Error::Invalid("subject must be 1 to 256 characters without control characters".into()));
        }
        if data.len() > limit::EVENT_DATA_BYTES_MAX
            || self.tree.events.fetch_add(1, Ordering::Relaxed) >= limit::EVENTS_PER_CALL_MAX
        {
            return Err(Error::TooLarge(format!(
                "at most {} events of at most {} bytes",
                limit::EVENTS_PER_CALL_MAX,
                limit::EVENT_DATA_BYTES_MAX
            )));
        }
        serde_json::from_str::<IgnoredAny>(data)
            .map(|_| ())
            .map_err(|cause| Error::Invalid(format!("data is not JSON: {cause}")))
    }
}
