//! The stored replies of idempotency keys: each is of a call that the audit log knows, with its status, and what it says of a
//! payment is so.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;
use uuid::Uuid;

use super::reader::{HUB, Reader};
use super::record::Payment;
use super::report::{Counts, Stop};
use crate::id::TenantId;
use crate::limit;
use crate::storage::Storage;
use crate::storage::whole::RawReply;

/// Checks all stored replies.
pub(super) async fn check(storage: &Storage, counts: &mut Counts) -> Result<(), Stop> {
    let mut after = (Uuid::nil(), String::new(), String::new(), String::new());
    let mut made = HashSet::new();
    loop {
        let place = (after.0, &*after.1, &*after.2, &*after.3);
        let page = storage.raw_replies(place, limit::VERIFY_PAGE).await?;
        let Some((tenant, principal, route, key, ..)) = page.last() else { return Ok(()) };
        after = (*tenant, principal.clone(), route.clone(), key.clone());
        let mut by_tenant: BTreeMap<Uuid, Vec<RawReply>> = BTreeMap::new();
        for reply in page {
            counts.replies += 1;
            by_tenant.entry(reply.0).or_default().push(reply);
        }
        for (tenant, replies) in by_tenant {
            let reader = Reader { storage, tenant: TenantId(tenant) };
            audited(&reader, &replies).await?;
            effects(&reader, &replies, &mut made).await?;
        }
    }
}

fn place((_, principal, route, key, ..): &RawReply) -> String {
    format!("idempotency key {key:?} of {principal} on {route}")
}

/// Time, principal, route and status of a call.
type Call = (i64, String, String, String);

/// Each reply is of a call that was audited.
async fn audited(reader: &Reader<'_>, replies: &[RawReply]) -> Result<(), Stop> {
    let at: HashSet<i64> = replies.iter().map(|reply| reply.6).collect();
    let texts = reader.storage.audited_calls(reader.tenant, &at.into_iter().collect::<Vec<_>>()).await?;
    let calls: HashSet<Call> = texts.iter().filter_map(|text| call(text)).collect();
    for reply in replies {
        let (_, principal, route, _, status, _, created_at, expires_at) = reply;
        let wanted = (*created_at, principal.clone(), route.clone(), status.to_string());
        reader.claim(calls.contains(&wanted), || {
            let problem = "expected an audit entry of a call that was answered so at that time, found none";
            (place(reply), format!("{problem} (status {status}, at {created_at} ms)"))
        })?;
        reader.claim(expires_at > created_at, || {
            (place(reply), format!("expected an end after its beginning at {created_at} ms, found {expires_at} ms"))
        })?;
    }
    Ok(())
}

fn call(text: &str) -> Option<Call> {
    let entry: crate::audit::AuditEntry = serde_json::from_str(text).ok()?;
    let detail = |name: &str| Some(entry.details.get(name)?.as_str()?.to_owned());
    let principal = format!("{}:{}", entry.actor.kind, entry.actor.id);
    Some((entry.at.as_millisecond(), principal, detail("route")?, detail("message")?))
}

/// What a reply of the payment hub says was done is stored; no two keys made the same payment.
async fn effects(reader: &Reader<'_>, replies: &[RawReply], made: &mut HashSet<String>) -> Result<(), Stop> {
    let of_hub = replies.iter().filter(|reply| reply.2 == "/payments" || reply.2.starts_with("/payments/"));
    let named: Vec<(&RawReply, Value, String)> = of_hub
        .filter_map(|reply| {
            let body: Value = serde_json::from_slice(&reply.5).ok()?;
            let body = body.get("payment").cloned().unwrap_or(body);
            let payment = body.get("transaction_id")?.as_str()?.to_owned();
            Some((reply, body, payment))
        })
        .collect();
    let payments = reader.known::<Payment>(HUB, "payment/", named.iter().map(|(.., id)| &**id)).await?;
    for (reply, body, id) in named {
        let payment = payments.get(&id);
        let same = |name: &str, json: &Value| body.get(name).is_none_or(|told| json.get(name) == Some(told));
        let fits = payment.is_some_and(|payment| {
            let whole = body.get("refund_id").is_none();
            same("currency", &payment.json) && (!whole || same("amount", &payment.json))
        });
        reader.claim(fits, || {
            let found = payment.map_or_else(|| "none".to_owned(), |payment| payment.json.to_string());
            (place(reply), format!("expected the payment {id} that its reply tells of, found {found}"))
        })?;
        if matches!(reply.2.as_str(), "/payments" | "/payments/process") {
            let first = made.insert(format!("{}/{id}", reader.tenant));
            reader.claim(first, || {
                (place(reply), format!("expected a payment of its own, found {id}, which another key made"))
            })?;
        }
    }
    Ok(())
}
