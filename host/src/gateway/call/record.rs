//! What is kept of a call: its audit entries, the reports of what failed, and the reply of its key.

use std::sync::PoisonError;

use bytes::Bytes;

use super::CellCall;
use crate::audit::{AuditEntry, Outcome as AuditOutcome, Party};
use crate::cell::binding::Response;
use crate::cell::catalog::ActiveCell;
use crate::cell::outcome::TrapReport;
use crate::cell::store::{NestedFailure, Tree};
use crate::kernel::Kernel;
use crate::limit;
use crate::state::unit::{ReplyKey, StoredReply, Unit, Write};

impl CellCall {
    pub(super) fn stored_reply(&self, key: &ReplyKey, response: &Response) -> StoredReply {
        StoredReply {
            key: key.clone(),
            fingerprint: self.fingerprint(),
            status: response.status,
            headers: response.headers.clone(),
            body: Bytes::copy_from_slice(&response.body),
            created_at: self.context.now,
            expires_at: self.context.now.saturating_add(limit::IDEMPOTENCY_LIFE).unwrap_or(self.context.now),
        }
    }

    /// An entry with the receipt of what ran.
    pub(super) fn entry_of(
        &self,
        cell: &ActiveCell,
        tree: &Tree,
        outcome: AuditOutcome,
        ended: &str,
        message: &str,
    ) -> AuditEntry {
        AuditEntry { receipt: tree.receipt(), ..self.entry(cell, outcome, ended, message) }
    }

    pub(super) fn entry(&self, cell: &ActiveCell, outcome: AuditOutcome, ended: &str, message: &str) -> AuditEntry {
        let reference = cell.version.reference.clone();
        let mut entry = self.context.entry("cell.call", Party::new("cell", &reference.name), outcome);
        entry.details.insert("method".into(), self.method.as_str().into());
        entry.details.insert("route".into(), self.route.target.template.as_ref().into());
        entry.details.insert("outcome".into(), ended.into());
        entry.details.insert("message".into(), message.into());
        entry.cell = Some(reference);
        entry
    }

    /// Adds the reports of cells that failed below: their callers may have handled it, it happened all the same.
    pub(super) fn add_failures(&self, kernel: &Kernel, tree: &Tree, unit: &mut Unit) -> Vec<NestedFailure> {
        unit.audit.extend(self.reveals());
        let failures = std::mem::take(&mut *tree.failures.lock().unwrap_or_else(PoisonError::into_inner));
        for NestedFailure { cell, report, .. } in &failures {
            let Some(report) = report else { continue };
            let mut entry = self.context.entry("cell.failure", Party::new("cell", &cell.name), AuditOutcome::Failure);
            entry.details.insert("outcome".into(), report.kind.as_str().into());
            entry.details.insert("message".into(), report.message.as_str().into());
            unit.writes.push(trap_write(kernel, &cell.name, report));
            entry.cell = Some(cell.clone());
            unit.audit.push(entry);
        }
        failures
    }

    pub(super) fn remember_reveals(&self, tree: &Tree) {
        let mut revealed = self.revealed.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in tree.reveals() {
            if !revealed.iter().any(|known| known.target == entry.target) {
                revealed.push(entry);
            }
        }
    }

    pub(super) fn reveals(&self) -> Vec<AuditEntry> {
        self.revealed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn forget_reveals(&self) {
        self.revealed.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

pub(super) fn trap_write(kernel: &Kernel, cell: &str, report: &TrapReport) -> Write {
    let bytes = serde_json::to_vec(report).unwrap_or_default();
    Write::Put(kernel.gateway.trap_slot(cell), bytes.into())
}
