//! No request fails because of a swap: calls in flight, with all the cells that they call, finish on what they began on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use suite::actor::{Actor, Reply};
use suite::cell::Guest;
use suite::kernel::{TestKernel, text};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

on_both_kernels!(payments_go_on_while_their_cells_are_swapped);

const CLIENTS: i64 = 16;
const SWAPS: usize = 12;

/// A finance cell with time enough for a machine that is busy with other tests.
fn patient(name: &str) -> Guest {
    let timeout = if name == "payment-hub" { "timeout_ms = 2000" } else { "timeout_ms = 1000" };
    Guest::finance(name).with(timeout, "timeout_ms = 30000")
}

/// Pays until it is told to stop, and passes every reply on.
async fn pay(anna: Actor, client: i64, stop: Arc<AtomicBool>, replies: mpsc::UnboundedSender<Reply>) {
    let body = json!({
        "amount": client,
        "currency": "EUR",
        "source": "tok_ok",
        "destination": format!("shop-{client}"),
    });
    while !stop.load(Ordering::Relaxed) {
        replies.send(anna.post("/payments/process", &body).await).expect("the test listens");
    }
}

async fn payments_go_on_while_their_cells_are_swapped(test: TestKernel) {
    let olga = test.owner().await;
    for name in ["ledger", "processor", "payment-hub"] {
        patient(name).install(&olga).await;
    }
    let anna = test.tenant("acme").await;
    let stop = Arc::new(AtomicBool::new(false));
    let (sender, mut replies) = mpsc::unbounded_channel();
    let mut clients = JoinSet::new();
    for client in 1..=CLIENTS {
        clients.spawn(pay(anna.clone(), client, Arc::clone(&stop), sender.clone()));
    }
    drop(sender);
    let mut paid = 0;
    for swap in 0..SWAPS {
        // Two more versions are uploaded under load; after them the swaps go back and forth.
        let (name, version) = (["payment-hub", "ledger"][swap % 2], ["1.0.1", "1.0.0"][swap / 2 % 2]);
        if swap < 2 {
            patient(name).version(version).upload(&olga, "?activate=true").await.done(201);
        } else {
            let activation = json!({ "version": version });
            olga.post(&format!("/api/v1/cells/{name}/activate"), &activation).await.done(200);
        }
        let shown = olga.get(&format!("/api/v1/cells/{name}")).await.expect(200);
        assert_eq!((text(&shown["active_version"]), text(&shown["state"])), (version, "active"));
        for _ in 0..2 * CLIENTS {
            paid += paid_amount(replies.recv().await.expect("the clients go on"));
        }
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(reply) = replies.recv().await {
        paid += paid_amount(reply);
    }
    clients.join_all().await;

    let balance = anna.get("/ledger/trial-balance").await.expect(200);
    assert_eq!(balance["data"], json!([{ "currency": "EUR", "debits": paid, "credits": paid }]));
    let activations = test.audit(&olga, "cell.activate").await;
    assert_eq!(activations.len(), SWAPS - 2, "{activations:?}");
    for name in ["payment-hub", "ledger", "processor"] {
        let counters = olga.get(&format!("/api/v1/cells/{name}")).await.expect(200)["counters"].clone();
        assert_eq!(counters["restarts"], 0, "{name}: {counters}");
    }
    let versions: Vec<String> =
        test.audit(&anna, "cell.call").await.iter().map(|call| text(&call["cell"]["version"]).to_owned()).collect();
    assert!(versions.iter().any(|version| version == "1.0.0") && versions.iter().any(|version| version == "1.0.1"));
}

/// The amount of a payment that must have succeeded and must say what was asked for.
fn paid_amount(reply: Reply) -> i64 {
    let payment = reply.expect(201);
    let amount = payment["amount"].as_i64().unwrap();
    assert_eq!(payment["status"], "succeeded", "{payment}");
    assert_eq!(payment["destination"], format!("shop-{amount}"), "{payment}");
    amount
}
