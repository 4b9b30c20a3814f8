//! `aibos:cell/secrets`: secrets that the operator gives a cell by name. The guest gets a handle; only `reveal` opens the
//! sealed value, and every name that a request revealed is audited, whatever becomes of the request.

use wasmtime::component::Resource;

use crate::cell::binding::aibos::cell::secrets::{Error, Host, HostSecret};
use crate::cell::outcome::Stop;
use crate::cell::store::{CellStore, Purpose};

/// What a handle of a guest stands for.
#[derive(Debug)]
pub struct Secret {
    name: String,
}

impl Host for CellStore {
    async fn get(&mut self, name: String) -> wasmtime::Result<Result<Resource<Secret>, Error>> {
        self.enter("secrets").await?;
        if !self.version.manifest.capabilities.secrets.contains(&name) {
            return Ok(Err(Error::Denied(format!("add {name:?} to secrets in [capabilities] of cell.toml"))));
        }
        if !self.tree.catalog.given.has_secret(&self.version.name, &name) {
            return Ok(Err(Error::Missing(format!("the operator has not set the secret {name}"))));
        }
        let handle = self.handles().push(Secret { name }).map_err(|_full| Stop::Limit("secrets"))?;
        Ok(Ok(handle))
    }
}

impl HostSecret for CellStore {
    async fn reveal(&mut self, handle: Resource<Secret>) -> wasmtime::Result<Result<String, Error>> {
        self.enter("secrets").await?;
        if self.purpose == Purpose::Health {
            // Nobody's request would answer for it.
            return Ok(Err(Error::Denied("a health check cannot reveal a secret".into())));
        }
        let name = self.handles().get(&handle)?.name.clone();
        let Some(value) = self.tree.catalog.given.reveal(&self.version.name, &name) else {
            return Ok(Err(Error::Other(format!("the secret {name} cannot be opened; set it again"))));
        };
        self.tree.reveal(&self.version.reference, &name);
        Ok(Ok(value))
    }

    async fn drop(&mut self, handle: Resource<Secret>) -> wasmtime::Result<()> {
        self.handles().delete(handle)?;
        Ok(())
    }
}
