//! The ledger of a tenant: each transaction balances and has its lines, its event, its hold's end and what it reverses; each
//! line and each reversal has its transaction. The sums of the lines go to [`super::accounts`].

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use super::accounts::{self, Sums};
use super::events::Published;
use super::hold;
use super::reader::{Found, LEDGER, Reader};
use super::record::{End, Entry, Hold, Line, Side, Transaction};
use super::report::{Counts, Stop};
use crate::storage::whole::RawEvent;

/// What the rest of the checks needs of the ledger.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) transactions: u64,
    pub(super) open_holds: u64,
    pub(super) published: Published,
}

/// Checks a tenant's ledger.
pub(super) async fn check(reader: &Reader<'_>, counts: &mut Counts) -> Result<Books, Stop> {
    let mut sums = Sums::default();
    let (transactions, lines) = transactions(reader).await?;
    let found = self::lines(reader, &mut sums).await?;
    if found != lines {
        return Err(stray_line(reader).await?);
    }
    reversals(reader).await?;
    let holds = hold::check(reader, &mut sums).await?;
    counts.accounts += accounts::check(reader, sums).await?;
    counts.transactions += transactions;
    counts.entries += lines;
    counts.holds += holds.all;
    let published = Published { posted: transactions, pending: holds.all, released: holds.released, payments: 0 };
    Ok(Books { transactions, open_holds: holds.open, published })
}

/// Each transaction by itself and with what belongs to it; answers how many there are, and how many lines.
async fn transactions(reader: &Reader<'_>) -> Result<(u64, u64), Stop> {
    let (mut transactions, mut lines) = (0, 0);
    let mut pages = reader.all(LEDGER, "transaction/");
    loop {
        let page = pages.next::<Transaction>().await?;
        if page.is_empty() {
            return Ok((transactions, lines));
        }
        let events = reader.events(LEDGER, page.iter().map(|found| found.name.clone()).collect()).await?;
        for found in &page {
            balanced(reader, found)?;
            let place = place(&found.name);
            reader.announced(found, &place, "ledger.transaction.posted", events.get(&found.name))?;
            transactions += 1;
            lines += u64::try_from(found.record.entries.len()).unwrap_or(u64::MAX);
        }
        lines_of(reader, &page).await?;
        reverses(reader, &page).await?;
        resolves(reader, &page).await?;
    }
}

pub(super) fn place(id: &str) -> String {
    format!("transaction {id}")
}

fn balanced(reader: &Reader<'_>, found: &Found<Transaction>) -> Result<(), Stop> {
    let (id, transaction) = (&found.name, &found.record);
    reader.claim(transaction.id == *id, || (place(id), format!("expected its own id, found {}", transaction.id)))?;
    let count = transaction.entries.len();
    reader.claim(count >= 2, || (place(id), format!("expected two or more entries, found {count}")))?;
    let mut sums: BTreeMap<&str, [i128; 2]> = BTreeMap::new();
    for (n, entry) in transaction.entries.iter().enumerate() {
        reader.claim(entry.amount > 0, || {
            (place(id), format!("expected entry {n} to be more than zero, found {}", entry.amount))
        })?;
        let sum = sums.entry(&entry.currency).or_default();
        *sum = entry.direction.add(*sum, entry.amount.into());
    }
    let odd = sums.into_iter().find(|(_, [debits, credits])| debits != credits);
    match odd {
        Some((currency, [debits, credits])) => {
            let problem = format!("expected debits to equal credits in {currency}, found {debits} and {credits}");
            Err(reader.violation(place(id), problem))
        }
        None => Ok(()),
    }
}

/// The lines of transactions stand in their accounts as they stand in the transactions.
async fn lines_of(reader: &Reader<'_>, page: &[Found<Transaction>]) -> Result<(), Stop> {
    let mut wanted = Vec::new();
    for found in page {
        let ms = found.record.posted_at.as_millisecond();
        for (n, entry) in found.record.entries.iter().enumerate() {
            wanted.push((found, n, entry, format!("entry/{}/{ms:015}-{}/{n:03}", entry.account, found.name)));
        }
    }
    let values = reader.read(LEDGER, wanted.iter().map(|(.., key)| key.clone()).collect()).await?;
    for ((found, n, entry, key), value) in wanted.into_iter().zip(values) {
        let Some(value) = value else {
            let problem = format!("expected its entry {n} at {key}, found nothing there");
            return Err(reader.violation(place(&found.name), problem));
        };
        let line = reader.parse::<Line>(LEDGER, "", &key, &value.value, value.version)?.record;
        let same = (&line.transaction_id, line.direction, line.amount, &line.currency)
            == (&found.name, entry.direction, entry.amount, &entry.currency);
        reader.claim(same, || {
            let problem = format!(
                "expected at {key} its entry {n}, {:?} {} {}, found {:?} {} {} of {}",
                entry.direction,
                entry.amount,
                entry.currency,
                line.direction,
                line.amount,
                line.currency,
                line.transaction_id
            );
            (place(&found.name), problem)
        })?;
        reader.claim(value.version == found.version, || {
            let problem = format!("expected entry {n} in its commit {}, found it in {}", found.version, value.version);
            (place(&found.name), problem)
        })?;
    }
    Ok(())
}

/// A transaction that takes another back is remembered with it.
async fn reverses(reader: &Reader<'_>, page: &[Found<Transaction>]) -> Result<(), Stop> {
    let of = |found: &Found<Transaction>| Some(format!("{}/{}", found.record.reverses.as_ref()?, found.name));
    let names: Vec<String> = page.iter().filter_map(of).collect();
    let known = reader.known::<Value>(LEDGER, "reversal/", names.iter().map(String::as_str)).await?;
    for found in page {
        let Some(name) = of(found) else { continue };
        let kept = known.get(&name);
        let fits = kept.is_some_and(|kept| {
            kept.version == found.version && found.json.get("entries").is_some_and(|entries| *entries == kept.json)
        });
        reader.claim(fits, || {
            let what = if kept.is_some() { "another one" } else { "none" };
            (place(&found.name), format!("expected the record reversal/{name} of its entries and commit, found {what}"))
        })?;
    }
    Ok(())
}

/// A transaction that posts a hold is the one with which that hold ended, and posts at most what was held.
async fn resolves(reader: &Reader<'_>, page: &[Found<Transaction>]) -> Result<(), Stop> {
    let names: Vec<&str> = page.iter().filter_map(|found| found.record.resolves.as_deref()).collect();
    let holds = reader.known::<Hold>(LEDGER, "hold/", names.iter().copied()).await?;
    let ends = reader.known::<End>(LEDGER, "hold-end/", names).await?;
    for found in page {
        let Some(hold) = &found.record.resolves else { continue };
        let end = ends.get(hold);
        let posted = end.and_then(|end| end.record.transaction_id.as_deref());
        reader.claim(posted == Some(&*found.name) && end.is_some_and(|end| end.version == found.version), || {
            let ended = end.map_or_else(|| "none".to_owned(), |end| end.json.to_string());
            (
                place(&found.name),
                format!("expected the hold {hold} to end with it in its commit, found the end {ended}"),
            )
        })?;
        let held = holds.get(hold).map_or(0, |hold| hold.record.amount());
        let amount = found.record.entries.first().map_or(0, |entry| entry.amount);
        reader.claim(amount <= held, || {
            (place(&found.name), format!("expected at most {held}, which the hold {hold} held, found {amount}"))
        })?;
    }
    Ok(())
}

/// Adds every line up; answers how many there are.
async fn lines(reader: &Reader<'_>, sums: &mut Sums) -> Result<u64, Stop> {
    let mut count = 0;
    let mut pages = reader.all(LEDGER, "entry/");
    loop {
        let page = pages.next::<Line>().await?;
        if page.is_empty() {
            return Ok(count);
        }
        for Found { name, record, .. } in page {
            let account = name.split('/').next().unwrap_or_default();
            sums.post(account, &record.currency, record.direction, record.amount);
            count += 1;
        }
    }
}

/// Names the line that no transaction has.
async fn stray_line(reader: &Reader<'_>) -> Result<Stop, Stop> {
    let mut pages = reader.all(LEDGER, "entry/");
    loop {
        let page = pages.next::<Line>().await?;
        if page.is_empty() {
            return Ok(reader.violation("entries", "expected as many as the transactions have, found others"));
        }
        let names = page.iter().map(|line| &*line.record.transaction_id);
        let known = reader.known::<Transaction>(LEDGER, "transaction/", names).await?;
        for line in &page {
            let id = &line.record.transaction_id;
            let mut parts = line.name.rsplit('/');
            let n = parts.next().and_then(|n| n.parse::<usize>().ok());
            let of = known.get(id).and_then(|found| Some((found, found.record.entries.get(n?)?)));
            let own = of.is_some_and(|(found, entry)| {
                let posting = format!("{:015}-{id}", found.record.posted_at.as_millisecond());
                line.name.starts_with(&format!("{}/{posting}/", entry.account))
            });
            if !own {
                let problem = format!("expected it in the transaction {id} that it names, found it in none");
                return Ok(reader.violation(format!("entry {}", line.name), problem));
            }
        }
    }
}

/// All reversals of a transaction together take back at most what it posted, and none reverses a reversal.
async fn reversals(reader: &Reader<'_>) -> Result<(), Stop> {
    let mut pages = reader.all(LEDGER, "reversal/");
    let (mut current, mut taken) = (String::new(), BTreeMap::<(String, String, Side), i128>::new());
    loop {
        let page = pages.next::<Vec<Entry>>().await?;
        if page.is_empty() {
            return Ok(());
        }
        let ids: HashSet<&str> = page.iter().flat_map(|found| found.name.split('/')).collect();
        let known = reader.known::<Transaction>(LEDGER, "transaction/", ids).await?;
        for found in &page {
            let (original, id) = found.name.split_once('/').unwrap_or_default();
            let place = || format!("reversal {id} of transaction {original}");
            let named = known.get(id).and_then(|it| it.record.reverses.as_deref());
            reader.claim(named == Some(original), || {
                let problem =
                    format!("expected the transaction {id} to reverse {original}, found it to reverse {named:?}");
                (place(), problem)
            })?;
            let Some(of) = known.get(original) else {
                return Err(reader.violation(place(), format!("expected the transaction {original}, found none")));
            };
            reader.claim(of.record.reverses.is_none(), || {
                (place(), "expected a transaction that is no reversal itself, found a reversal".to_owned())
            })?;
            if current != original {
                original.clone_into(&mut current);
                taken.clear();
            }
            for entry in &found.record {
                let back = entry.direction.other();
                let sum = taken.entry((entry.account.clone(), entry.currency.clone(), back)).or_default();
                *sum = sum.saturating_add(entry.amount.into());
                let taken = *sum;
                let posted =
                    of.record.entries.iter().filter(|it| {
                        (&it.account, &it.currency, it.direction) == (&entry.account, &entry.currency, back)
                    });
                let posted = posted.fold(0_i128, |sum, entry| sum.saturating_add(entry.amount.into()));
                reader.claim(taken <= posted, || {
                    let problem =
                        format!("expected at most {posted} to be taken back of {}, found {taken}", entry.account);
                    (place(), problem)
                })?;
            }
        }
    }
}

/// A transaction as a payment expects it.
pub(super) struct Posting<'a> {
    pub(super) id: &'a str,
    pub(super) amount: i64,
    pub(super) reverses: Option<&'a str>,
}

/// Whether these are the two entries between processor and destination.
pub(super) fn moves(entries: &[Entry], sides: [Side; 2], amount: i64, currency: &str, destination: &str) -> bool {
    let wanted = ["processor-receivable", destination].into_iter().zip(sides);
    entries.len() == 2
        && entries.iter().zip(wanted).all(|(entry, (account, side))| {
            (&*entry.account, entry.direction, entry.amount, &*entry.currency) == (account, side, amount, currency)
        })
}

/// The events of one subject.
pub(super) type About<'a> = Option<&'a Vec<RawEvent>>;
