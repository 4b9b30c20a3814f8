//! The ledger cell: double entry, for every other cell that moves money.
//!
//! This file is the adapter only: routes, JSON in and out. The rules are in [`account`], [`balance`] and
//! [`transaction`], which know neither the host nor HTTP; `book` reads and writes them.
//!
//! State keys; a code and an id hold no `/`:
//!
//! - `account/{code}/about`: the account, with its counters beside it:
//!   `account/{code}/{CURRENCY}/posted-debits/high`, `…/posted-debits/low`, `…/posted-credits/high` and `…/low`;
//! - `total/{CURRENCY}/debits/high`, `…/debits/low`, `…/credits/high` and `…/credits/low`: the sums of all accounts;
//! - `transaction/{id}`: the transaction;
//! - `entry/{code}/{posted at, milliseconds in 15 digits}-{transaction id}/{n}`: an account's line of it.
//!
//! Each `GET` is answered from one list, so that it is one snapshot however many payments are posted meanwhile; only an
//! empty page of entries asks for the account too.
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
pub mod transaction;

use aibos_cell::{Cell, FieldError, Problem, Reply, Request, Router, context};
use serde::{Deserialize, Serialize};

use account::{AccountType, Direction, Kind};
use balance::{Balance, TrialBalance};
use transaction::Draft;

/// The ledger.
pub struct Ledger;

impl Cell for Ledger {
    fn routes() -> Router {
        Router::new()
            .post("/transactions", post_transaction)
            .post("/merchant-accounts", open_merchant_account)
            .get("/ledger/accounts/{code}", show_account)
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
        book::Posted::IdTaken => Err(Problem::new(409, "TRANSACTION_EXISTS", "Another transaction has this id.")),
        book::Posted::Refused(errors) => Err(Problem::validation(errors)),
    }
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
    match book::open(&code, Kind::MerchantPayable, context::now())? {
        Ok(account) => Reply::json(200, &account),
        Err(reason) => Err(Problem::validation(vec![FieldError::new("/code", reason)])),
    }
}

#[derive(Serialize)]
struct AccountView<'a> {
    code: &'a str,
    r#type: AccountType,
    normal_balance: Direction,
    created_at: &'a str,
    balances: Vec<Balance>,
}

/// An account with its balance in each currency it was ever used in.
fn show_account(request: &Request) -> Result<Reply, Problem> {
    let code = account_code(request)?;
    let (account, balances) = book::account(code)?.ok_or_else(no_account)?;
    Reply::json(
        200,
        &AccountView {
            code,
            r#type: account.r#type,
            normal_balance: account.normal_balance,
            created_at: &account.created_at,
            balances,
        },
    )
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

fn no_account() -> Problem {
    Problem::not_found("There is no account with this code.")
}
