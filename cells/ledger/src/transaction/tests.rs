//! What balances is accepted, whatever does not is refused, with the field that is wrong.

use proptest::prelude::*;

use super::*;

fn currency(code: &str) -> Currency {
    Currency::parse(code).expect("known")
}

fn entry(account: &str, direction: Direction, amount: i64, code: &str) -> DraftEntry {
    let kind = if account == "processor-receivable" { Kind::ProcessorReceivable } else { Kind::MerchantPayable };
    DraftEntry { account: account.to_owned(), kind, direction, amount, currency: currency(code) }
}

fn payment(amount: i64) -> Draft {
    Draft {
        id: "t1".to_owned(),
        entries: vec![
            entry("processor-receivable", Direction::Debit, amount, "EUR"),
            entry("acme", Direction::Credit, amount, "EUR"),
        ],
        reverses: None,
    }
}

fn pointers(draft: Draft) -> Vec<String> {
    match draft.check() {
        Ok(_) => Vec::new(),
        Err(errors) => errors.into_iter().map(|error| error.pointer).collect(),
    }
}

#[test]
fn a_payment_balances() {
    assert_eq!(pointers(payment(1999)), Vec::<String>::new());
}

#[test]
fn each_wrong_field_is_named() {
    assert_eq!(pointers(payment(0)), ["/entries/0/amount", "/entries/1/amount"]);
    assert_eq!(pointers(payment(-1)), ["/entries/0/amount", "/entries/1/amount"]);
    assert_eq!(pointers(payment(AMOUNT_MAX + 1)), ["/entries/0/amount", "/entries/1/amount"]);
    let mut draft = payment(1);
    draft.id = "a/b".to_owned();
    draft.entries[1].account = "a b".to_owned();
    assert_eq!(pointers(draft), ["/id", "/entries/1/account"]);
    let mut draft = payment(1);
    draft.entries.pop();
    assert_eq!(pointers(draft), ["/entries"]);
}

#[test]
fn currencies_balance_apart() {
    let mut draft = payment(1);
    draft.entries[1].currency = currency("USD");
    assert_eq!(pointers(draft), ["/entries"]);
}

#[test]
fn one_account_is_of_one_kind() {
    let mut draft = payment(1);
    draft.entries[1].account = "processor-receivable".to_owned();
    assert_eq!(pointers(draft), ["/entries/1/account"]);
}

#[test]
fn a_repeat_has_the_same_entries() {
    let posted = payment(5).check().expect("it balances").post(Timestamp::from_milliseconds(0));
    assert!(payment(5).check().expect("it balances").is_repeat_of(&posted));
    assert!(!payment(6).check().expect("it balances").is_repeat_of(&posted));
}

#[test]
fn an_entry_is_keyed_by_its_time_and_transaction() {
    let keys = EntryKeys::new(Timestamp::from_milliseconds(1_795_247_580_123), "t1");
    assert_eq!(keys.key("acme:eu", 7), "entry/acme:eu/001795247580123-t1/007");
    assert!(keys.key("acme:eu", 7).starts_with(&EntryKeys::prefix("acme:eu")));
}

#[test]
fn a_late_posting_of_an_early_payment_is_listed_last() {
    let [early, late] = ["0197-early", "0197-late"];
    let late_first = EntryKeys::new(Timestamp::from_milliseconds(1_000), late).key("acme", 1);
    let early_synced = EntryKeys::new(Timestamp::from_milliseconds(90_000), early).key("acme", 1);
    assert!(late_first < early_synced);
}

/// Entries that balance by construction: each debit is met by credits that add up to it.
fn balanced_entries() -> impl Strategy<Value = Vec<DraftEntry>> {
    let line = (
        prop::sample::select(vec!["EUR", "USD", "JPY", "BHD"]),
        prop::collection::vec((1..1_000_000_i64, "[a-z]{1,8}"), 1..6),
    );
    prop::collection::vec(line, 1..8).prop_map(|lines| {
        let mut entries = Vec::new();
        for (code, credits) in lines {
            let total = credits.iter().map(|(amount, _)| amount).sum();
            entries.push(entry("processor-receivable", Direction::Debit, total, code));
            for (amount, account) in credits {
                entries.push(entry(&account, Direction::Credit, amount, code));
            }
        }
        entries
    })
}

proptest! {
    #[test]
    fn entries_are_ordered_by_time_then_transaction_then_line(
        a in (0..10_000_000_000_000_u64, "[A-Za-z0-9._:-]{1,64}", 0..ENTRIES_MAX),
        b in (0..10_000_000_000_000_u64, "[A-Za-z0-9._:-]{1,64}", 0..ENTRIES_MAX),
        same_time in any::<bool>(),
        same_transaction in any::<bool>(),
    ) {
        let (time, id, line) = b;
        let b = (
            if same_time { a.0 } else { time },
            if same_transaction { a.1.clone() } else { id },
            line,
        );
        let key = |(time, id, line): &(u64, String, usize)| {
            EntryKeys::new(Timestamp::from_milliseconds(*time), id).key("acme", *line)
        };
        // A `/` ends the id in the key, and it sorts after `-` and `.`.
        let rank = |(time, id, line): &(u64, String, usize)| (*time, format!("{id}/"), *line);
        prop_assert_eq!(key(&a).cmp(&key(&b)), rank(&a).cmp(&rank(&b)));
    }

    #[test]
    fn what_is_posted_has_equal_debits_and_credits(entries in balanced_entries()) {
        let id = "t1".to_owned();
        let balanced = Draft { id, entries, reverses: None }.check().expect("balanced by construction");
        let posted = balanced.post(Timestamp::from_milliseconds(0));
        let mut sums: BTreeMap<Currency, (i128, i128)> = BTreeMap::new();
        for entry in posted.entries {
            let (debits, credits) = sums.entry(entry.currency).or_default();
            match entry.direction {
                Direction::Debit => *debits += i128::from(entry.amount),
                Direction::Credit => *credits += i128::from(entry.amount),
            }
        }
        for (debits, credits) in sums.values() {
            prop_assert_eq!(debits, credits);
        }
    }

    #[test]
    fn one_cent_too_much_is_refused(
        mut entries in balanced_entries(),
        index in any::<prop::sample::Index>(),
    ) {
        let changed = index.index(entries.len());
        entries[changed].amount += 1;
        let id = "t1".to_owned();
        prop_assert_eq!(pointers(Draft { id, entries, reverses: None }), ["/entries"]);
    }

    #[test]
    fn an_entry_turned_round_is_refused(
        mut entries in balanced_entries(),
        index in any::<prop::sample::Index>(),
    ) {
        let turned = index.index(entries.len());
        let entry = &mut entries[turned];
        entry.direction = match entry.direction {
            Direction::Debit => Direction::Credit,
            Direction::Credit => Direction::Debit,
        };
        let id = "t1".to_owned();
        prop_assert_eq!(pointers(Draft { id, entries, reverses: None }), ["/entries"]);
    }
}
