//! The cell's own keys and values, apart for each tenant. Granted by `state = true`.
//!
//! Writes are staged; they commit with the reply. Reads see the call's own writes. When something that was read has
//! changed at commit, the host runs the whole call again, so read no more than the answer needs, and count with
//! [`add`], which never conflicts.
//!
//! Keys are 1 to 512 bytes; values are JSON here ([`get`], [`put`]) unless a cell asks for the bytes ([`read()`],
//! [`write()`]).

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::aibos::cell::state;
pub use crate::bindings::aibos::cell::state::Error;
use crate::{Listing, Page, cursor};

/// A stored value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value(Vec<u8>);

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The whole key.
    pub key: String,
    /// The value.
    pub value: Value,
}

impl Value {
    /// The value as JSON. A value that is not the JSON expected is a failure of the call: the format of the state
    /// changed without the `[state]` section of `cell.toml` saying so.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.0)
            .map_err(|error| Error::Other(format!("a stored value is not the JSON expected: {error}")))
    }

    /// The value as a counter of [`add`].
    pub fn counter(&self) -> Result<i64, Error> {
        std::str::from_utf8(&self.0)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Error::NotACounter("a stored value is not a decimal integer".to_owned()))
    }

    /// The bytes.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// The JSON value of a key; none when the key is absent.
pub fn get<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Error> {
    read(key)?.map(|value| value.json()).transpose()
}

/// The value of a key; none when the key is absent.
pub fn read(key: &str) -> Result<Option<Value>, Error> {
    Ok(state::get(key)?.map(Value))
}

/// Several values in the order of the keys, in one call of the host; at most 1,000.
pub fn read_many(keys: &[String]) -> Result<Vec<Option<Value>>, Error> {
    let values = state::get_many(keys)?;
    Ok(values.into_iter().map(|value| value.map(Value)).collect())
}

/// Stages a JSON value.
pub fn put<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<(), Error> {
    state::put(key, &to_json(value)?)
}

/// Stages bytes.
pub fn write(key: &str, value: &[u8]) -> Result<(), Error> {
    state::put(key, value)
}

/// Stages a JSON value when the key is absent; answers whether it did.
pub fn put_if_absent<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<bool, Error> {
    state::put_if_absent(key, &to_json(value)?)
}

/// Stages the removal of a key; an absent key is fine.
pub fn delete(key: &str) -> Result<(), Error> {
    state::delete(key)
}

/// The entries whose key starts with `prefix`, in key order, from the first key after `after`; `limit` is 1 to 1,000.
/// One list is one snapshot.
pub fn list(prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Entry>, Error> {
    let entries = state::list(prefix, after, limit)?;
    Ok(entries.into_iter().map(|entry| Entry { key: entry.key, value: Value(entry.value) }).collect())
}

/// One page of the JSON values whose key starts with `prefix`, shorter than its limit when they are large. Asks for one entry more than the page holds, to know
/// whether another page follows.
pub fn page<T: DeserializeOwned>(prefix: &str, page: &Page) -> Result<Listing<T>, Error> {
    let after = page.after.as_ref().map(|suffix| format!("{prefix}{suffix}"));
    let mut entries = list(prefix, after.as_deref(), page.limit.saturating_add(1))?;
    let held = page.fit(entries.iter().map(|entry| entry.value.0.len()));
    let more = entries.len() > held;
    entries.truncate(held);
    let next_cursor =
        entries.last().filter(|_| more).and_then(|entry| entry.key.strip_prefix(prefix)).map(cursor::encode);
    let data = entries.iter().map(|entry| entry.value.json()).collect::<Result<Vec<T>, Error>>()?;
    Ok(Listing { data, next_cursor })
}

/// Adds to a counter without reading it; an absent one is zero. Calls that add to the same key never conflict.
pub fn add(key: &str, delta: i64) -> Result<(), Error> {
    state::add(key, delta)
}

/// Adds to a counter that must not fall below `min`; answers whether the bound holds. True is checked again at
/// commit; when it no longer holds then, the call runs again and is told false.
pub fn add_bounded(key: &str, delta: i64, min: i64) -> Result<bool, Error> {
    state::add_bounded(key, delta, min)
}

fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| Error::Other(format!("not JSON: {error}")))
}
