//! `aibos:cell/config`: settings that the operator gives a cell by name.

use crate::cell::binding::aibos::cell::config::{Error, Host};
use crate::cell::store::CellStore;

impl Host for CellStore {
    async fn get(&mut self, name: String) -> wasmtime::Result<Result<Option<String>, Error>> {
        self.enter("config").await?;
        if !self.version.manifest.capabilities.config.contains(&name) {
            return Ok(Err(Error::Denied(format!("add {name:?} to config in [capabilities] of cell.toml"))));
        }
        let cell = &*self.version.name;
        let of_file = || self.tree.settings.get(cell)?.get(&name);
        Ok(Ok(self.tree.catalog.given.setting(cell, &name).or_else(of_file).cloned()))
    }
}
