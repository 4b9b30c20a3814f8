//! Every request that was acknowledged is there exactly once and answered alike each time; every other at most once; and
//! what was refused left nothing.

use std::collections::{BTreeMap, HashMap, HashSet};

use uuid::Uuid;

use super::{Facts, Findings};
use crate::fault::data::Row;
use crate::fault::journal::{Attempt, Heard, Intent, Journal};
use crate::fault::operation::{Operation, email};

/// What the requests are held against.
struct Effects<'a> {
    /// Payments by tenant and reference.
    payments: HashMap<(Uuid, String), Vec<&'a Row>>,
    /// Users by tenant and address.
    users: HashMap<(Uuid, String), Vec<String>>,
    /// Published by users: how often, by tenant and id.
    published: HashMap<(Uuid, &'a str), usize>,
    /// Stored replies by tenant, route and key.
    replies: HashMap<(Uuid, &'a str, &'a str), &'a [u8]>,
    /// Requests of which a success is on record, with how often.
    done: HashMap<Uuid, usize>,
    /// Successes by action and target.
    targets: HashMap<(String, String), usize>,
}

impl<'a> Effects<'a> {
    fn of(facts: &Facts<'a>) -> Self {
        let mut effects = Self {
            payments: HashMap::new(),
            users: HashMap::new(),
            published: HashMap::new(),
            replies: HashMap::new(),
            done: HashMap::new(),
            targets: HashMap::new(),
        };
        for (row, _) in facts.under("payment-hub", "payment/") {
            let reference = row.json()["reference"].as_str().unwrap_or_default().to_owned();
            effects.payments.entry((row.tenant, reference)).or_default().push(row);
        }
        for (row, id) in facts.under("kernel", "user/") {
            let address = row.json()["email"].as_str().unwrap_or_default().to_owned();
            effects.users.entry((row.tenant, address)).or_default().push(id.to_owned());
        }
        for event in facts.data.events.iter().filter(|event| event.source.starts_with("/users/")) {
            *effects.published.entry((event.tenant, &event.id)).or_default() += 1;
        }
        for reply in &facts.data.replies {
            effects.replies.insert((reply.tenant, &reply.route, &reply.key), &reply.body);
        }
        for (entry, body) in facts.successes.values().flatten() {
            *effects.done.entry(entry.correlation).or_default() += 1;
            let action = body["action"].as_str().unwrap_or_default();
            let target = body["target"]["id"].as_str().unwrap_or_default();
            *effects.targets.entry((action.to_owned(), target.to_owned())).or_default() += 1;
        }
        effects
    }
}

pub(super) fn check(journal: &Journal, facts: &Facts<'_>, findings: &mut Findings) {
    let effects = Effects::of(facts);
    let acknowledged: HashSet<&str> = journal
        .intents
        .values()
        .filter(|(intent, attempts)| acknowledgements(intent, attempts).next().is_some())
        .map(|(intent, _)| intent.id.as_str())
        .collect();
    for (intent, attempts) in journal.intents.values() {
        answers(intent, attempts, &effects, findings);
        let Ok(tenant) = intent.tenant.parse::<Uuid>() else {
            findings.0.push(format!("{} has no tenant", intent.id));
            continue;
        };
        match intent.operation {
            Operation::Pay | Operation::Decline | Operation::Wait => {
                payment(tenant, intent, attempts, &effects, findings);
            }
            Operation::Sync => sync(tenant, intent, attempts, facts, findings),
            Operation::Publish => publish(tenant, intent, attempts, &effects, findings),
            Operation::CreateUser => user(tenant, intent, attempts, &effects, findings),
            Operation::Trap => {
                let none = !effects.payments.contains_key(&(tenant, intent.id.clone()));
                findings.claim(none, || format!("{} trapped and left a payment", intent.id));
            }
            Operation::Reuse => {
                let of = intent.about.as_deref().unwrap_or_default();
                findings
                    .claim(acknowledged.contains(of), || format!("{} reuses a key that was never taken", intent.id));
            }
        }
    }
}

fn acknowledgements<'a>(intent: &'a Intent, attempts: &'a [Attempt]) -> impl Iterator<Item = (&'a Attempt, &'a Heard)> {
    let heard = attempts.iter().filter_map(|attempt| Some((attempt, attempt.heard.as_ref()?)));
    heard.filter(|(_, heard)| intent.operation.acknowledged(heard.status))
}

/// What each reply says of itself: one first answer, its copies, and refusals that tell the truth.
fn answers(intent: &Intent, attempts: &[Attempt], effects: &Effects<'_>, findings: &mut Findings) {
    let id = &intent.id;
    let mut bodies = BTreeMap::<&str, usize>::new();
    let mut firsts = 0;
    for attempt in attempts {
        let correlation = attempt.correlation.parse::<Uuid>().unwrap_or_default();
        let done = effects.done.get(&correlation).copied().unwrap_or_default();
        findings.claim(done <= 1, || format!("one sending of {id} was done {done} times"));
        let Some(heard) = &attempt.heard else { continue };
        let Heard { status, replayed, body } = heard;
        if intent.operation.acknowledged(*status) {
            *bodies.entry(body).or_default() += 1;
            let again = *replayed || (intent.operation == Operation::Publish && *status == 200);
            let first = !again;
            firsts += usize::from(first);
            findings.claim(first == (done == 1), || format!("{id} was answered {status} by what it did {done} times"));
            continue;
        }
        let code = heard.code();
        let weather = match status {
            503 | 504 => true,
            409 => matches!(code.as_str(), "IDEMPOTENCY_KEY_IN_USE" | "WRITE_CONFLICT"),
            _ => false,
        };
        let expected = weather || intent.operation.may_hear(*status, &code);
        findings.claim(expected, || format!("{id} was answered {status}: {body}"));
        // The only answer that leaves it open.
        let open = code == "COMMIT_UNKNOWN";
        findings.claim(open || done == 0, || format!("{id} was refused with {status} {code} and done all the same"));
    }
    findings.claim(bodies.len() <= 1, || format!("{id} was answered in {} ways: {bodies:?}", bodies.len()));
    findings.claim(firsts <= 1, || format!("{id} was answered {firsts} times as if it were new"));
}

fn payment(tenant: Uuid, intent: &Intent, attempts: &[Attempt], effects: &Effects<'_>, findings: &mut Findings) {
    let id = &intent.id;
    let there = effects.payments.get(&(tenant, id.clone())).map_or(&[][..], Vec::as_slice);
    findings.claim(there.len() <= 1, || format!("{id} made {} payments", there.len()));
    let Some((_, heard)) = acknowledgements(intent, attempts).next() else { return };
    let Some(row) = there.first() else {
        return findings.0.push(format!("{id} was acknowledged and its payment is not there"));
    };
    let (answer, payment) = (heard.json(), row.json());
    let same = row.key.strip_prefix("payment/") == answer["transaction_id"].as_str();
    findings.claim(same, || format!("{id} was answered with another payment"));
    let asked: serde_json::Value = serde_json::from_str(&intent.body).unwrap_or_default();
    let kept = ["amount", "currency", "source", "destination"].iter().all(|field| asked[*field] == payment[*field]);
    findings.claim(kept, || format!("{id} asked for {asked} and made {payment}"));
    let stored = effects.replies.get(&(tenant, "/payments/process", id.as_str()));
    let same = stored.is_some_and(|stored| *stored == heard.body.as_bytes());
    findings.claim(same, || format!("the stored reply of {id} is not what was answered"));
}

fn sync(tenant: Uuid, intent: &Intent, attempts: &[Attempt], facts: &Facts<'_>, findings: &mut Findings) {
    if acknowledgements(intent, attempts).next().is_none() {
        return;
    }
    let payment = intent.about.as_deref().unwrap_or_default();
    let row = facts.row(tenant, "payment-hub", &format!("payment/{payment}"));
    let settled = row.is_some_and(|row| row.json()["status"] == "succeeded");
    findings.claim(settled, || format!("{} was acknowledged and payment {payment} still waits", intent.id));
}

fn publish(tenant: Uuid, intent: &Intent, attempts: &[Attempt], effects: &Effects<'_>, findings: &mut Findings) {
    let id = intent.id.as_str();
    let there = effects.published.get(&(tenant, id)).copied().unwrap_or_default();
    let least = usize::from(acknowledgements(intent, attempts).next().is_some());
    findings.claim((least..=1).contains(&there), || format!("{id} was published {there} times"));
    audited("event.publish", id, there, effects, findings);
}

fn user(tenant: Uuid, intent: &Intent, attempts: &[Attempt], effects: &Effects<'_>, findings: &mut Findings) {
    let there = effects.users.get(&(tenant, email(&intent.id))).map_or(&[][..], Vec::as_slice);
    let heard = acknowledgements(intent, attempts).next().map(|(_, heard)| heard.json());
    let refused = attempts.iter().filter_map(|attempt| attempt.heard.as_ref()).any(|heard| heard.status == 409);
    let least = usize::from(heard.is_some() || refused);
    findings.claim((least..=1).contains(&there.len()), || format!("{} is {} users", intent.id, there.len()));
    if let (Some(heard), Some(user)) = (&heard, there.first()) {
        findings.claim(heard["id"] == **user, || format!("{} was answered with another user", intent.id));
    }
    for user in there {
        audited("user.create", user, 1, effects, findings);
    }
}

fn audited(action: &str, target: &str, expected: usize, effects: &Effects<'_>, findings: &mut Findings) {
    let there = effects.targets.get(&(action.to_owned(), target.to_owned())).copied().unwrap_or_default();
    findings.claim(there == expected, || format!("{action} of {target} has {there} audit entries"));
}
