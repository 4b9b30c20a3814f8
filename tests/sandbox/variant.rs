//! The probe under other names and with other limits. A variant has no routes of its own, so that many can be active beside
//! each other: it is reached as `/cells/NAME/probe/…`.

use suite::actor::Actor;
use suite::cell::Guest;
use suite::kernel::TestKernel;

/// The probe with time enough for a machine that is busy with other tests; its fuel is the usual one.
pub(crate) fn patient_probe() -> Guest {
    Guest::probe().with("timeout_ms = 1000", "timeout_ms = 30000")
}

/// The probe with as much fuel and time as a manifest may ask for.
pub(crate) fn lavish_probe() -> Guest {
    patient_probe().with("fuel = 50_000_000", "fuel = 10_000_000_000")
}

/// The same cell under another name, without routes for HTTP.
pub(crate) fn renamed(guest: Guest, name: &str) -> Guest {
    let mut renamed = guest.with("name = \"probe\"", &format!("name = \"{name}\""));
    let tables: Vec<&str> =
        renamed.manifest.split("\n\n").filter(|table| !table.contains("[[trigger.http]]")).collect();
    renamed.manifest = tables.join("\n\n");
    renamed
}

/// Anna, who owns the tenant `acme`, at a kernel with the patient probe.
pub(crate) async fn anna_with_a_probe(test: &TestKernel) -> Actor {
    patient_probe().install(&test.owner().await).await;
    test.tenant("acme").await
}
