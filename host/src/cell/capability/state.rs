//! `aibos:cell/state`: a cell's own keys and values. Reads are remembered, writes are staged; see `state::work`.

use bytes::Bytes;

use crate::cell::binding::aibos::cell::state::{Entry, Error, Host};
use crate::cell::outcome::Stop;
use crate::cell::store::CellStore;
use crate::limit;
use crate::state::work::WorkError;
use crate::state::{Scan, Space, StateKey, valid_key};

/// What a state operation answers: the inner error goes to the guest, the outer one stops it.
type Answer<T> = wasmtime::Result<Result<T, Error>>;

/// Unwraps what the guest may hear; an inner error is its answer.
macro_rules! or_answer {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(error) => return Ok(Err(error)),
        }
    };
}

impl Host for CellStore {
    async fn get(&mut self, key: String) -> Answer<Option<Vec<u8>>> {
        let key = or_answer!(self.begin(key).await?);
        answer(self.tree.work.read(&key).await.map(|value| value.map(Vec::from)))
    }

    async fn get_many(&mut self, keys: Vec<String>) -> Answer<Vec<Option<Vec<u8>>>> {
        self.enter("state").await?;
        let space = or_answer!(self.space().ok_or(Error::NoTenant));
        if keys.len() > limit::STATE_PAGE_MAX as usize {
            return Ok(Err(Error::TooLarge(format!("at most {} keys at once", limit::STATE_PAGE_MAX))));
        }
        let keys = or_answer!(keys.into_iter().map(|key| own_key(&space, key)).collect::<Result<Vec<_>, _>>());
        let values = self.tree.work.read_many(&keys).await;
        answer(values.map(|values| values.into_iter().map(|value| value.map(Vec::from)).collect()))
    }

    async fn put(&mut self, key: String, value: Vec<u8>) -> Answer<()> {
        let key = or_answer!(self.begin(key).await?);
        or_answer!(check_value(&value));
        self.charge_write(key.key.len() + value.len())?;
        answer(self.tree.work.put(key, value.into()))
    }

    async fn put_if_absent(&mut self, key: String, value: Vec<u8>) -> Answer<bool> {
        let key = or_answer!(self.begin(key).await?);
        or_answer!(check_value(&value));
        let present = match self.tree.work.read(&key).await {
            Ok(present) => present.is_some(),
            Err(error) => return answer(Err(error)),
        };
        if present {
            return Ok(Ok(false));
        }
        self.charge_write(key.key.len() + value.len())?;
        answer(self.tree.work.put(key, value.into()).map(|()| true))
    }

    async fn delete(&mut self, key: String) -> Answer<()> {
        let key = or_answer!(self.begin(key).await?);
        self.charge_write(key.key.len())?;
        answer(self.tree.work.delete(key))
    }

    async fn list(&mut self, prefix: String, after: Option<String>, limit: u32) -> Answer<Vec<Entry>> {
        self.enter("state").await?;
        let space = or_answer!(self.space().ok_or(Error::NoTenant));
        if !(1..=limit::STATE_PAGE_MAX).contains(&limit) {
            return Ok(Err(Error::TooLarge(format!("limit must be between 1 and {}", limit::STATE_PAGE_MAX))));
        }
        for text in [Some(&prefix), after.as_ref()].into_iter().flatten() {
            if !text.is_empty() && !valid_key(text) {
                return Ok(Err(Error::InvalidKey(text.clone())));
            }
        }
        let entries = self.tree.work.list(&Scan { space, prefix, after, limit }).await;
        let entry = |(key, value): (String, Bytes)| Entry { key, value: value.into() };
        answer(entries.map(|entries| entries.into_iter().map(entry).collect()))
    }

    async fn add(&mut self, key: String, delta: i64) -> Answer<()> {
        let key = or_answer!(self.begin(key).await?);
        self.charge_write(key.key.len())?;
        answer(self.tree.work.add(key, delta).await)
    }

    async fn add_bounded(&mut self, key: String, delta: i64, min: i64) -> Answer<bool> {
        let key = or_answer!(self.begin(key).await?);
        self.charge_write(key.key.len())?;
        answer(self.tree.work.add_bounded(key, delta, min).await)
    }
}

impl CellStore {
    /// Counts the host call and names the key in the cell's own space.
    async fn begin(&mut self, key: String) -> wasmtime::Result<Result<StateKey, Error>> {
        self.enter("state").await?;
        Ok(self.space().ok_or(Error::NoTenant).and_then(|space| own_key(&space, key)))
    }
}

fn own_key(space: &Space, key: String) -> Result<StateKey, Error> {
    if valid_key(&key) { Ok(space.key(key)) } else { Err(Error::InvalidKey(key)) }
}

fn check_value(value: &[u8]) -> Result<(), Error> {
    if value.len() > limit::STATE_VALUE_BYTES_MAX {
        return Err(Error::TooLarge(format!("a value has at most {} bytes", limit::STATE_VALUE_BYTES_MAX)));
    }
    Ok(())
}

/// What the guest hears of a result; what it cannot mend stops it.
fn answer<T>(result: Result<T, WorkError>) -> Answer<T> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(WorkError::NotACounter(key)) => Ok(Err(Error::NotACounter(key))),
        Err(WorkError::LimitExceeded(limit)) => Err(Stop::Limit(limit).into()),
        Err(error @ (WorkError::Storage(_) | WorkError::CorruptRecord(_))) => Err(Stop::Storage(error).into()),
    }
}
