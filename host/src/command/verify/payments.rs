//! Payments: each one's amounts fit its status, and it has the transactions, the hold, the refunds, the charge and the events
//! that it should have, and the ledger has nothing besides.

use std::collections::{HashMap, HashSet};

use super::ledger::{self, About, Books, Posting};
use super::reader::{Found, HUB, LEDGER, PROCESSOR, Pages, Reader};
use super::record::{Charge, End, Hold, Payment, Refund, Side, Transaction};
use super::refund::{self, Given, Refunds};
use super::report::{Counts, Stop};

/// Checks a tenant's payments; answers how many events the hub should have published.
pub(super) async fn check(reader: &Reader<'_>, books: &Books, counts: &mut Counts) -> Result<u64, Stop> {
    let (mut events, mut transactions, mut holds) = (0, 0, 0);
    let mut walk = Walk::new(reader);
    while let Some(page) = walk.next().await? {
        let subjects = page.iter().map(|(payment, _)| payment.name.clone()).collect();
        let about = reader.events(HUB, subjects).await?;
        let known = Known::read(reader, &page).await?;
        for (payment, refunds) in &page {
            rules(reader, payment)?;
            let given = refund::check(reader, payment, refunds, &walk.refunds.events)?;
            history(reader, payment, about.get(&payment.name), &given)?;
            transactions += known.postings(reader, payment, refunds)?;
            holds += known.hold(reader, payment)?;
            known.charge(reader, payment)?;
            events += u64::try_from(about.get(&payment.name).map_or(0, Vec::len)).unwrap_or(u64::MAX) + given.events;
            counts.payments += 1;
            counts.refunds += u64::try_from(refunds.len()).unwrap_or(u64::MAX);
        }
    }
    walk.refunds.end().await?;
    if transactions != books.transactions {
        return Err(stray_transaction(reader).await?);
    }
    if holds != books.open_holds {
        return Err(stray_hold(reader).await?);
    }
    Ok(events)
}

/// Payments with their refunds, in the order of their ids.
struct Walk<'a> {
    payments: Pages<'a>,
    refunds: Refunds<'a>,
}

/// Payments with their refunds.
type Page = Vec<(Found<Payment>, Vec<Found<Refund>>)>;

impl<'a> Walk<'a> {
    fn new(reader: &'a Reader<'a>) -> Self {
        Self { payments: reader.all(HUB, "payment/"), refunds: Refunds::new(reader) }
    }

    async fn next(&mut self) -> Result<Option<Page>, Stop> {
        let payments = self.payments.next::<Payment>().await?;
        if payments.is_empty() {
            return Ok(None);
        }
        let mut page = Page::with_capacity(payments.len());
        for payment in payments {
            let refunds = self.refunds.of(&payment.name).await?;
            page.push((payment, refunds));
        }
        let ids = page.iter().flat_map(|(_, refunds)| refunds).map(|refund| refund.record.refund_id.clone());
        self.refunds.look_up(ids.collect()).await?;
        Ok(Some(page))
    }
}

pub(super) fn place(id: &str) -> String {
    format!("payment {id}")
}

/// What holds of a payment by itself.
fn rules(reader: &Reader<'_>, found: &Found<Payment>) -> Result<(), Stop> {
    let payment = &found.record;
    let (amount, captured, capturable) = (payment.amount, payment.captured(), payment.amount_capturable);
    let wrong = |expected: &str| {
        let is = format!(
            "{} {} with amount {amount}, captured {captured}, capturable {capturable}, refunded {}, refunding {}, hold {:?}",
            if payment.is_manual() { "manual" } else { "automatic" },
            payment.status,
            payment.amount_refunded,
            payment.amount_refunding,
            payment.hold_id
        );
        reader.violation(place(&found.name), format!("expected {expected}, found {is}"))
    };
    let given_back = payment.amount_refunded.saturating_add(payment.amount_refunding);
    let parts = payment.captures.iter().fold(0_i64, |sum, capture| sum.saturating_add(capture.amount));
    let held = payment.hold_id.is_some();
    let (none, some) = (captured == 0, captured > 0 && captured < amount);
    let by_status = match (payment.status.as_str(), payment.is_manual()) {
        ("succeeded", _) => captured == amount && !held,
        ("failed" | "canceled" | "expired", _) | ("processing", false) => none && !held,
        ("processing", true) => held == payment.capture_waiting.is_some(),
        ("conflicted", _) => !held,
        ("requires_capture", true) => none && held && capturable == amount,
        ("partially_captured_and_capturable", true) => some && held,
        ("partially_captured", true) => some && !held,
        _ => false,
    };
    let amounts = [captured, capturable, payment.amount_refunded, payment.amount_refunding];
    let checks = [
        (payment.transaction_id == found.name, "its own id"),
        (amount > 0 && amounts.iter().all(|amount| *amount >= 0), "no amount below zero"),
        (captured.saturating_add(capturable) <= amount, "captured and capturable to be at most its amount"),
        (given_back <= captured, "refunded and refunding to be at most what was captured"),
        (held == (capturable > 0), "a hold while something can be captured, and only then"),
        (!payment.is_manual() || parts == captured, "captured to be the sum of its captures"),
        (
            payment.capture_waiting.is_none() || payment.status == "processing",
            "a capture to wait only while processing",
        ),
        (by_status, "amounts that fit its status"),
    ];
    match checks.into_iter().find(|(holds, _)| !holds) {
        Some((_, expected)) => Err(wrong(expected)),
        None => Ok(()),
    }
}

/// Each change has its event, and the last one is of the commit that wrote the payment.
fn history(reader: &Reader<'_>, found: &Found<Payment>, events: About<'_>, given: &Given) -> Result<(), Stop> {
    let own = events.map_or(&[][..], Vec::as_slice);
    let count = u64::try_from(own.len()).unwrap_or(u64::MAX).saturating_add(given.events);
    let enough = found.record.version.map_or(count >= 1, |version| count == version);
    reader.claim(enough, || {
        let version = found.record.version.unwrap_or(1);
        (place(&found.name), format!("expected {version} events, one for each of its changes, found {count}"))
    })?;
    let last = own.last();
    let commit = last.map_or(0, |event| event.7).max(given.last.1);
    reader.claim(commit == found.version, || {
        let problem = format!("expected its last event in its commit {}, found it in {commit}", found.version);
        (place(&found.name), problem)
    })?;
    let Some(event) = last.filter(|event| event.0 > given.last.0) else { return Ok(()) };
    reader.claim(serde_json::from_str(&event.5).ok().as_ref() == Some(&found.json), || {
        let problem = format!("expected what its last event, {} ({}), carries, found another record", event.0, event.3);
        (place(&found.name), problem)
    })
}

/// What belongs to a page of payments in other cells.
struct Known {
    transactions: HashMap<String, Found<Transaction>>,
    holds: HashMap<String, Found<Hold>>,
    ends: HashMap<String, Found<End>>,
    charges: HashMap<String, Found<Charge>>,
}

impl Known {
    async fn read(reader: &Reader<'_>, page: &Page) -> Result<Self, Stop> {
        let ids = page.iter().flat_map(|(payment, refunds)| postings(payment, refunds)).map(|posting| posting.id);
        let held = || page.iter().filter_map(|(payment, _)| payment.record.hold_id.as_deref());
        let payments = page.iter().map(|(payment, _)| &*payment.name);
        Ok(Self {
            transactions: reader.known(LEDGER, "transaction/", ids).await?,
            holds: reader.known(LEDGER, "hold/", held()).await?,
            ends: reader.known(LEDGER, "hold-end/", held()).await?,
            charges: reader.known(PROCESSOR, "charge/", payments).await?,
        })
    }

    /// The transactions are in the books as they should be; answers how many.
    fn postings(&self, reader: &Reader<'_>, payment: &Found<Payment>, refunds: &[Found<Refund>]) -> Result<u64, Stop> {
        let mut count = 0;
        for Posting { id, amount, reverses } in postings(payment, refunds) {
            let Payment { currency, destination, .. } = &payment.record;
            let sides = if reverses.is_some() { [Side::Credit, Side::Debit] } else { [Side::Debit, Side::Credit] };
            let posted = self.transactions.get(id);
            let fits = posted.is_some_and(|posted| {
                posted.record.reverses.as_deref() == reverses
                    && ledger::moves(&posted.record.entries, sides, amount, currency, destination)
            });
            reader.claim(fits, || {
                let what = if reverses.is_some() { "back from" } else { "to" };
                let expected = format!("expected the transaction {id} of {amount} {currency} {what} {destination}");
                let found = posted.map_or_else(|| "none".to_owned(), |posted| posted.json.to_string());
                (place(&payment.name), format!("{expected}, found {found}"))
            })?;
            count += 1;
        }
        Ok(count)
    }

    /// What can be captured is held; answers how many holds that are.
    fn hold(&self, reader: &Reader<'_>, payment: &Found<Payment>) -> Result<u64, Stop> {
        let Some(id) = &payment.record.hold_id else { return Ok(0) };
        let Payment { currency, destination, amount_capturable, .. } = &payment.record;
        let hold = self.holds.get(id);
        let sides = [Side::Debit, Side::Credit];
        let fits = hold
            .is_some_and(|hold| ledger::moves(&hold.record.entries, sides, *amount_capturable, currency, destination));
        reader.claim(fits && !self.ends.contains_key(id), || {
            let expected =
                format!("expected the hold {id} of {amount_capturable} {currency} for {destination} without an end");
            let found = hold.map_or_else(|| "none".to_owned(), |hold| hold.json.to_string());
            let end = self.ends.get(id).map_or_else(String::new, |end| format!(" that ended: {}", end.json));
            (place(&payment.name), format!("{expected}, found {found}{end}"))
        })?;
        Ok(1)
    }

    /// The processor knows the charge.
    fn charge(&self, reader: &Reader<'_>, payment: &Found<Payment>) -> Result<(), Stop> {
        let Payment { amount, currency, status, .. } = &payment.record;
        let charge = self.charges.get(&payment.name);
        let declined = status == "failed";
        let fits = charge.is_some_and(|Found { record: charge, .. }| {
            // A charge that waited may be found settled before the payment is asked for.
            let waits = status == "processing" || status == "expired";
            let same = (charge.amount, &charge.currency) == (*amount, currency) || status == "conflicted";
            same && ((charge.status == "declined") == declined && (charge.status != "processing" || waits))
        });
        reader.claim(fits, || {
            let found = charge.map_or_else(|| "none".to_owned(), |charge| charge.json.to_string());
            let problem = format!("expected the processor's charge of {amount} {currency} as {status}, found {found}");
            (place(&payment.name), problem)
        })
    }
}

/// The transactions that a payment should have.
fn postings<'a>(payment: &'a Found<Payment>, refunds: &'a [Found<Refund>]) -> impl Iterator<Item = Posting<'a>> {
    let Payment { captures, status, .. } = &payment.record;
    let at_once = (status == "succeeded" && !payment.record.is_manual()).then_some(Posting {
        id: &payment.name,
        amount: payment.record.amount,
        reverses: None,
    });
    let captured = captures.iter().map(|it| Posting { id: &it.capture_id, amount: it.amount, reverses: None });
    let given_back = refunds.iter().filter(|refund| refund.record.status == "succeeded");
    let given_back = given_back.flat_map(|refund| &refund.record.parts).map(|part| Posting {
        id: &part.transaction_id,
        amount: part.amount,
        reverses: Some(&part.reverses),
    });
    at_once.into_iter().chain(captured).chain(given_back)
}

/// Names a transaction that no payment has.
async fn stray_transaction(reader: &Reader<'_>) -> Result<Stop, Stop> {
    let mut wanted = HashSet::new();
    let mut walk = Walk::new(reader);
    while let Some(page) = walk.next().await? {
        for (payment, refunds) in &page {
            for Posting { id, .. } in postings(payment, refunds) {
                if !wanted.insert(id.to_owned()) {
                    let problem = format!("expected the transaction {id} to be of one payment, found it to be of two");
                    return Ok(reader.violation(place(&payment.name), problem));
                }
            }
        }
    }
    let mut pages = reader.all(LEDGER, "transaction/");
    loop {
        let page = pages.next::<Transaction>().await?;
        if let Some(stray) = page.iter().find(|found| !wanted.contains(&found.name)) {
            let problem = "expected a payment, a capture or a refund that it is of, found none";
            return Ok(reader.violation(ledger::place(&stray.name), problem));
        }
        if page.is_empty() {
            return Ok(reader.violation("transactions", "expected as many as the payments have, found others"));
        }
    }
}

/// Names a hold that goes on though no payment has it.
async fn stray_hold(reader: &Reader<'_>) -> Result<Stop, Stop> {
    let mut wanted = HashSet::new();
    let mut payments = reader.all(HUB, "payment/");
    loop {
        let page = payments.next::<Payment>().await?;
        if page.is_empty() {
            break;
        }
        wanted.extend(page.into_iter().filter_map(|payment| payment.record.hold_id));
    }
    let mut pages = reader.all(LEDGER, "hold/");
    loop {
        let page = pages.next::<Hold>().await?;
        if page.is_empty() {
            return Ok(reader.violation("holds", "expected as many as the payments have, found others"));
        }
        let ends = reader.known::<End>(LEDGER, "hold-end/", page.iter().map(|hold| &*hold.name)).await?;
        let stray = page.iter().find(|hold| !ends.contains_key(&hold.name) && !wanted.contains(&hold.name));
        if let Some(stray) = stray {
            let problem = "expected an end, or a payment that has it, found neither";
            return Ok(reader.violation(format!("hold {}", stray.name), problem));
        }
    }
}
