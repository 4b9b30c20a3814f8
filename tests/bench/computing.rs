//! The computing route as cells: typed and in the standard world, with fresh and with warm instances.

use std::sync::Arc;

use aibos::command::seed;
use aibos::kernel::Kernel;

/// What the computing route asks of its callers.
pub(crate) const PERMISSION: &str = "bench.use";

/// Calls of a warm instance: more than it will have.
const WARM: &str = "[limits]\ninstance = { warm = 1000000 }\n";

/// Installs `bench-cell`, `bench-cell-warm`, `bench-proxy` and `bench-proxy-warm`, each at `/bench/…`.
pub(crate) async fn install(kernel: &Arc<Kernel>) {
    for (name, file, limits) in [
        ("cell", "quote_cell", ""),
        ("proxy", "quote_proxy", ""),
        ("cell-warm", "quote_cell", WARM),
        ("proxy-warm", "quote_proxy", WARM),
    ] {
        let component = std::fs::read(format!("target/wasm32-wasip2/release/examples/{file}.wasm"));
        let component = component.expect("tests/bench/run builds it");
        let manifest = format!(
            "[cell]\nname = \"bench-{name}\"\nversion = \"1.0.0\"\ndescription = \"A quote.\"\npermission = \"{PERMISSION}\"\n\
             [[trigger.http]]\nroute = \"/bench/{name}\"\nmethods = [\"POST\"]\npermission = \"{PERMISSION}\"\n\
             idempotency = \"none\"\naudit = \"effects\"\n{limits}"
        );
        let installed = seed::install(kernel, &manifest, &component, None).await;
        installed.map_err(|failure| failure.0).expect("a cell is installed");
    }
}
