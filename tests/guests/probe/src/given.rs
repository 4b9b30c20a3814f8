//! Settings and secrets that the operator gives.

use aibos_cell::{Effect, Problem, Reply, Request, Router, config, json, secrets};

/// Adds the routes of this file.
pub(crate) fn routes(router: Router) -> Router {
    router.get("/probe/config/{name}", setting).post("/probe/secret/{name}", secret)
}

fn setting(request: &Request) -> Result<Reply, Problem> {
    Reply::json(200, &json!({ "value": config::value(request.parameter("name")?)? }))
}

/// Obtains a secret twice, and reveals each handle unless `?then=obtain`. `?then=decline` drops the call after that,
/// `?then=trap` traps.
#[expect(clippy::panic, reason = "the trap is what is tested")]
fn secret(request: &Request) -> Result<Reply, Problem> {
    let name = request.parameter("name")?;
    let then = request.query("then")?.unwrap_or_default();
    let handles = match (secrets::obtain(name), secrets::obtain(name)) {
        (Ok(first), Ok(second)) => [first, second],
        (Err(error), _) | (_, Err(error)) => return Reply::json(200, &json!({ "error": format!("{error:?}") })),
    };
    let mut value = String::new();
    if then != "obtain" {
        for handle in &handles {
            value = handle.reveal()?;
        }
    }
    match then.as_str() {
        "decline" => Err(Problem::new(402, "PROBE_DECLINED", "The probe declines.").effect(Effect::Discard)),
        "trap" => panic!("the probe traps as asked"),
        _ => Reply::json(200, &json!({ "value": value })),
    }
}
