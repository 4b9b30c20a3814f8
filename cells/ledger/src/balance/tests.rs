//! Whatever is posted, the trial balance balances, and no amount is too large for the counters.

use aibos_cell::Timestamp;
use aibos_cell::money::AMOUNT_MAX;
use proptest::prelude::*;

use super::*;
use crate::account::Kind;
use crate::transaction::{Draft, DraftEntry, ENTRIES_MAX, Transaction};

const RECEIVABLE: &str = "processor-receivable";

fn line(account: &str, direction: Direction, amount: i64, code: &str) -> DraftEntry {
    let kind = if account == RECEIVABLE { Kind::ProcessorReceivable } else { Kind::MerchantPayable };
    let currency = Currency::parse(code).expect("known");
    DraftEntry { account: account.to_owned(), kind, direction, amount, currency }
}

fn posted(entries: Vec<DraftEntry>) -> Transaction {
    let id = "t1".to_owned();
    Draft { id, entries, reverses: None }.check().expect("it balances").post(Timestamp::from_milliseconds(0))
}

fn payment(destination: &str, amount: i64, code: &str) -> Transaction {
    posted(vec![line(RECEIVABLE, Direction::Debit, amount, code), line(destination, Direction::Credit, amount, code)])
}

fn additions(transaction: &Transaction) -> Result<Vec<(String, i64)>, Corrupt> {
    let changes: Vec<(Change, &Entry)> = transaction.entries.iter().map(|entry| (Change::Post, entry)).collect();
    super::additions(&changes)
}

fn account_of(normal_balance: Direction) -> Account {
    Account { normal_balance, ..Account::open(Kind::MerchantPayable, Timestamp::from_milliseconds(0)) }
}

/// All counters as the host keeps them.
fn stored(transactions: &[Transaction]) -> BTreeMap<String, i64> {
    let mut counters: BTreeMap<String, i64> = BTreeMap::new();
    for transaction in transactions {
        for (key, delta) in additions(transaction).expect("in range") {
            *counters.entry(key).or_default() += delta;
        }
    }
    counters
}

/// The counters under a prefix, by their names there.
fn under(prefix: &str, counters: &BTreeMap<String, i64>) -> Vec<(String, i64)> {
    let named = |(key, value): (&String, &i64)| Some((key.strip_prefix(prefix)?.to_owned(), *value));
    counters.iter().filter_map(named).collect()
}

fn named(counters: &[(&str, i64)]) -> Vec<(String, i64)> {
    counters.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
}

#[test]
fn a_small_payment_adds_to_four_counters() {
    assert_eq!(
        additions(&payment("acme", 1999, "EUR")),
        Ok(named(&[
            ("account/acme/EUR/posted-credits/low", 1999),
            ("account/processor-receivable/EUR/posted-debits/low", 1999),
            ("total/EUR/credits/low", 1999),
            ("total/EUR/debits/low", 1999),
        ]))
    );
}

#[test]
fn a_part_of_zero_is_not_added() {
    let added =
        |amount| under("total/EUR/debits/", &additions(&payment("a", amount, "EUR")).into_iter().flatten().collect());
    assert_eq!(added(999_999_999), named(&[("low", 999_999_999)]));
    assert_eq!(added(1_000_000_000), named(&[("high", 1)]));
    assert_eq!(added(1_000_000_001), named(&[("high", 1), ("low", 1)]));
    assert_eq!(added(AMOUNT_MAX), named(&[("high", 9_007_199), ("low", 254_740_991)]));
}

#[test]
fn entries_on_one_counter_are_one_addition() {
    let transaction = posted(vec![
        line(RECEIVABLE, Direction::Debit, 1_500_000_000, "EUR"),
        line("acme", Direction::Credit, 700_000_000, "EUR"),
        line("acme", Direction::Credit, 800_000_000, "EUR"),
    ]);
    assert_eq!(
        under("account/acme/", &stored(&[transaction])),
        named(&[("EUR/posted-credits/high", 1), ("EUR/posted-credits/low", 500_000_000)])
    );
}

#[test]
fn a_balance_is_positive_on_the_normal_side() {
    let counters =
        named(&[("EUR/posted-debits/low", 30), ("EUR/posted-credits/low", 100), ("EUR/posted-credits/high", 2)]);
    let posted = |side| of_account(&account_of(side), &counters).map(|balances| balances[0].posted);
    assert_eq!(posted(Direction::Credit), Ok(2_000_000_070));
    assert_eq!(posted(Direction::Debit), Ok(-2_000_000_070));
}

#[test]
fn a_foreign_counter_is_not_passed_over() {
    for name in ["", "EUR", "EUR/debits", "EUR/x/low", "EUR/debits/middle", "EUR/debits/low/x", "XXX/debits/low"] {
        assert!(trial(&named(&[(name, 1)])).is_err(), "{name}");
    }
    assert!(trial(&named(&[("EUR/posted-debits/low", 1)])).is_err());
    assert!(of_account(&account_of(Direction::Debit), &named(&[("EUR/debits/low", 1)])).is_err());
}

#[test]
fn what_is_held_is_pending_and_only_what_goes_out_is_unavailable() {
    let counters = named(&[
        ("EUR/posted-credits/low", 100),
        ("EUR/posted-debits/low", 10),
        ("EUR/pending-credits", 40),
        ("EUR/pending-debits", 25),
    ]);
    let balance = |side| {
        let balances = of_account(&account_of(side), &counters).expect("our own names");
        (balances[0].posted, balances[0].pending, balances[0].available)
    };
    assert_eq!(balance(Direction::Credit), (90, 15, 65));
    assert_eq!(balance(Direction::Debit), (-90, -15, -130));
}

#[test]
fn a_hold_that_ends_leaves_no_counter_changed() {
    let held = payment("acme", 5_000_000_000, "EUR");
    let both: Vec<_> =
        held.entries.iter().flat_map(|entry| [(Change::Hold, entry), (Change::Release, entry)]).collect();
    assert_eq!(super::additions(&both), Ok(Vec::new()));
    let hold: Vec<_> = held.entries.iter().map(|entry| (Change::Hold, entry)).collect();
    assert_eq!(
        super::additions(&hold),
        Ok(named(&[
            ("account/acme/EUR/pending-credits", 5_000_000_000),
            ("account/processor-receivable/EUR/pending-debits", 5_000_000_000),
        ]))
    );
}

#[test]
fn a_limit_counts_what_leaves_at_once_and_what_comes_in_when_it_is_posted() {
    let euro = Currency::parse("EUR").expect("known");
    let mut acme = account_of(Direction::Credit);
    acme.min_available.insert(euro, -7);
    let accounts = BTreeMap::from([("acme".to_owned(), acme), (RECEIVABLE.to_owned(), account_of(Direction::Debit))]);
    let incoming = payment("acme", 10, "EUR").entries;
    let mut outgoing = incoming.clone();
    for entry in &mut outgoing {
        entry.direction = if entry.account == "acme" { Direction::Debit } else { Direction::Credit };
    }
    let delta = |change, entries: &[Entry]| {
        let changes: Vec<_> = entries.iter().map(|entry| (change, entry)).collect();
        limited(&changes, &accounts)
            .expect("in range")
            .into_iter()
            .map(|(key, delta, min)| {
                assert_eq!((key.as_str(), min), ("available/acme/EUR", -7));
                delta
            })
            .sum::<i64>()
    };
    let of = |entries: &[Entry]| [Change::Post, Change::Hold, Change::Release].map(|change| delta(change, entries));
    assert_eq!(of(&incoming), [10, 0, 0]);
    assert_eq!(of(&outgoing), [-10, -10, 10]);
}

/// The most that one posting adds to a counter of the host; nine billion times that fits.
#[test]
fn nine_billion_of_the_largest_postings_fit() {
    let credits = ENTRIES_MAX / 2;
    let mut entries = vec![line("acme", Direction::Credit, AMOUNT_MAX, "EUR"); credits];
    entries.extend(vec![line(RECEIVABLE, Direction::Debit, AMOUNT_MAX, "EUR"); credits]);
    let largest = additions(&posted(entries)).expect("in range").into_iter().map(|(_, delta)| delta).max();
    let delta = largest.expect("it adds").max(HIGH_UNIT - 1);
    assert!(delta.checked_mul(9_000_000_000).is_some(), "{delta}");
}

#[test]
fn full_counters_are_shown_with_every_digit() {
    let full = named(&[("EUR/debits/high", i64::MAX), ("EUR/debits/low", i64::MAX)]);
    assert_eq!(
        serde_json::to_string(&trial(&full).expect("128 bits hold it")).expect("JSON"),
        r#"[{"currency":"EUR","debits":9223372046078147843854775807,"credits":0}]"#
    );
    let full = named(&[("EUR/posted-debits/high", i64::MAX), ("EUR/posted-debits/low", i64::MAX)]);
    assert_eq!(
        serde_json::to_string(&of_account(&account_of(Direction::Credit), &full).expect("128 bits hold it")[0].posted)
            .expect("JSON"),
        "-9223372046078147843854775807"
    );
}

/// Why one list of the host is enough: it answers a thousand keys.
#[test]
fn the_counters_of_all_currencies_fit_into_one_list() {
    let letters = || 'A'..='Z';
    let codes =
        letters().flat_map(|a| letters().flat_map(move |b| letters().map(move |c| String::from_iter([a, b, c]))));
    let currencies = codes.filter(|code| Currency::parse(code).is_some()).count();
    assert!(currencies > 100, "{currencies}");
    assert!(1 + currencies * 6 < 1000, "{currencies}");
}

proptest! {
    #[test]
    fn what_is_split_adds_up_again(amounts in prop::collection::vec(1..=AMOUNT_MAX, 1..50)) {
        let mut parts = BTreeMap::new();
        for amount in &amounts {
            for part in [Part::High, Part::Low] {
                prop_assert!(part.of(*amount) >= 0);
                *parts.entry(format!("EUR/debits/{}", part.name())).or_default() += part.of(*amount);
            }
            prop_assert!(Part::Low.of(*amount) < HIGH_UNIT);
        }
        let merged = trial(&under("", &parts)).expect("our own names")[0].debits;
        prop_assert_eq!(merged, amounts.iter().map(|amount| i128::from(*amount)).sum::<i128>());
    }

    #[test]
    fn the_trial_balance_balances(
        payments in prop::collection::vec(
            ("[a-c]", 1..=AMOUNT_MAX, prop::sample::select(vec!["EUR", "JPY", "KWD"])),
            1..40,
        ),
    ) {
        let transactions: Vec<Transaction> = payments
            .iter()
            .map(|(destination, amount, code)| payment(destination, *amount, code))
            .collect();
        let counters = stored(&transactions);
        let mut total = 0;
        for sums in trial(&under(TOTAL_PREFIX, &counters)).expect("our own names") {
            prop_assert_eq!(sums.debits, sums.credits);
            total += sums.debits;
        }
        let paid: i128 = payments.iter().map(|(_, amount, _)| i128::from(*amount)).sum();
        prop_assert_eq!(total, paid);
    }

    #[test]
    fn the_totals_are_the_sums_of_the_accounts(
        payments in prop::collection::vec(("[a-c]", 1..=AMOUNT_MAX), 1..40),
    ) {
        let transactions: Vec<Transaction> =
            payments.iter().map(|(destination, amount)| payment(destination, *amount, "EUR")).collect();
        let counters = stored(&transactions);
        let credited = |code| {
            let balances = of_account(&account_of(Direction::Credit), &under(&account::prefix(code), &counters));
            balances.expect("our own names").iter().map(|balance| balance.posted).sum::<i128>()
        };
        let totals = trial(&under(TOTAL_PREFIX, &counters)).expect("our own names");
        prop_assert_eq!(totals[0].credits, ["a", "b", "c"].into_iter().map(credited).sum::<i128>());
        prop_assert_eq!(totals[0].debits, -credited(RECEIVABLE));
    }
}
