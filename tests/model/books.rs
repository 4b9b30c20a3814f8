//! The whole of it, from the outside: balances and statements against the model, every transaction and event by itself.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use suite::actor::Actor;
use suite::kernel::text;

use super::draw::{CURRENCIES, MERCHANTS};
use super::run::Run;

impl Run {
    /// Balances, entries, statements and the trial balance.
    pub(super) async fn check_books(&mut self) {
        let mut receivable: BTreeMap<&str, [i128; 2]> = BTreeMap::new();
        for merchant in MERCHANTS {
            for currency in CURRENCIES {
                let [posted, pending] = [self.model.posted(merchant, currency), self.model.pending(merchant, currency)];
                self.check_account(merchant, currency, posted, pending).await;
                let sums = receivable.entry(currency).or_default();
                *sums = [sums[0] + posted, sums[1] + pending];
            }
        }
        for (currency, [posted, pending]) in receivable {
            self.check_account("processor-receivable", currency, posted, pending).await;
        }
        for account in MERCHANTS.into_iter().chain(["processor-receivable"]) {
            self.check_entries(account).await;
        }
        let trial = self.merchant.get("/ledger/trial-balance").await.expect(200);
        let expected: Vec<Value> = CURRENCIES
            .into_iter()
            .map(|currency| (currency, i64::try_from(self.model.turnover(currency)).unwrap()))
            .filter(|(_, sum)| *sum > 0)
            .map(|(currency, sum)| json!({ "currency": currency, "debits": sum, "credits": sum }))
            .collect();
        assert_eq!(trial, json!({ "data": expected }));
        assert_eq!(self.other.get("/ledger/trial-balance").await.expect(200), json!({ "data": [] }));
        assert_eq!(self.other.get("/payments").await.expect(200)["data"], json!([]));
        let listed = all(&self.merchant, "/payments?limit=200").await;
        assert_eq!(listed.len(), self.model.payments.len());
        for payment in &self.model.payments {
            let refunds = all(&self.merchant, &format!("/payments/refunds/{}?limit=200", payment.id)).await;
            assert_eq!(refunds.len(), payment.refunds, "{payment:?}");
        }
    }

    async fn check_account(&self, code: &str, currency: &str, posted: i128, pending: i128) {
        let reply = self.merchant.get(&format!("/ledger/accounts/{code}")).await;
        if reply.status == 404 {
            assert!(posted == 0 && pending == 0, "{code} is missing");
            return;
        }
        let account = reply.expect(200);
        let [posted, pending] = [posted, pending].map(|sum| i64::try_from(sum).unwrap());
        let balances = account["balances"].as_array().unwrap();
        let Some(balance) = balances.iter().find(|balance| balance["currency"] == currency) else {
            assert!(posted == 0 && pending == 0, "{code} has no {currency}: {account}");
            return;
        };
        // Nothing that goes out is ever held here, so all that is posted is available.
        let shown = [&balance["posted"], &balance["pending"], &balance["available"]].map(Value::as_i64);
        assert_eq!(shown, [posted, pending, posted].map(Some), "{code}: {account}");
        if let Some(min) = balance["min_available"].as_i64() {
            assert!(posted >= min, "{code} is below its limit: {account}");
        }
    }

    /// Nothing that was seen before has changed; the statement, which adds up entries, ends where the counters stand; what
    /// it says of the past has not changed either.
    async fn check_entries(&mut self, code: &str) {
        let account = self.merchant.get(&format!("/ledger/accounts/{code}")).await;
        if account.status == 404 {
            return;
        }
        let entries = all(&self.merchant, &format!("/ledger/accounts/{code}/entries?limit=7")).await;
        let before = self.seen.insert(code.to_owned(), entries.clone()).unwrap_or_default();
        assert_eq!(entries[..before.len()], before);

        let lines = all(&self.merchant, &format!("/ledger/accounts/{code}/statement?limit=5")).await;
        assert_eq!(lines.len(), entries.len());
        let normal = account.json["normal_balance"].clone();
        let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
        for (line, entry) in lines.iter().zip(&entries) {
            assert_eq!(line["transaction_id"], entry["transaction_id"]);
            let amount = entry["amount"].as_i64().unwrap();
            let sum = sums.entry(text(&entry["currency"])).or_default();
            *sum += if entry["direction"] == normal { amount } else { -amount };
            assert_eq!(line["balance"], *sum, "{line}");
        }
        for balance in account.json["balances"].as_array().unwrap() {
            assert_eq!(balance["posted"].as_i64(), Some(sums.get(text(&balance["currency"])).copied().unwrap_or(0)));
        }
        if let Some(last) = lines.get(before.len().wrapping_sub(1)) {
            let at = text(&last["posted_at"]);
            let then = self.merchant.get(&format!("/ledger/accounts/{code}?at={at}")).await.expect(200);
            let held = then["balances"].as_array().unwrap().iter().find(|it| it["currency"] == last["currency"]);
            assert_eq!(held.unwrap()["posted"], last["balance"], "{then}");
        }
    }

    /// Every event by itself: each change once, each transaction balanced, each hold ended at most once, nothing taken
    /// back that was not posted.
    pub(super) async fn check_events(&self) {
        let events = log(&self.merchant).await;
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        let mut changes: BTreeMap<&str, u64> = BTreeMap::new();
        let mut held: BTreeMap<&str, i64> = BTreeMap::new();
        let mut ended: BTreeSet<&str> = BTreeSet::new();
        let mut posted: BTreeMap<&str, i64> = BTreeMap::new();
        let mut taken_back: BTreeMap<&str, i64> = BTreeMap::new();
        for event in &events {
            let (kind, data) = (text(&event["type"]), &event["data"]);
            *counts.entry(kind).or_default() += 1;
            match kind {
                "ledger.transaction.pending" => {
                    assert!(held.insert(text(&data["id"]), balanced(data)).is_none(), "{data}");
                }
                "ledger.transaction.voided" | "ledger.transaction.expired" => {
                    assert!(held.contains_key(text(&data["id"])) && ended.insert(text(&data["id"])), "{data}");
                }
                "ledger.transaction.posted" => {
                    let amount = balanced(data);
                    assert!(posted.insert(text(&data["id"]), amount).is_none(), "{data}");
                    if let Some(hold) = data["resolves"].as_str() {
                        assert!(amount <= held[hold] && ended.insert(hold), "{data}");
                    }
                    if let Some(original) = data["reverses"].as_str() {
                        let sum = taken_back.entry(original).or_default();
                        *sum += amount;
                        assert!(*sum <= posted[original], "{data}");
                    }
                    let shown = self.merchant.get(&format!("/ledger/transactions/{}", text(&data["id"]))).await;
                    assert_eq!(shown.expect(200), *data);
                }
                "ledger.account.limited" => {}
                _ => *changes.entry(text(&data["transaction_id"])).or_default() += 1,
            }
        }
        assert_eq!(counts.into_iter().collect::<Vec<_>>(), nonzero(&self.model.events));
        for payment in &self.model.payments {
            assert_eq!(changes.get(payment.id.as_str()), Some(&payment.version), "{payment:?}");
        }
        let open: i128 =
            held.iter().filter(|(id, _)| !ended.contains(*id)).map(|(_, amount)| i128::from(*amount)).sum();
        let pending: i128 = self.model.payments.iter().map(|payment| i128::from(payment.held)).sum();
        assert_eq!(open, pending);
        assert!(log(&self.other).await.is_empty());
    }
}

/// The amount of a transaction or hold of one debit and one credit, which must be equal.
fn balanced(data: &Value) -> i64 {
    let entries = data["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 2, "{data}");
    assert_ne!(entries[0]["direction"], entries[1]["direction"], "{data}");
    assert_eq!(entries[0]["amount"], entries[1]["amount"], "{data}");
    assert_eq!(entries[0]["currency"], entries[1]["currency"], "{data}");
    let amount = entries[0]["amount"].as_i64().unwrap();
    assert!(amount > 0, "{data}");
    amount
}

fn nonzero(counts: &BTreeMap<&'static str, u64>) -> Vec<(&'static str, u64)> {
    counts.iter().map(|(kind, count)| (*kind, *count)).filter(|(_, count)| *count > 0).collect()
}

/// Every page of a list.
async fn all(actor: &Actor, path: &str) -> Vec<Value> {
    let mut items = Vec::new();
    let mut next = path.to_owned();
    loop {
        let page = actor.get(&next).await.expect(200);
        items.extend(page["data"].as_array().unwrap().iter().cloned());
        let Some(cursor) = page["next_cursor"].as_str() else { return items };
        next = format!("{path}&cursor={cursor}");
    }
}

/// The whole event log.
async fn log(actor: &Actor) -> Vec<Value> {
    let mut events: Vec<Value> = Vec::new();
    loop {
        let after = events.last().map_or(0, |event| event["sequence"].as_i64().unwrap());
        let page = actor.get(&format!("/api/v1/events?limit=200&after={after}")).await.expect(200);
        let page = page["data"].as_array().unwrap();
        if page.is_empty() {
            return events;
        }
        for event in page {
            assert_eq!(event["sequence"].as_i64(), Some(i64::try_from(events.len()).unwrap() + 1));
            events.push(event.clone());
        }
    }
}
