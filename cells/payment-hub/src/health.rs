//! `GET /payments/health`: the hub itself and the two cells that it needs, each asked through the host.

use aibos_cell::{Health, Problem, Reply, Request, calls, json};

/// Always 200: the answer is about the cells, not about this request.
pub(crate) fn show(_: &Request) -> Result<Reply, Problem> {
    let processor = judge("processor");
    let ledger = judge("ledger");
    let status = if processor == "healthy" && ledger == "healthy" { "healthy" } else { "degraded" };
    Reply::json(
        200,
        &json!({
            "service": "cell-payment-hub",
            "status": status,
            "cells": {
                "gateway": { "status": "healthy" },
                "processor": { "status": processor },
                "ledger": { "status": ledger },
            },
        }),
    )
}

/// A degraded cell still serves; one that cannot be asked does not.
fn judge(cell: &str) -> &'static str {
    match calls::health(cell) {
        Ok(Health::Healthy | Health::Degraded) => "healthy",
        Ok(Health::Unhealthy) | Err(_) => "unhealthy",
    }
}
