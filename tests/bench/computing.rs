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
    for (name, version, file, limits) in [
        // Two versions, for swaps.
        ("cell", "1.0.0", "quote_cell", ""),
        ("cell", "1.0.1", "quote_cell", ""),
        ("proxy", "1.0.0", "quote_proxy", ""),
        ("cell-warm", "1.0.0", "quote_cell", WARM),
        ("proxy-warm", "1.0.0", "quote_proxy", WARM),
    ] {
        let component = std::fs::read(format!("target/wasm32-wasip2/release/examples/{file}.wasm"));
        let mut component = component.expect("tests/bench/run builds it");
        mark(&mut component, version.as_bytes());
        let manifest = format!(
            "[cell]\nname = \"bench-{name}\"\nversion = \"{version}\"\ndescription = \"A quote.\"\npermission = \"{PERMISSION}\"\n\
             [[trigger.http]]\nroute = \"/bench/{name}\"\nmethods = [\"POST\"]\npermission = \"{PERMISSION}\"\n\
             idempotency = \"none\"\naudit = \"effects\"\n{limits}"
        );
        let installed = seed::install(kernel, &manifest, &component, None).await;
        installed.map_err(|failure| failure.0).expect("a cell is installed");
    }
}

/// Makes a component another one that does the same: with a custom section at its end that holds some bytes.
pub(crate) fn mark(component: &mut Vec<u8>, bytes: &[u8]) {
    let length = u8::try_from(2 + bytes.len()).expect("a few bytes");
    component.extend([0, length, 1, b'n']);
    component.extend(bytes);
}
