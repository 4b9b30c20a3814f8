//! Secrets of cells: set and removed by operators, listed without their values, and never answered by any route.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cell::{CellPath, find};
use super::cell_config::{GivenPath, check_room, list_all};
use crate::cell::given::{SecretRecord, sealed_for, secret_key};
use crate::http::input::{Json, Path};
use crate::http::operation::Operation;
use crate::http::output::{NoContent, Ok200, Page};
use crate::http::problem::Problem;
use crate::limit;
use crate::rbac::permission::CellOperate;
use crate::rbac::permit::Permit;

/// A secret's value. Neither a log line nor a reply shows it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSecret {
    /// 1 byte to 16 KiB.
    value: String,
}

impl fmt::Debug for NewSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewSecret(…)")
    }
}

/// A secret as the API shows it: everything but its value.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SecretView {
    /// Its name.
    pub name: String,
    /// When it was first set.
    pub created_at: Timestamp,
    /// When it was last set.
    pub updated_at: Timestamp,
}

/// `PUT /api/v1/cells/{name}/secrets/{key}`
pub async fn set(
    operation: Operation,
    _permit: Permit<CellOperate>,
    (Path(path), Json(body)): (Path<GivenPath>, Json<NewSecret>),
) -> Result<Ok200<SecretView>, Problem> {
    path.check()?;
    if body.value.is_empty() || body.value.len() > limit::SECRET_BYTES_MAX {
        return Err(Problem::invalid("/value", format!("must have 1 to {} bytes", limit::SECRET_BYTES_MAX)));
    }
    let GivenPath { name: cell, key: name } = &path;
    find(&operation, cell).await?;
    let key = secret_key(cell, name);
    let now = operation.context.now;
    let before = operation.work.load::<SecretRecord>(&key).await?;
    if before.is_none() {
        check_room(list_all::<SecretRecord>(&operation, secret_key(cell, "")).await?.len())?;
    }
    let sealed = operation.kernel.config.master_key.seal(&sealed_for(cell, name), body.value.as_bytes());
    let created_at = before.map_or(now, |record| record.created_at);
    let record = SecretRecord::new(cell, name, &sealed.map_err(Problem::internal)?, created_at, now);
    operation.work.save(key, &record)?;
    operation.target("secret", format!("{cell}/{name}"));
    Ok(Ok200(view(record)))
}

/// `DELETE /api/v1/cells/{name}/secrets/{key}`
pub async fn delete(
    operation: Operation,
    _permit: Permit<CellOperate>,
    Path(path): Path<GivenPath>,
) -> Result<NoContent, Problem> {
    let key = secret_key(&path.name, &path.key);
    if operation.work.load::<SecretRecord>(&key).await?.is_none() {
        return Err(Problem::not_found("secret", format!("{}/{}", path.name, path.key)));
    }
    operation.work.delete(key)?;
    operation.target("secret", format!("{}/{}", path.name, path.key));
    Ok(NoContent)
}

/// `GET /api/v1/cells/{name}/secrets`: at most 100, in the order of their names.
pub async fn list(
    operation: Operation,
    _permit: Permit<CellOperate>,
    Path(path): Path<CellPath>,
) -> Result<Ok200<Page<SecretView>>, Problem> {
    find(&operation, &path.name).await?;
    let data = list_all(&operation, secret_key(&path.name, "")).await?.into_iter().map(view).collect();
    Ok(Ok200(Page { data, next_cursor: None }))
}

fn view(record: SecretRecord) -> SecretView {
    SecretView { name: record.name, created_at: record.created_at, updated_at: record.updated_at }
}
