//! The ledger balances and adds up, and each payment has exactly the transaction, charge, events and reply that its status
//! asks for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Facts, Findings};
use crate::fault::data::{Data, Row};

/// Debits and credits.
type Sides = (i128, i128);
/// By tenant, account and currency; the account is empty for the total.
type Sums = BTreeMap<(Uuid, String, String), Sides>;

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    transactions(facts, findings);
    let (entries, counters) = (fold_entries(facts), fold_counters(facts, findings));
    for key in entries.keys().chain(counters.keys()).collect::<BTreeSet<_>>() {
        let (folded, counted) = (entries.get(key).copied().unwrap_or_default(), counters.get(key).copied());
        let same = counted.unwrap_or_default() == folded;
        findings.claim(same, || format!("{:?} holds {counted:?}, its entries say {folded:?}", (&key.1, &key.2)));
    }
    for ((_, account, currency), (debits, credits)) in &counters {
        let balances = !account.is_empty() || debits == credits;
        findings.claim(balances, || format!("the books do not balance in {currency}: {debits} and {credits}"));
    }
    payments(facts, findings);
    replies(facts, findings);
}

/// What `GET /ledger/trial-balance` must answer to a tenant.
pub(in crate::fault) fn trial_balance(data: &Data, tenant: Uuid) -> Value {
    let sums = fold_entries(&Facts::of(data));
    let own = sums.iter().filter(|((of, account, _), _)| *of == tenant && account.is_empty());
    let lines = own.map(|((.., currency), (debits, credits))| {
        let (debits, credits) = (i64::try_from(*debits).ok(), i64::try_from(*credits).ok());
        json!({ "currency": currency, "debits": debits, "credits": credits })
    });
    json!({ "data": lines.collect::<Vec<_>>() })
}

fn side(entry: &Value, amount: i128) -> Sides {
    if entry["direction"] == "debit" { (amount, 0) } else { (0, amount) }
}

fn amount(entry: &Value) -> i128 {
    entry["amount"].as_i64().unwrap_or_default().into()
}

fn add(sums: &mut Sums, key: (Uuid, String, String), (debit, credit): Sides) {
    let (debits, credits) = sums.entry(key).or_default();
    *debits += debit;
    *credits += credit;
}

/// Each transaction balances, and its lines are exactly the entries of its accounts.
fn transactions(facts: &Facts<'_>, findings: &mut Findings) {
    let mut lines = BTreeMap::new();
    for (row, rest) in facts.under("ledger", "entry/") {
        let mut parts = rest.split('/');
        let (account, index) = (parts.next().unwrap_or_default(), parts.nth(1).unwrap_or_default());
        let entry = row.json();
        let id = entry["transaction_id"].as_str().unwrap_or_default().to_owned();
        lines.insert((row.tenant, id, index.parse::<usize>().unwrap_or(usize::MAX)), (account, row.version, entry));
    }
    for (row, id) in facts.under("ledger", "transaction/") {
        let transaction = row.json();
        let entries = transaction["entries"].as_array().cloned().unwrap_or_default();
        findings.claim(entries.len() >= 2, || format!("transaction {id} has fewer than two entries"));
        let mut sums: BTreeMap<&str, i128> = BTreeMap::new();
        for (index, entry) in entries.iter().enumerate() {
            findings.claim(amount(entry) > 0, || format!("transaction {id} has an amount that is not positive"));
            let (debit, credit) = side(entry, amount(entry));
            *sums.entry(entry["currency"].as_str().unwrap_or_default()).or_default() += debit - credit;
            let line = lines.remove(&(row.tenant, id.to_owned(), index));
            let same = line.is_some_and(|(account, version, line)| {
                let fields = ["direction", "amount", "currency"].iter().all(|field| line[*field] == entry[*field]);
                fields && entry["account"] == account && version == row.version
            });
            findings.claim(same, || format!("line {index} of transaction {id} is not in its account"));
        }
        findings.claim(sums.values().all(|sum| *sum == 0), || format!("transaction {id} does not balance"));
    }
    for (_, id, index) in lines.keys() {
        findings.0.push(format!("line {index} of transaction {id} belongs to none"));
    }
}

fn fold_entries(facts: &Facts<'_>) -> Sums {
    let mut sums = Sums::new();
    for (row, rest) in facts.under("ledger", "entry/") {
        let entry = row.json();
        let account = rest.split('/').next().unwrap_or_default();
        let currency = entry["currency"].as_str().unwrap_or_default();
        for of in [account, ""] {
            add(&mut sums, (row.tenant, of.to_owned(), currency.to_owned()), side(&entry, amount(&entry)));
        }
    }
    sums
}

/// The posted sums as the ledger keeps them: `high · 10^9 + low`.
fn fold_counters(facts: &Facts<'_>, findings: &mut Findings) -> Sums {
    let mut sums = Sums::new();
    let totals = facts.under("ledger", "total/").map(|(row, rest)| (row, "", rest));
    let accounts = facts.under("ledger", "account/").filter_map(|(row, rest)| {
        let (account, rest) = rest.split_once('/')?;
        Some((row, account, rest))
    });
    for (row, account, rest) in totals.chain(accounts) {
        let mut parts = rest.split('/');
        let (currency, name, part) = (parts.next(), parts.next(), parts.next());
        let (Some(currency), Some(name), Some(part)) = (currency, name, part) else { continue };
        let Some(count) = std::str::from_utf8(&row.value).ok().and_then(|text| text.parse::<i128>().ok()) else {
            findings.0.push(format!("counter {} is no number", row.key));
            continue;
        };
        let worth = if part == "high" { count * 1_000_000_000 } else { count };
        let sides = match name {
            "debits" | "posted-debits" => (worth, 0),
            "credits" | "posted-credits" => (0, worth),
            _ => continue,
        };
        add(&mut sums, (row.tenant, account.to_owned(), currency.to_owned()), sides);
    }
    sums
}

/// The events that a payment of this status and source has left, in their order, and whether it is in the books.
fn traces(payment: &Value) -> Option<(&'static [&'static str], bool)> {
    let waited = payment["source"] == "tok_timeout";
    Some(match (payment["status"].as_str()?, waited) {
        ("succeeded", false) => (&["ledger.transaction.posted", "payment.succeeded"], true),
        ("succeeded", true) => (&["ledger.transaction.posted", "payment.created", "payment.succeeded"], true),
        ("processing", true) => (&["payment.created"], false),
        ("failed", false) => (&["payment.failed"], false),
        _ => return None,
    })
}

fn payments(facts: &Facts<'_>, findings: &mut Findings) {
    for (row, id) in facts.under("payment-hub", "payment/") {
        let payment = row.json();
        let Some((kinds, posted)) = traces(&payment) else {
            findings.0.push(format!("payment {id} is {}, which it cannot be", payment["status"]));
            continue;
        };
        let mut seen: Vec<_> = facts.events(row.tenant, id).iter().map(|event| &*event.kind).collect();
        seen.sort_unstable();
        findings.claim(seen == kinds, || format!("payment {id} left the events {seen:?} and not {kinds:?}"));
        let newest = facts.events(row.tenant, id).iter().map(|event| event.commit).max();
        findings.claim(newest == Some(row.version), || format!("payment {id} and its events are of two commits"));
        let transaction = facts.row(row.tenant, "ledger", &format!("transaction/{id}"));
        findings.claim(transaction.is_some() == posted, || {
            format!("payment {id} is {} with {} transactions", payment["status"], u8::from(transaction.is_some()))
        });
        if let Some(transaction) = transaction {
            findings.claim(transaction.version == row.version, || format!("payment {id} was posted in another commit"));
            findings.claim(is_posting_of(transaction, &payment), || format!("payment {id} was posted as another"));
        }
        let charge = facts.row(row.tenant, "processor", &format!("charge/{id}")).map(Row::json).unwrap_or_default();
        let charged = charge["amount"] == payment["amount"] && charge["currency"] == payment["currency"];
        findings.claim(charged, || format!("payment {id} was charged otherwise: {charge}"));
    }
    for (space, prefix) in [("ledger", "transaction/"), ("processor", "charge/")] {
        for (row, id) in facts.under(space, prefix) {
            let paid = facts.row(row.tenant, "payment-hub", &format!("payment/{id}")).is_some();
            findings.claim(paid, || format!("{} has no payment", row.key));
        }
    }
}

/// The processor owes us, and we owe the destination.
fn is_posting_of(transaction: &Row, payment: &Value) -> bool {
    let transaction = transaction.json();
    let line = |account: &Value, direction: &str| json!({ "account": account, "direction": direction, "amount": payment["amount"], "currency": payment["currency"] });
    let receivable = json!("processor-receivable");
    transaction["entries"] == json!([line(&receivable, "debit"), line(&payment["destination"], "credit")])
}

/// Each payment has one stored reply and one call in the audit log, and the other way round.
fn replies(facts: &Facts<'_>, findings: &mut Findings) {
    let mut unanswered: BTreeSet<(Uuid, String)> =
        facts.under("payment-hub", "payment/").map(|(row, id)| (row.tenant, id.to_owned())).collect();
    for reply in facts.data.replies.iter().filter(|reply| reply.route == "/payments/process") {
        let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let id = body["transaction_id"].as_str().unwrap_or_default();
        let payment =
            facts.row(reply.tenant, "payment-hub", &format!("payment/{id}")).map(Row::json).unwrap_or_default();
        let effect = payment["reference"] == *reply.key;
        findings.claim(effect, || format!("the reply of key {} has no effect", reply.key));
        let status = match reply.status {
            201 => ["succeeded", "succeeded"],
            202 => ["processing", "succeeded"],
            _ => ["failed", "failed"],
        };
        let fits = payment["status"].as_str().is_none_or(|now| status.contains(&now));
        findings.claim(fits, || format!("the reply of key {} was {}, not so its payment", reply.key, reply.status));
        unanswered.remove(&(reply.tenant, id.to_owned()));
    }
    for (_, id) in unanswered {
        findings.0.push(format!("payment {id} has no stored reply"));
    }
    for route in ["/payments/process", "/payments/{id}/sync"] {
        let audited = facts.done("cell.call").filter(|(_, body)| body["details"]["route"] == route).count();
        let kept = facts.data.replies.iter().filter(|reply| reply.route == route).count();
        findings.claim(audited == kept, || format!("{route} has {kept} stored replies and {audited} audit entries"));
    }
}
