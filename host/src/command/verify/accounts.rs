//! The ledger's counters: every balance is computed anew from the entries and the holds and compared with what is stored, the
//! totals of the trial balance and the limits of accounts as well.

use std::collections::BTreeMap;

use super::reader::{LEDGER, Reader};
use super::record::{Account, Side};
use super::report::Stop;

/// A high part of a counter counts so much.
const HIGH_UNIT: i128 = 1_000_000_000;

/// What is on an account in one currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    posted: [i128; 2],
    pending: [i128; 2],
}

/// Sums by account and currency.
#[derive(Debug, Default)]
pub(super) struct Sums {
    accounts: BTreeMap<String, BTreeMap<String, Sum>>,
    totals: BTreeMap<String, [i128; 2]>,
}

impl Sums {
    fn of(&mut self, account: &str, currency: &str) -> &mut Sum {
        self.accounts.entry(account.to_owned()).or_default().entry(currency.to_owned()).or_default()
    }

    pub(super) fn post(&mut self, account: &str, currency: &str, side: Side, amount: i64) {
        let sum = self.of(account, currency);
        sum.posted = side.add(sum.posted, amount.into());
        let total = self.totals.entry(currency.to_owned()).or_default();
        *total = side.add(*total, amount.into());
    }

    pub(super) fn hold(&mut self, account: &str, currency: &str, side: Side, amount: i64) {
        let sum = self.of(account, currency);
        sum.pending = side.add(sum.pending, amount.into());
    }
}

/// Compares the sums with the counters; answers how many accounts there are.
pub(super) async fn check(reader: &Reader<'_>, mut sums: Sums) -> Result<u64, Stop> {
    let mut accounts = 0;
    let mut limits = Vec::new();
    let mut stored = Stored::default();
    let mut pages = reader.all(LEDGER, "account/");
    loop {
        let page = pages.next_raw().await?;
        let ended = page.is_empty();
        for (name, value) in page {
            let (code, rest) = name.split_once('/').unwrap_or_default();
            if stored.code != code {
                accounts += stored.finish(reader, &mut sums, &mut limits)?;
                stored = Stored { code: code.to_owned(), ..Stored::default() };
            }
            if rest == "about" {
                let about = reader.parse(LEDGER, "account/", &name, &value.value, value.version)?;
                stored.about = Some(about.record);
            } else {
                let (currency, counter) = rest.split_once('/').unwrap_or_default();
                let sum = stored.sums.entry(currency.to_owned()).or_default();
                let count = count(reader, &format!("account/{name}"), &value.value)?;
                add(sum, counter, count).ok_or_else(|| {
                    reader.violation(format!("account {code}"), format!("expected a known counter, found {rest}"))
                })?;
            }
        }
        if ended {
            break;
        }
    }
    accounts += stored.finish(reader, &mut sums, &mut limits)?;
    if let Some((code, _)) = sums.accounts.iter().find(|(_, sums)| sums.values().any(|sum| *sum != Sum::default())) {
        return Err(reader.violation(format!("account {code}"), "expected its record and counters, found only entries"));
    }
    available(reader, limits).await?;
    totals(reader, sums.totals).await?;
    Ok(accounts)
}

/// What is stored of one account.
#[derive(Debug, Default)]
struct Stored {
    code: String,
    about: Option<Account>,
    sums: BTreeMap<String, Sum>,
}

impl Stored {
    fn finish(&self, reader: &Reader<'_>, sums: &mut Sums, limits: &mut Vec<(String, i128)>) -> Result<u64, Stop> {
        if self.code.is_empty() {
            return Ok(0);
        }
        let place = || format!("account {}", self.code);
        let Some(about) = &self.about else {
            return Err(reader.violation(place(), "expected its record, found only counters"));
        };
        let computed = sums.accounts.remove(&self.code).unwrap_or_default();
        for currency in self.sums.keys().chain(computed.keys()) {
            let of = |sums: &BTreeMap<String, Sum>| sums.get(currency).copied().unwrap_or_default();
            let (counted, computed) = (of(&self.sums), of(&computed));
            for (what, counted, computed) in
                [("posted", counted.posted, computed.posted), ("pending", counted.pending, computed.pending)]
            {
                reader.claim(counted == computed, || {
                    let [debits, credits] = computed;
                    let expected = format!("expected {debits} debits and {credits} credits {what} in {currency}");
                    let [debits, credits] = counted;
                    (place(), format!("{expected} as the entries say, found {debits} and {credits}"))
                })?;
            }
        }
        for (currency, min) in &about.min_available {
            let sum = computed.get(currency).copied().unwrap_or_default();
            let (grows, shrinks) = (about.normal_balance, about.normal_balance.other());
            let posted = grows.of(sum.posted).saturating_sub(shrinks.of(sum.posted));
            let available = posted.saturating_sub(shrinks.of(sum.pending));
            reader.claim(available >= i128::from(*min), || {
                (
                    place(),
                    format!("expected at least its limit of {min} to be available in {currency}, found {available}"),
                )
            })?;
            limits.push((format!("{}/{currency}", self.code), available));
        }
        Ok(1)
    }
}

fn count(reader: &Reader<'_>, key: &str, value: &[u8]) -> Result<i128, Stop> {
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok());
    number.map(i128::from).ok_or_else(|| {
        let found = String::from_utf8_lossy(value).into_owned();
        reader.violation(format!("counter {key}"), format!("expected a number, found {found:?}"))
    })
}

/// What a part of a counter is worth.
fn worth(part: &str, count: i128) -> Option<i128> {
    match part {
        "high" => Some(count.saturating_mul(HIGH_UNIT)),
        "low" => Some(count),
        _ => None,
    }
}

fn add(sum: &mut Sum, counter: &str, count: i128) -> Option<()> {
    let (name, part) = counter.split_once('/').unwrap_or((counter, ""));
    let worth = if part.is_empty() { count } else { worth(part, count)? };
    let (of, side) = match (name, part.is_empty()) {
        ("posted-debits", false) => (&mut sum.posted, Side::Debit),
        ("posted-credits", false) => (&mut sum.posted, Side::Credit),
        ("pending-debits", true) => (&mut sum.pending, Side::Debit),
        ("pending-credits", true) => (&mut sum.pending, Side::Credit),
        _ => return None,
    };
    *of = side.add(*of, worth);
    Some(())
}

/// What is available is counted once more for the accounts that have a limit, and for no other.
async fn available(reader: &Reader<'_>, limits: Vec<(String, i128)>) -> Result<(), Stop> {
    let mut limits: BTreeMap<String, i128> = limits.into_iter().collect();
    let mut pages = reader.all(LEDGER, "available/");
    loop {
        let page = pages.next_raw().await?;
        if page.is_empty() {
            break;
        }
        for (name, value) in page {
            let counted = count(reader, &format!("available/{name}"), &value.value)?;
            let computed = limits.remove(&name);
            reader.claim(computed == Some(counted), || {
                let expected =
                    computed.map_or_else(|| "no counter, as it has no limit".to_owned(), |it| it.to_string());
                (format!("counter available/{name}"), format!("expected {expected}, found {counted}"))
            })?;
        }
    }
    match limits.into_iter().find(|(_, available)| *available != 0) {
        Some((name, available)) => {
            Err(reader.violation(format!("counter available/{name}"), format!("expected {available}, found none")))
        }
        None => Ok(()),
    }
}

/// The trial balance: the sums of all entries, debits equal to credits.
async fn totals(reader: &Reader<'_>, mut computed: BTreeMap<String, [i128; 2]>) -> Result<(), Stop> {
    let mut counted: BTreeMap<String, [i128; 2]> = BTreeMap::new();
    let mut pages = reader.all(LEDGER, "total/");
    loop {
        let page = pages.next_raw().await?;
        if page.is_empty() {
            break;
        }
        for (name, value) in page {
            let count = count(reader, &format!("total/{name}"), &value.value)?;
            let mut parts = name.splitn(3, '/');
            let currency = parts.next().unwrap_or_default();
            let side = match parts.next() {
                Some("debits") => Some(Side::Debit),
                Some("credits") => Some(Side::Credit),
                _ => None,
            };
            let Some((side, worth)) = side.zip(parts.next().and_then(|part| worth(part, count))) else {
                return Err(reader.violation(format!("total {name}"), "expected a known total, found another"));
            };
            let sum = counted.entry(currency.to_owned()).or_default();
            *sum = side.add(*sum, worth);
        }
    }
    for (currency, [debits, credits]) in &counted {
        let place = || format!("trial balance in {currency}");
        reader.claim(debits == credits, || {
            (place(), format!("expected debits to equal credits, found {debits} and {credits}"))
        })?;
        let sums = computed.remove(currency).unwrap_or_default();
        reader.claim(sums == [*debits, *credits], || {
            (place(), format!("expected {sums:?} as the entries say, found {debits} and {credits}"))
        })?;
    }
    match computed.into_iter().next() {
        Some((currency, sums)) => {
            Err(reader.violation(format!("trial balance in {currency}"), format!("expected {sums:?}, found none")))
        }
        None => Ok(()),
    }
}
