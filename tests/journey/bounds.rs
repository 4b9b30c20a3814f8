//! What grows with the years or with one payment stays answerable: backlogs of refunds, pages of large records, statements in
//! every currency. Old records are written behind the kernel's back, because there would be too many to make.

use aibos::id::{BatchId, NodeId};
use aibos::state::Space;
use aibos::state::unit::{Unit, Verdict, Write};
use bytes::Bytes;
use serde_json::{Value, json};
use suite::actor::{Actor, Reply};
use suite::cell::install_finance;
use suite::kernel::{TestKernel, text};

async fn merchant(test: &TestKernel) -> Actor {
    install_finance(&test.owner().await).await;
    test.tenant("acme").await
}

/// Writes records of a cell as if they had always been there.
async fn seed(test: &TestKernel, owner: &Actor, cell: &str, records: impl Iterator<Item = (String, Value)>) {
    let space = Space { tenant: owner.tenant_id.parse().unwrap(), name: cell.into() };
    let writes: Vec<Write> =
        records.map(|(key, record)| Write::Put(space.key(&key), Bytes::from(record.to_string()))).collect();
    let node = NodeId::new(&test.clock);
    for chunk in writes.chunks(500) {
        let unit = Unit { writes: chunk.to_vec(), ..Unit::default() };
        let verdicts = test.kernel.storage.commit(node, BatchId::new(&test.clock), &[unit]).await.unwrap();
        assert!(matches!(verdicts[..], [Verdict::Committed(_)]), "{verdicts:?}");
    }
}

async fn act(anna: &Actor, payment: &Value, step: &str, body: Value) -> Reply {
    anna.post(&format!("/payments/{}/{step}", text(&payment["transaction_id"])), &body).await
}

/// Every page of a list; each but the last says where the next one begins, and none is empty.
async fn all(actor: &Actor, path: &str) -> (Vec<Value>, usize) {
    let (mut items, mut pages, mut next) = (Vec::new(), 0, path.to_owned());
    loop {
        let page = actor.get(&next).await.expect(200);
        let data = page["data"].as_array().unwrap();
        assert!(!data.is_empty(), "{next}");
        items.extend(data.iter().cloned());
        pages += 1;
        let Some(cursor) = page["next_cursor"].as_str() else { return (items, pages) };
        next = format!("{path}&cursor={cursor}");
    }
}

fn waiting(payment: &Value) -> usize {
    payment["refunds_waiting"].as_array().map_or(0, Vec::len)
}

async fn a_backlog_of_refunds_is_settled_in_steps(test: TestKernel) {
    let anna = merchant(&test).await;
    let order = json!({ "amount": 1000, "currency": "EUR", "source": "tok_refund_timeout", "destination": "shop" });
    let paid = anna.post("/payments/process", &order).await.expect(201);
    let id = text(&paid["transaction_id"]);
    // Reversals of before there was one record of their sum; one more than there may be with the twenty.
    let line = |account: &str, direction: &str| json!({ "account": account, "direction": direction, "amount": 1, "currency": "EUR" });
    let entries = json!([line("processor-receivable", "credit"), line("shop", "debit")]);
    seed(&test, &anna, "ledger", (0..481).map(|n| (format!("reversal/{id}/old{n:03}:1"), entries.clone()))).await;

    for _ in 0..20 {
        act(&anna, &paid, "refunds", json!({ "amount": 1 })).await.done(202);
    }
    act(&anna, &paid, "refunds", json!({ "amount": 1 })).await.refused(409, "TOO_MANY_REFUNDS");
    for left in [15, 10, 5, 1] {
        let synced = act(&anna, &paid, "sync", json!({})).await.expect(200);
        assert_eq!((waiting(&synced), &synced["amount_refunding"]), (left, &json!(left)));
        assert_eq!(synced["amount_refunded"], 20 - left);
    }
    // The ledger takes no more; that one waits, and nothing fails.
    let synced = act(&anna, &paid, "sync", json!({})).await.expect(200);
    assert_eq!((waiting(&synced), &synced["amount_refunded"]), (1, &json!(19)));
}

async fn a_refund_over_a_limit_keeps_no_other_waiting(test: TestKernel) {
    let anna = merchant(&test).await;
    let order = json!({
        "amount": 1000, "currency": "EUR", "source": "tok_refund_timeout", "destination": "shop",
        "capture_method": "manual",
    });
    let held = anna.post("/payments", &order).await.expect(201);
    act(&anna, &held, "capture", json!({ "amount": 300 })).await.done(200);
    act(&anna, &held, "capture", json!({})).await.done(200);
    // Its first part alone would not reach the limit; it is booked whole or not at all.
    act(&anna, &held, "refunds", json!({ "amount": 700 })).await.done(202);
    let small = act(&anna, &held, "refunds", json!({ "amount": 100 })).await.expect(202);
    let limit = "/ledger/accounts/shop/limits/EUR";
    anna.put(limit, &json!({ "min_available": 500 })).await.done(200);

    let synced = act(&anna, &held, "sync", json!({})).await.expect(200);
    assert_eq!((waiting(&synced), &synced["amount_refunded"]), (1, &json!(100)));
    let account = anna.get("/ledger/accounts/shop").await.expect(200);
    assert_eq!(account["balances"][0]["posted"], 900);
    let path = format!("/payments/refunds/{}", text(&held["transaction_id"]));
    let refunds = anna.get(&path).await.expect(200);
    for refund in refunds["data"].as_array().unwrap() {
        let is_small = refund["refund_id"] == small["refund_id"];
        assert_eq!(refund["status"], if is_small { "succeeded" } else { "pending" });
    }

    anna.put(limit, &json!({ "min_available": null })).await.done(200);
    let synced = act(&anna, &held, "sync", json!({})).await.expect(200);
    assert_eq!((waiting(&synced), &synced["amount_refunded"]), (0, &json!(800)));
}

async fn a_refund_of_fifty_captures_is_booked_at_once(test: TestKernel) {
    let anna = merchant(&test).await;
    let order = json!({
        "amount": 50, "currency": "EUR", "source": "tok_refund_timeout", "destination": "shop",
        "capture_method": "manual",
    });
    let held = anna.post("/payments", &order).await.expect(201);
    for _ in 0..50 {
        act(&anna, &held, "capture", json!({ "amount": 1 })).await.done(200);
    }
    act(&anna, &held, "refunds", json!({ "amount": 49 })).await.done(202);
    act(&anna, &held, "refunds", json!({ "amount": 1 })).await.done(202);
    act(&anna, &held, "refunds", json!({ "amount": 1 })).await.refused(422, "REFUND_AMOUNT_TOO_LARGE");
    let synced = act(&anna, &held, "sync", json!({})).await.expect(200);
    assert_eq!((waiting(&synced), &synced["amount_refunded"]), (0, &json!(50)));
    let trial = anna.get("/ledger/trial-balance").await.expect(200);
    assert_eq!(trial["data"], json!([{ "currency": "EUR", "debits": 100, "credits": 100 }]));
}

async fn large_records_make_short_pages(test: TestKernel) {
    let anna = merchant(&test).await;
    let reference = "\"".repeat(255);
    let capture = |n: usize| json!({ "capture_id": format!("{n:036}"), "amount": 1, "amount_reversed": 1 });
    let payment = |n: usize| {
        json!({
            "transaction_id": format!("p{n:03}"), "version": 60, "status": "succeeded", "capture_method": "manual",
            "amount": 50, "amount_captured": 50, "currency": "EUR", "source": "tok_ok", "destination": "shop",
            "reference": reference, "created_at": "2026-11-21T07:53:00.000Z",
            "captures": (0..50).map(capture).collect::<Vec<_>>(),
            "refunds_waiting": (0..20).map(|n| format!("{n:036}")).collect::<Vec<_>>(),
        })
    };
    seed(&test, &anna, "payment-hub", (0..200).map(|n| (format!("payment/p{n:03}"), payment(n)))).await;
    let part =
        |n: usize| json!({ "transaction_id": format!("{n:036}:1"), "reverses": format!("{n:036}"), "amount": 1 });
    let refund = |n: usize| {
        json!({
            "refund_id": format!("r{n:03}"), "transaction_id": "p000", "status": "succeeded", "amount": 50,
            "currency": "EUR", "reason": reference, "created_at": "2026-11-21T07:53:00.000Z",
            "parts": (0..50).map(part).collect::<Vec<_>>(),
        })
    };
    seed(&test, &anna, "payment-hub", (0..200).map(|n| (format!("refund/p000/r{n:03}"), refund(n)))).await;
    for path in ["/payments?limit=200", "/payments/refunds/p000?limit=200"] {
        let (items, pages) = all(&anna, path).await;
        assert_eq!(items.len(), 200, "{path}");
        assert!((2..20).contains(&pages), "{path}: {pages}");
    }
}

async fn a_statement_holds_every_currency_and_many_entries(test: TestKernel) {
    let anna = merchant(&test).await;
    let currencies: Vec<&str> = CURRENCIES.split_whitespace().collect();
    let about =
        json!({ "kind": "merchant-payable", "type": "liability", "normal_balance": "credit", "created_at": "x" });
    let entry = |n: usize, code: &str, amount: i64| {
        let transaction = format!("{n:064}");
        let key = format!("{:015}-{transaction}/0", 1_700_000_000_000_u64 + u64::try_from(n).unwrap());
        let entry = json!({
            "transaction_id": transaction, "direction": "credit", "amount": amount,
            "currency": code, "posted_at": "2023-11-14T22:13:20.000Z",
        });
        (key, entry)
    };
    let many = currencies.iter().cycle().take(currencies.len() * 3).enumerate();
    let many =
        many.map(|(n, code)| entry(n, code, AMOUNT_MAX)).map(|(key, entry)| (format!("entry/world/{key}"), entry));
    seed(&test, &anna, "ledger", many.chain([("account/world/about".to_owned(), about.clone())])).await;
    let (lines, pages) = all(&anna, "/ledger/accounts/world/statement?limit=180").await;
    assert_eq!((lines.len(), pages), (currencies.len() * 3, 3));
    assert_eq!(lines.last().unwrap()["balance"], json!(3 * AMOUNT_MAX));

    let most = ENTRIES_MAX;
    let long = (0..=most)
        .map(|n| entry(n, "EUR", 3_000_000_000_000_000))
        .map(|(key, entry)| (format!("entry/long/{key}"), entry));
    seed(&test, &anna, "ledger", long.chain([("account/long/about".to_owned(), about)])).await;
    let moment = |n: usize| {
        let ms = 1_700_000_000_000_i64 + i64::try_from(n).unwrap();
        format!("/ledger/accounts/long?at={}", jiff::Timestamp::from_millisecond(ms).unwrap())
    };
    let past = anna.get(&moment(most - 1)).await.expect(200);
    let sum = i64::try_from(most).unwrap() * 3_000_000_000_000_000;
    assert_eq!(past["balances"], json!([{ "currency": "EUR", "posted": sum }]));
    anna.get(&moment(most)).await.refused(422, "STATEMENT_TOO_LONG");
}

/// As many entries as one answer of the ledger adds up.
const ENTRIES_MAX: usize = 2_500;

/// The largest amount of one payment.
const AMOUNT_MAX: i64 = 9_007_199_254_740_991;

/// Every currency that there is.
const CURRENCIES: &str = "\
    BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD \
    BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN \
    ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP \
    LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP \
    PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD \
    TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG BHD IQD JOD KWD LYD OMR TND CLF UYW";

on_both_kernels!(
    a_backlog_of_refunds_is_settled_in_steps,
    a_refund_over_a_limit_keeps_no_other_waiting,
    a_refund_of_fifty_captures_is_booked_at_once,
    large_records_make_short_pages,
    a_statement_holds_every_currency_and_many_entries,
);
