//! Setting a limit on an account.

use aibos_cell::{Currency, Problem, events, state};
use serde::Serialize;

use crate::account::{self, Account};
use crate::balance::Balance;

#[derive(Serialize)]
struct Limited<'a> {
    code: &'a str,
    currency: Currency,
    min_available: Option<i64>,
}

/// Sets or lifts the limit of an account in a currency, and publishes `ledger.account.limited`; none when there is no such
/// account. From now on what is available is also kept on a counter of its own, which begins with the balance of now: a
/// posting that did not see the new limit has read the account's record of before, and is run again.
pub(crate) fn limit(
    code: &str,
    currency: Currency,
    min_available: Option<i64>,
) -> Result<Option<(Account, Vec<Balance>)>, Problem> {
    let Some((mut account, mut balances)) = super::account(code)? else { return Ok(None) };
    let key = account::available_key(code, currency);
    let available = balances.iter().find(|balance| balance.currency == currency).map_or(0, |it| it.available);
    if let Some(min) = min_available {
        if available < i128::from(min) {
            let detail = format!("{available} minor units are available, which is less than the limit.");
            return Err(Problem::new(409, "ACCOUNT_LIMIT", detail));
        }
        let available = i64::try_from(available)
            .map_err(|_| Problem::new(409, "ACCOUNT_LIMIT", "An account that holds so much cannot be limited."))?;
        account.min_available.insert(currency, min);
        state::write(&key, available.to_string().as_bytes())?;
    } else {
        account.min_available.remove(&currency);
        state::delete(&key)?;
    }
    state::put(&account::key(code), &account)?;
    events::publish("ledger.account.limited", Some(code), &Limited { code, currency, min_available })?;
    for balance in balances.iter_mut().filter(|balance| balance.currency == currency) {
        balance.min_available = min_available;
    }
    Ok(Some((account, balances)))
}
