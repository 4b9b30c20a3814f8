//! `aibos:cell/config`: settings that the operator gives a cell by name.

use crate::cell::binding::aibos::cell::config::{Error, Host};
use crate::cell::store::CellStore;

impl Host for CellStore {
    async fn get(&mut self, name: String) -> wasmtime::Result<Result<Option<String>, Error>> {
        self.enter().await?;
        if !self.version.manifest.capabilities.config.contains(&name) {
            return Ok(Err(Error::Denied(format!("add {name:?} to config in [capabilities] of cell.toml"))));
        }
        let settings = self.tree.settings.get(&*self.version.name);
        Ok(Ok(settings.and_then(|settings| settings.get(&name)).cloned()))
    }
}
