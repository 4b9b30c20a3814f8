//! The ledger cell: double entry, for every other cell that moves money.
//!
//! This file is the adapter only: routes, JSON in and out. The rules are in [`account`], [`balance`], [`transaction`],
//! [`hold`], [`reversal`] and [`statement`], which know neither the host nor HTTP; `book` reads and writes them.
//!
//! State keys; a code and an id hold no `/`:
//!
//! - `account/{code}/about`: the account, with its counters beside it:
//!   `account/{code}/{CURRENCY}/posted-debits/high`, `…/posted-debits/low`, `…/posted-credits/high` and `…/low`, and
//!   `…/pending-debits` and `…/pending-credits`;
//! - `available/{code}/{CURRENCY}`: what is available on an account that has a limit in that currency;
//! - `total/{CURRENCY}/debits/high`, `…/debits/low`, `…/credits/high` and `…/credits/low`: the sums of all accounts;
//! - `transaction/{id}`: the transaction;
//! - `reversal/{original}/{id}`: the entries of the transaction `id`, which takes back some of `original`;
//! - `reversed/{original}`: how many of those there are, and their sum by line;
//! - `hold/{id}` and `hold-end/{id}`: the hold, and how it ended;
//! - `entry/{code}/{posted at, milliseconds in 15 digits}-{transaction id}/{n}`: an account's line of it.
//!
//! Each `GET` of what is now is answered from one list, so that it is one snapshot however many payments are posted
//! meanwhile; only an empty page of entries asks for the account too. What was at a moment is added up from the entries.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::float_arithmetic,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

pub mod account;
pub mod balance;
mod book;
pub mod hold;
pub mod reversal;
pub mod statement;
pub mod transaction;

use aibos_cell::money::AMOUNT_MAX;
use aibos_cell::{Cell, Currency, FieldError, Listing, Problem, Reply, Request, Router, Timestamp, context};
use serde::{Deserialize, Serialize};

use account::{Account, AccountType, Direction, Kind};
use balance::TrialBalance;
use hold::HoldDraft;
use statement::Line;
use transaction::Draft;

/// The ledger.
pub struct Ledger;

impl Cell for Ledger {
    fn routes() -> Router {
        Router::new()
            .post("/transactions", post_transaction)
            .post("/reversals", post_reversals)
            .post("/merchant-accounts", open_merchant_account)
            .post("/holds", hold)
            .post("/holds/{id}/post", post_hold)
            .post("/holds/{id}/void", void_hold)
            .post("/holds/{id}/expire", expire_hold)
            .get("/ledger/transactions/{id}", show_transaction)
            .get("/ledger/accounts/{code}", show_account)
            .put("/ledger/accounts/{code}/limits/{currency}", limit_account)
            .get("/ledger/accounts/{code}/statement", show_statement)
            .get("/ledger/accounts/{code}/entries", list_entries)
            .get("/ledger/trial-balance", show_trial_balance)
    }
}

aibos_cell::export!(Ledger);

/// Posts a transaction: 201 the first time, 200 with the same answer when it is sent again, 409 when the id is taken by
/// another transaction.
fn post_transaction(request: &Request) -> Result<Reply, Problem> {
    let draft: Draft = request.json()?;
    let checked = draft.check().map_err(Problem::validation)?;
    match book::post(checked, context::now())? {
        book::Posted::New(receipt) => Reply::json(201, &receipt),
        book::Posted::Before(receipt) => Reply::json(200, &receipt),
        book::Posted::IdTaken => Err(book::id_taken()),
        book::Posted::Refused(errors) => Err(Problem::validation(errors)),
    }
}

/// How many reversals are posted together: a call may publish a hundred events, and its caller has some of its own.
const REVERSALS_AT_ONCE_MAX: usize = 50;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with the reversals")]
struct Reversals {
    transactions: Vec<Draft>,
}

#[derive(Serialize)]
struct Receipts {
    data: Vec<book::Receipt>,
}

/// Posts several reversals, all of them or none: 201 with their receipts.
fn post_reversals(request: &Request) -> Result<Reply, Problem> {
    let Reversals { transactions } = request.json()?;
    if !(1..=REVERSALS_AT_ONCE_MAX).contains(&transactions.len()) {
        let message = format!("must be 1 to {REVERSALS_AT_ONCE_MAX} transactions");
        return Err(Problem::invalid("/transactions", &message));
    }
    let mut drafts = Vec::with_capacity(transactions.len());
    for draft in transactions {
        let draft = draft.check().map_err(Problem::validation)?;
        if draft.reverses().is_none() {
            return Err(Problem::invalid("/transactions", "each must name what it reverses"));
        }
        drafts.push(draft);
    }
    Reply::json(201, &Receipts { data: book::post_all(drafts, context::now())? })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with the account's code")]
struct Opening {
    code: String,
}

/// Makes sure that an account is a merchant-payable one, so that a payment which settles later can be posted then.
fn open_merchant_account(request: &Request) -> Result<Reply, Problem> {
    let Opening { code } = request.json()?;
    if !account::is_code(&code) {
        return Err(Problem::invalid("/code", account::CODE_RULE));
    }
    if !Kind::MerchantPayable.may_be_called(&code) {
        return Err(Problem::invalid("/code", &account::wrong_kind(&code, Kind::MerchantPayable)));
    }
    match book::open(&code, Kind::MerchantPayable, context::now())? {
        Ok(account) => Reply::json(200, &account),
        Err(reason) => Err(Problem::validation(vec![FieldError::new("/code", reason)])),
    }
}

/// Holds money: 201.
fn hold(request: &Request) -> Result<Reply, Problem> {
    let now = context::now();
    let (balanced, expires_at) = request.json::<HoldDraft>()?.check(now).map_err(Problem::validation)?;
    Reply::json(201, &book::hold(&balanced, expires_at, now)?)
}

/// How to post a hold.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with the id of the transaction")]
struct Posting {
    /// The transaction that it becomes.
    id: String,
    /// All of it when absent.
    amount: Option<i64>,
    /// The hold that goes on with the rest; without it the rest is released.
    rest: Option<String>,
}

/// Posts all or part of a hold: 201 with the transaction.
fn post_hold(request: &Request) -> Result<Reply, Problem> {
    let Posting { id, amount, rest } = request.json()?;
    for (pointer, id) in [("/id", Some(&id)), ("/rest", rest.as_ref())] {
        if !id.is_none_or(|id| account::is_code(id)) {
            return Err(Problem::invalid(pointer, account::CODE_RULE));
        }
    }
    Reply::json(201, &book::post_hold(hold_id(request)?, &id, amount, rest.as_deref(), context::now())?)
}

/// Gives a hold up.
fn void_hold(request: &Request) -> Result<Reply, Problem> {
    Reply::json(200, &book::void(hold_id(request)?, context::now())?)
}

/// Ends a hold whose time is over.
fn expire_hold(request: &Request) -> Result<Reply, Problem> {
    Reply::json(200, &book::expire(hold_id(request)?, context::now())?)
}

/// One posted transaction.
fn show_transaction(request: &Request) -> Result<Reply, Problem> {
    let id = request.parameter("id")?;
    let transaction = if account::is_code(id) { book::transaction(id)? } else { None };
    Reply::json(200, &transaction.ok_or_else(|| Problem::not_found("There is no posted transaction with this id."))?)
}

#[derive(Serialize)]
struct AccountView<'a, Balance> {
    code: &'a str,
    r#type: AccountType,
    normal_balance: Direction,
    created_at: &'a str,
    /// The moment of the balances, when the caller asked for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    balances: Vec<Balance>,
}

impl<'a, Balance> AccountView<'a, Balance> {
    fn new(code: &'a str, account: &'a Account, at: Option<Timestamp>, balances: Vec<Balance>) -> Self {
        let Account { r#type, normal_balance, created_at, .. } = account;
        Self { code, r#type: *r#type, normal_balance: *normal_balance, created_at, at, balances }
    }
}

/// An account with its balance in each currency it was ever used in: those of now from the counters, those of a moment
/// (`?at=`) from the entries.
fn show_account(request: &Request) -> Result<Reply, Problem> {
    let code = account_code(request)?;
    if let Some(at) = request.query_time("at")? {
        let (account, balances) = book::balances_at(code, at)?.ok_or_else(no_account)?;
        return Reply::json(200, &AccountView::new(code, &account, Some(at), balances));
    }
    let (account, balances) = book::account(code)?.ok_or_else(no_account)?;
    Reply::json(200, &AccountView::new(code, &account, None, balances))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with min_available")]
struct Limit {
    #[serde(deserialize_with = "Option::deserialize")]
    min_available: Option<i64>,
}

/// Sets how low `available` may fall, pending included; null lifts the limit.
fn limit_account(request: &Request) -> Result<Reply, Problem> {
    let code = account_code(request)?;
    let currency = Currency::parse(request.parameter("currency")?)
        .ok_or_else(|| Problem::not_found("There is no currency with this code."))?;
    let Limit { min_available } = request.json()?;
    if !min_available.is_none_or(|min| (-AMOUNT_MAX..=AMOUNT_MAX).contains(&min)) {
        let message = format!("must be null or an integer from -{AMOUNT_MAX} to {AMOUNT_MAX}");
        return Err(Problem::invalid("/min_available", &message));
    }
    let (account, balances) = book::limit(code, currency, min_available)?.ok_or_else(no_account)?;
    Reply::json(200, &AccountView::new(code, &account, None, balances))
}

#[derive(Serialize)]
struct StatementView<'a> {
    code: &'a str,
    at: Timestamp,
    #[serde(flatten)]
    lines: Listing<Line>,
    /// At the end of this page.
    balances: Vec<statement::Balance>,
}

/// The entries of an account up to a moment (`?at=`, now when absent), each with the balance after it.
fn show_statement(request: &Request) -> Result<Reply, Problem> {
    let code = account_code(request)?;
    let at = request.query_time("at")?.unwrap_or_else(context::now);
    let (lines, balances) = book::statement(code, at, &request.page()?)?.ok_or_else(no_account)?;
    Reply::json(200, &StatementView { code, at, lines, balances })
}

/// The entries of an account, oldest first.
fn list_entries(request: &Request) -> Result<Reply, Problem> {
    let page = request.page()?;
    let entries = book::entries(account_code(request)?, &page)?.ok_or_else(no_account)?;
    Reply::json(200, &entries)
}

#[derive(Serialize)]
struct TrialBalances {
    data: Vec<TrialBalance>,
}

/// The sum of all debits and of all credits, per currency: equal, or the books are wrong.
fn show_trial_balance(_: &Request) -> Result<Reply, Problem> {
    Reply::json(200, &TrialBalances { data: book::trial_balance()? })
}

/// The code in the path: what can be no code is no account either.
fn account_code(request: &Request) -> Result<&str, Problem> {
    let code = request.parameter("code")?;
    if account::is_code(code) { Ok(code) } else { Err(no_account()) }
}

/// The id of the hold in the path.
fn hold_id(request: &Request) -> Result<&str, Problem> {
    let id = request.parameter("id")?;
    if account::is_code(id) { Ok(id) } else { Err(Problem::not_found("There is no hold with this id.")) }
}

fn no_account() -> Problem {
    Problem::not_found("There is no account with this code.")
}
