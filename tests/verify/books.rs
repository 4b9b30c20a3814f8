//! Changed books: payments, transactions, holds and balances.

use serde_json::json;
use suite::kernel::TestKernel;

use super::corrupt::Intruder;

async fn a_changed_transaction_is_found(test: TestKernel) {
    let intruder = Intruder::begin(test).await;
    let (key, _) = intruder.find("ledger", "transaction/", "1000").await;
    let place = key.replace('/', " ");
    let amount = json!(999);
    intruder
        .field(
            "ledger",
            &key,
            "/entries/0/amount",
            amount,
            &[&place, "debits to equal credits in EUR, found 999 and 1000"],
        )
        .await;
    let at = json!("2026-01-01T00:00:00.000Z");
    intruder.field("ledger", &key, "/posted_at", at, &[&place, "to carry it"]).await;
    intruder.removes("ledger", &key, &["entry", "expected it in the transaction"]).await;

    let (line, value) = intruder.find("ledger", "entry/shop/", "credit").await;
    let id = serde_json::from_str::<serde_json::Value>(&value).unwrap()["transaction_id"].as_str().unwrap().to_owned();
    let of = format!("transaction {id}");
    intruder.field("ledger", &line, "/amount", json!(7), &[&of, &line, "7 EUR"]).await;
    intruder.removes("ledger", &line, &[&of, "found nothing there"]).await;
    let stray = line.replace("/000", "/099").replace("/001", "/099");
    let add = format!(
        "insert into state (tenant, space, key, version, value)
        select tenant, space, '{stray}', version, value from state where {}",
        intruder.at("ledger", &line)
    );
    let remove = format!("delete from state where {}", intruder.at("ledger", &stray));
    intruder.changes(&add, &remove, &[stray.trim_start_matches("entry/"), "in the transaction"]).await;
    let (reversal, _) = intruder.find("ledger", "reversal/", "").await;
    intruder.removes("ledger", &reversal, &["expected the record", &reversal]).await;
    intruder.field("ledger", &reversal, "/0/amount", json!(5000), &["expected the record", &reversal]).await;
}

async fn a_changed_balance_is_found(test: TestKernel) {
    let intruder = Intruder::begin(test).await;
    let account = "account shop: expected";
    intruder.counts("ledger", "account/shop/EUR/posted-credits/low", &[account, "posted in EUR"]).await;
    intruder.counts("ledger", "account/shop/EUR/pending-credits", &[account, "pending in EUR"]).await;
    intruder.counts("ledger", "total/EUR/debits/low", &["trial balance in EUR", "debits to equal credits"]).await;
    intruder.counts("ledger", "available/shop/EUR", &["counter available/shop/EUR", "expected"]).await;
    let about = "account/shop/about";
    intruder.field("ledger", about, "/min_available/EUR", json!(9_000_000), &[account, "its limit of 9000000"]).await;
    intruder.removes("ledger", about, &[account, "only counters"]).await;
}

async fn a_changed_hold_is_found(test: TestKernel) {
    let intruder = Intruder::begin(test).await;
    for (status, words) in [("posted", "expected the hold"), ("voided", "pending"), ("expired", "pending")] {
        let (end, _) = intruder.find("ledger", "hold-end/", status).await;
        intruder.removes("ledger", &end, &[words]).await;
        let id = end.replace("hold-end/", "");
        intruder.removes("ledger", &format!("hold/{id}"), &[&id]).await;
    }
    let (end, _) = intruder.find("ledger", "hold-end/", "rest").await;
    let hold = format!("hold {}", end.replace("hold-end/", ""));
    intruder.field("ledger", &end, "/rest", json!("nowhere"), &["hold ", "expected"]).await;
    intruder.says("ledger", &end, "\"posted\"", "\"voided\"", &[&hold, "nothing posted once voided"]).await;
}

async fn a_changed_payment_is_found(test: TestKernel) {
    let intruder = Intruder::begin(test).await;
    // Charged late, never given back.
    let (key, _) = intruder.find("payment-hub", "payment/", "\"succeeded\" & tok_timeout").await;
    let place = key.replace('/', " ");
    intruder.says("payment-hub", &key, "\"succeeded\"", "\"failed\"", &[&place, "amounts that fit its status"]).await;
    intruder.field("payment-hub", &key, "/amount_refunded", json!(1), &[&place, "as its refunds say"]).await;
    intruder.field("payment-hub", &key, "/version", json!(9), &[&place, "expected 9 events"]).await;
    intruder.field("payment-hub", &key, "/destination", json!("thief"), &[&place, "carries"]).await;
    intruder
        .removes("payment-hub", &key, &[&format!("transaction {}", key.replace("payment/", "")), "found none"])
        .await;
    intruder.removes("processor", &key.replace("payment/", "charge/"), &[&place, "the processor's charge"]).await;
    let (declined, _) = intruder.find("payment-hub", "payment/", "card_declined").await;
    intruder.removes("payment-hub", &declined, &["which it is about", &declined]).await;
    let (refund, _) = intruder.find("payment-hub", "refund/", "succeeded").await;
    let payment = refund.split('/').nth(1).unwrap().to_owned();
    intruder.removes("payment-hub", &refund, &[&format!("payment {payment}"), "expected"]).await;
    intruder.field("payment-hub", &refund, "/amount", json!(7), &["refund ", "the sum of its parts"]).await;
    let (held, _) = intruder.find("payment-hub", "payment/", "requires_capture").await;
    let other = json!("another");
    intruder.field("payment-hub", &held, "/hold_id", other, &[&held.replace('/', " "), "carries"]).await;
}

on_both_kernels!(
    a_changed_transaction_is_found,
    a_changed_balance_is_found,
    a_changed_hold_is_found,
    a_changed_payment_is_found,
);
