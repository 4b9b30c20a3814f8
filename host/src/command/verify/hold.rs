//! Holds: each is announced, ends at most once and only in ways that leave what belongs to them; what is held now is summed
//! up for [`super::accounts`].

use super::accounts::Sums;
use super::ledger::About;
use super::reader::{Found, LEDGER, Reader};
use super::record::{End, Hold, Transaction};
use super::report::Stop;

/// How many there are.
#[derive(Debug, Default)]
pub(super) struct Holds {
    pub(super) all: u64,
    /// Without an end.
    pub(super) open: u64,
    /// Voided or expired.
    pub(super) released: u64,
}

/// Checks a tenant's holds.
pub(super) async fn check(reader: &Reader<'_>, sums: &mut Sums) -> Result<Holds, Stop> {
    let mut holds = Holds::default();
    let mut ended = 0_u64;
    let mut pages = reader.all(LEDGER, "hold/");
    loop {
        let page = pages.next::<Hold>().await?;
        if page.is_empty() {
            break;
        }
        let names = || page.iter().map(|hold| &*hold.name);
        let events = reader.events(LEDGER, names().map(str::to_owned).collect()).await?;
        let ends = reader.known::<End>(LEDGER, "hold-end/", names()).await?;
        let posted = ends.values().filter_map(|end| end.record.transaction_id.as_deref());
        let posted = reader.known::<Transaction>(LEDGER, "transaction/", posted).await?;
        let rests = ends.values().filter_map(|end| end.record.rest.as_deref());
        let rests = reader.known::<Hold>(LEDGER, "hold/", rests).await?;
        let before = page.iter().filter_map(|hold| hold.record.continues.as_deref());
        let before = reader.known::<End>(LEDGER, "hold-end/", before).await?;
        for hold in &page {
            whole(reader, hold)?;
            reader.announced(hold, &place(&hold.name), "ledger.transaction.pending", events.get(&hold.name))?;
            if let Some(continued) = &hold.record.continues {
                let rest = before.get(continued).and_then(|end| end.record.rest.as_deref());
                reader.claim(rest == Some(&*hold.name), || {
                    let problem = format!("expected to be the rest of the hold {continued}, found its rest {rest:?}");
                    (place(&hold.name), problem)
                })?;
            }
            holds.all += 1;
            let Some(end) = ends.get(&hold.name) else {
                holds.open += 1;
                for entry in &hold.record.entries {
                    sums.hold(&entry.account, &entry.currency, entry.direction, entry.amount);
                }
                continue;
            };
            ended += 1;
            let transaction = end.record.transaction_id.as_ref().and_then(|id| posted.get(id));
            let rest = end.record.rest.as_ref().and_then(|id| rests.get(id));
            end_of(reader, (hold, end), events.get(&hold.name), transaction, rest)?;
            holds.released += u64::from(end.record.status != "posted");
        }
    }
    stray_end(reader, ended).await?;
    Ok(holds)
}

fn place(id: &str) -> String {
    format!("hold {id}")
}

fn whole(reader: &Reader<'_>, hold: &Found<Hold>) -> Result<(), Stop> {
    let sound = match hold.record.entries.as_slice() {
        [one, two] => {
            one.amount == two.amount && one.amount > 0 && one.currency == two.currency && one.direction != two.direction
        }
        _ => false,
    };
    reader.claim(sound && hold.record.id == hold.name, || {
        let problem = format!("expected its id, a debit and an equal credit, found {}", hold.json);
        (place(&hold.name), problem)
    })
}

fn end_of(
    reader: &Reader<'_>,
    (hold, end): (&Found<Hold>, &Found<End>),
    events: About<'_>,
    transaction: Option<&Found<Transaction>>,
    rest: Option<&Found<Hold>>,
) -> Result<(), Stop> {
    let place = place(&hold.name);
    reader.claim(end.record.id == hold.name, || {
        (place.clone(), format!("expected an end of its own, found that of {}", end.record.id))
    })?;
    let status = end.record.status.as_str();
    if let "voided" | "expired" = status {
        let nothing = end.record.transaction_id.is_none() && end.record.rest.is_none();
        reader
            .claim(nothing, || (place.clone(), format!("expected nothing posted once {status}, found {}", end.json)))?;
        return reader.announced(end, &place, &format!("ledger.transaction.{status}"), events);
    }
    let resolved = transaction.filter(|it| it.record.resolves.as_deref() == Some(&*hold.name));
    let Some(transaction) = resolved.filter(|it| status == "posted" && it.version == end.version) else {
        let problem = format!("expected a transaction that resolves it in the commit of its end, found {}", end.json);
        return Err(reader.violation(place, problem));
    };
    if let Some(id) = &end.record.rest {
        let fits = rest.is_some_and(|it| it.record.continues.as_deref() == Some(&*hold.name));
        reader.claim(fits, || (place.clone(), format!("expected the hold {id} to go on with its rest, found none")))?;
    }
    let amount = transaction.record.entries.first().map_or(0, |entry| entry.amount);
    let (left, held) = (rest.map_or(0, |rest| rest.record.amount()), hold.record.amount());
    reader.claim(amount.saturating_add(left) <= held, || {
        (place, format!("expected at most {held} to be posted and held on, found {amount} and {left}"))
    })
}

/// Names an end without a hold, if there are more ends than holds that ended.
async fn stray_end(reader: &Reader<'_>, ended: u64) -> Result<(), Stop> {
    let mut found = 0_u64;
    let mut pages = reader.all(LEDGER, "hold-end/");
    loop {
        let page = pages.next::<End>().await?;
        if page.is_empty() {
            break;
        }
        found += u64::try_from(page.len()).unwrap_or(u64::MAX);
        if found > ended {
            let holds = reader.known::<Hold>(LEDGER, "hold/", page.iter().map(|end| &*end.name)).await?;
            if let Some(end) = page.iter().find(|end| !holds.contains_key(&end.name)) {
                return Err(reader.violation(place(&end.name), "expected the hold that ended, found only its end"));
            }
        }
    }
    reader.claim(found == ended, || {
        ("holds".to_owned(), format!("expected {ended} ends as the holds have, found {found}"))
    })
}
