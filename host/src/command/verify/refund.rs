//! Refunds, beside their payments: what they took back, and the events that they left.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::payments::place;
use super::reader::{Found, HUB, Pages, Reader};
use super::record::{Payment, Refund};
use super::report::Stop;
use crate::storage::whole::RawEvent;

/// The refunds of a tenant, read beside its payments, whose order they have.
pub(super) struct Refunds<'a> {
    reader: &'a Reader<'a>,
    pages: Pages<'a>,
    /// Those about the refunds of the page, by refund.
    pub(super) events: HashMap<String, Vec<RawEvent>>,
}

/// What the refunds of a payment left.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) events: u64,
    /// Sequence and commit of the last of them.
    pub(super) last: (i64, i64),
}

impl<'a> Refunds<'a> {
    pub(super) fn new(reader: &'a Reader<'a>) -> Self {
        Self { reader, pages: reader.all(HUB, "refund/"), events: HashMap::new() }
    }

    /// The refunds of a payment; the payments must come in order.
    pub(super) async fn of(&mut self, payment: &str) -> Result<Vec<Found<Refund>>, Stop> {
        let mut refunds = Vec::new();
        // `0` is the character after `/`, so this is above every refund of the payment and below those of the next.
        while let Some(refund) = self.pages.next_until::<Refund>(&format!("{payment}/\u{10ffff}")).await? {
            let own =
                refund.name.split_once('/').is_some_and(|(of, id)| of == payment && id == refund.record.refund_id);
            self.reader.claim(own && refund.record.transaction_id == payment, || {
                (format!("refund {}", refund.name), format!("expected its own payment and id, found {}", refund.json))
            })?;
            refunds.push(refund);
        }
        Ok(refunds)
    }

    /// Finds the events of refunds.
    pub(super) async fn look_up(&mut self, ids: Vec<String>) -> Result<(), Stop> {
        self.events = self.reader.events(HUB, ids).await?;
        Ok(())
    }

    /// After the last payment there is no refund.
    pub(super) async fn end(&mut self) -> Result<(), Stop> {
        match self.pages.next_until::<Refund>("\u{10ffff}").await? {
            Some(stray) => {
                Err(self.reader.violation(format!("refund {}", stray.name), "expected its payment, found none"))
            }
            None => Ok(()),
        }
    }
}

/// Checks the refunds of a payment.
pub(super) fn check(
    reader: &Reader<'_>,
    payment: &Found<Payment>,
    refunds: &[Found<Refund>],
    events: &HashMap<String, Vec<RawEvent>>,
) -> Result<Given, Stop> {
    let mut given = Given::default();
    let (mut refunded, mut waiting) = (0_i64, 0_i64);
    let mut waits = BTreeSet::new();
    let mut reversed: BTreeMap<&str, i64> = BTreeMap::new();
    for found in refunds {
        let place = format!("refund {}", found.name);
        let refund = &found.record;
        let sum = refund.parts.iter().fold(0_i64, |sum, part| sum.saturating_add(part.amount));
        let sound = sum == refund.amount && refund.amount > 0 && refund.currency == payment.record.currency;
        reader.claim(sound, || {
            let problem =
                format!("expected the sum of its parts, {sum}, in the payment's currency, found {}", found.json);
            (place.clone(), problem)
        })?;
        let kind = match refund.status.as_str() {
            "succeeded" => {
                refunded = refunded.saturating_add(refund.amount);
                "refund.succeeded"
            }
            "pending" => {
                waiting = waiting.saturating_add(refund.amount);
                waits.insert(refund.refund_id.as_str());
                "refund.created"
            }
            "failed" => "refund.failed",
            other => return Err(reader.violation(place, format!("expected a known status, found {other}"))),
        };
        if refund.status != "failed" {
            for part in &refund.parts {
                let sum = reversed.entry(&part.reverses).or_default();
                *sum = sum.saturating_add(part.amount);
            }
        }
        let about = events.get(&refund.refund_id);
        reader.announced(found, &place, kind, about)?;
        let count = about.map_or(0, Vec::len);
        reader.claim(count <= 2, || (place.clone(), format!("expected at most two events, found {count}")))?;
        given.events += u64::try_from(count).unwrap_or(u64::MAX);
        let last = about.and_then(|events| events.last()).map_or((0, 0), |event| (event.0, event.7));
        given.last = given.last.max(last);
    }
    sums(reader, payment, (refunded, waiting), &waits, &reversed)?;
    Ok(given)
}

fn sums(
    reader: &Reader<'_>,
    found: &Found<Payment>,
    (refunded, waiting): (i64, i64),
    waits: &BTreeSet<&str>,
    reversed: &BTreeMap<&str, i64>,
) -> Result<(), Stop> {
    let payment = &found.record;
    reader.claim((payment.amount_refunded, payment.amount_refunding) == (refunded, waiting), || {
        let expected = format!("expected {refunded} refunded and {waiting} refunding, as its refunds say");
        let problem = format!("{expected}, found {} and {}", payment.amount_refunded, payment.amount_refunding);
        (place(&found.name), problem)
    })?;
    let listed: BTreeSet<&str> = payment.refunds_waiting.iter().map(String::as_str).collect();
    reader.claim(listed == *waits, || {
        (place(&found.name), format!("expected {waits:?} to wait, as its refunds say, found {listed:?}"))
    })?;
    for capture in &payment.captures {
        let back = reversed.get(&*capture.capture_id).copied().unwrap_or_default();
        reader.claim(capture.amount_reversed == back && back <= capture.amount, || {
            let expected =
                format!("expected {back} of {} of capture {} to be taken back", capture.amount, capture.capture_id);
            (place(&found.name), format!("{expected}, found {}", capture.amount_reversed))
        })?;
    }
    Ok(())
}
