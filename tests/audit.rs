//! The audit log as evidence: proofs that hold and mutated ones that do not, tampering that is found where it was done, and
//! kernels that never sign a second history.

mod evidence;
mod mutated;
mod tampering;

use aibos::audit::check::{self, Report};
use aibos::audit::checkpoint::Checkpoint;
use aibos::audit::{AuditEntry, Outcome, Party};
use aibos::id::{AuditId, CorrelationId, TenantId};
use aibos::kernel::Kernel;
use aibos::state::unit::Unit;

/// An entry of a tenant.
fn entry(kernel: &Kernel, tenant: TenantId, action: &str) -> AuditEntry {
    AuditEntry {
        id: AuditId::new(&kernel.clock),
        at: kernel.clock.now(),
        tenant_id: tenant,
        actor: Party::new("user", "ada"),
        action: action.into(),
        target: Party::new("payment", "p-1"),
        outcome: Outcome::Success,
        correlation_id: CorrelationId::new(&kernel.clock),
        details: serde_json::Map::new(),
        cell: None,
        receipt: None,
    }
}

/// Commits entries of two tenants in turn and signs a checkpoint.
async fn grow(kernel: &Kernel, tenants: [TenantId; 2], count: usize) {
    let audit = tenants.into_iter().cycle().take(count).map(|tenant| entry(kernel, tenant, "payment.create")).collect();
    kernel.commit(Unit { audit, ..Unit::default() }).await.expect("the entries are committed");
    kernel.seal_audit().await;
}

/// The newest checkpoint, as an auditor keeps it.
async fn keep(kernel: &Kernel) -> Checkpoint {
    Checkpoint::open(&newest_note(kernel).await, kernel.sealer.key()).expect("the kernel signed it")
}

async fn newest_note(kernel: &Kernel) -> String {
    let (_, newest) = kernel.storage.audit_end().await.expect("the log can be read");
    let size = newest.expect("something was signed");
    let (_, note) = kernel.storage.audit_checkpoints(size - 1, size, 1).await.unwrap().remove(0);
    String::from_utf8(note).expect("a note is text")
}

async fn verify(kernel: &Kernel, kept: &[Checkpoint]) -> Report {
    check::verify(&kernel.storage, kernel.sealer.key(), kept).await.expect("the log can be read")
}
