//! The kernel's own records: users, roles, cells, routes. JSON values in the same versioned state as those of cells, read and
//! staged through the same unit of work.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::work::{Work, WorkError};
use super::{Scan, StateKey};

impl Work {
    /// A record of the kernel.
    pub async fn load<T: DeserializeOwned>(&self, key: &StateKey) -> Result<Option<T>, WorkError> {
        self.read(key).await?.map(|bytes| decode(&key.key, &bytes)).transpose()
    }

    /// A page of records of the kernel, in key order, with their keys.
    pub async fn load_page<T: DeserializeOwned>(&self, scan: &Scan) -> Result<Vec<(String, T)>, WorkError> {
        let entries = self.list(scan).await?;
        entries.into_iter().map(|(key, bytes)| decode(&key, &bytes).map(|record| (key, record))).collect()
    }

    /// Stages a record of the kernel.
    pub fn save<T: Serialize>(&self, key: StateKey, record: &T) -> Result<(), WorkError> {
        let bytes = serde_json::to_vec(record).map_err(|_| WorkError::CorruptRecord(key.key.clone()))?;
        self.put(key, bytes.into())
    }
}

fn decode<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, WorkError> {
    serde_json::from_slice(bytes).map_err(|_| WorkError::CorruptRecord(key.to_owned()))
}
