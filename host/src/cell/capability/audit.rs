//! `aibos:cell/audit`: notes of a cell in the audit log, committed with its reply.

use std::sync::atomic::Ordering;

use serde_json::{Map, Value};

use crate::audit::{Outcome, Party};
use crate::cell::binding::aibos::cell::audit::{Error, Host};
use crate::cell::store::CellStore;
use crate::{event, limit};

impl Host for CellStore {
    async fn note(&mut self, action: String, details: String) -> wasmtime::Result<Result<(), Error>> {
        self.enter("audit").await?;
        if self.tenant().is_none() {
            return Ok(Err(Error::NoTenant));
        }
        if action.len() > 64 || !event::valid_type(&action) {
            return Ok(Err(Error::Invalid(format!("action {action:?} must be dotted lower-case words"))));
        }
        if details.len() > limit::AUDIT_DETAILS_BYTES_MAX
            || self.tree.notes.fetch_add(1, Ordering::Relaxed) >= limit::AUDIT_NOTES_PER_CALL_MAX
        {
            return Ok(Err(Error::TooLarge(format!(
                "at most {} notes of at most {} bytes",
                limit::AUDIT_NOTES_PER_CALL_MAX,
                limit::AUDIT_DETAILS_BYTES_MAX
            ))));
        }
        let Ok(details) = serde_json::from_str::<Map<String, Value>>(&details) else {
            return Ok(Err(Error::Invalid("details must be a JSON object".into())));
        };
        let name = &self.version.reference.name;
        let mut entry =
            self.tree.context.entry(&format!("cell.{name}.{action}"), Party::new("cell", name), Outcome::Success);
        entry.details = details;
        entry.cell = Some(self.version.reference.clone());
        self.tree.work.note(entry);
        Ok(Ok(()))
    }
}
