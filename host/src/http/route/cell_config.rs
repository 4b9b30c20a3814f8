//! Settings of cells: what is stored here comes before `[cell.NAME]` of `aibos.toml`.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::cell::{CellPath, find};
use crate::cell::given::{SettingRecord, secret_key, setting_key, valid_name};
use crate::http::input::{Json, Path};
use crate::http::operation::Operation;
use crate::http::output::{NoContent, Ok200, Page};
use crate::http::problem::Problem;
use crate::limit;
use crate::rbac::permission::CellOperate;
use crate::rbac::permit::Permit;
use crate::state::{Scan, StateKey};

/// Names a setting or a secret of a cell.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct GivenPath {
    /// The cell.
    pub name: String,
    /// The setting or secret: 1 to 64 letters, digits, `_`, `-` and `.`, a letter first.
    pub key: String,
}

impl GivenPath {
    /// Refuses a name that no manifest may ask for.
    pub fn check(&self) -> Result<(), Problem> {
        if valid_name(&self.key) {
            return Ok(());
        }
        Err(Problem::invalid("/path/key", "must be 1 to 64 letters, digits, _, - and ., with a letter first"))
    }
}

/// A setting's value.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSetting {
    /// At most 4 KiB.
    pub value: String,
}

/// A setting as the API shows it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SettingView {
    /// Its name.
    pub name: String,
    /// What the cell reads.
    pub value: String,
    /// When it was set; null when it comes from `aibos.toml`.
    pub updated_at: Option<Timestamp>,
}

/// `PUT /api/v1/cells/{name}/config/{key}`
pub async fn set(
    operation: Operation,
    _permit: Permit<CellOperate>,
    (Path(path), Json(body)): (Path<GivenPath>, Json<NewSetting>),
) -> Result<Ok200<SettingView>, Problem> {
    path.check()?;
    if body.value.len() > limit::SETTING_BYTES_MAX {
        return Err(Problem::invalid("/value", format!("must have at most {} bytes", limit::SETTING_BYTES_MAX)));
    }
    let GivenPath { name: cell, key: name } = path;
    find(&operation, &cell).await?;
    let key = setting_key(&cell, &name);
    if operation.work.read(&key).await?.is_none() {
        check_room(list_all::<SettingRecord>(&operation, setting_key(&cell, "")).await?.len())?;
    }
    operation.target("setting", format!("{cell}/{name}"));
    operation.detail("value", body.value.as_str());
    let record = SettingRecord { cell, name, value: body.value, updated_at: operation.context.now };
    operation.work.save(key, &record)?;
    Ok(Ok200(view(record)))
}

/// `DELETE /api/v1/cells/{name}/config/{key}`
pub async fn delete(
    operation: Operation,
    _permit: Permit<CellOperate>,
    Path(path): Path<GivenPath>,
) -> Result<NoContent, Problem> {
    let key = setting_key(&path.name, &path.key);
    if operation.work.read(&key).await?.is_none() {
        return Err(Problem::not_found("stored setting", format!("{}/{}", path.name, path.key)));
    }
    operation.work.delete(key)?;
    operation.target("setting", format!("{}/{}", path.name, path.key));
    Ok(NoContent)
}

/// `GET /api/v1/cells/{name}/config`: what the cell reads, in the order of the names.
pub async fn list(
    operation: Operation,
    _permit: Permit<CellOperate>,
    Path(path): Path<CellPath>,
) -> Result<Ok200<Page<SettingView>>, Problem> {
    find(&operation, &path.name).await?;
    let stored = list_all(&operation, setting_key(&path.name, "")).await?;
    let mut data: Vec<SettingView> = stored.into_iter().map(view).collect();
    for (name, value) in operation.kernel.config.cell_settings.get(&path.name).into_iter().flatten() {
        if !data.iter().any(|stored| stored.name == *name) {
            data.push(SettingView { name: name.clone(), value: value.clone(), updated_at: None });
        }
    }
    data.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Ok200(Page { data, next_cursor: None }))
}

/// Refuses one more than a cell may have.
pub fn check_room(present: usize) -> Result<(), Problem> {
    if present < limit::GIVEN_PER_CELL_MAX as usize {
        return Ok(());
    }
    let most = limit::GIVEN_PER_CELL_MAX;
    Err(Problem::invalid("/path/key", format!("the cell has {most} of them already; remove one first")))
}

/// The records under the prefix of a cell's settings or secrets.
pub async fn list_all<T: DeserializeOwned>(operation: &Operation, all: StateKey) -> Result<Vec<T>, Problem> {
    Ok(operation.work.load_page::<T>(&scan(all)).await?.into_iter().map(|(_, record)| record).collect())
}

/// Removes every stored setting and every secret of a cell.
pub async fn delete_of(operation: &Operation, cell: &str) -> Result<(), Problem> {
    for all in [setting_key(cell, ""), secret_key(cell, "")] {
        let space = all.space.clone();
        for (key, _) in operation.work.list(&scan(all)).await? {
            operation.work.delete(space.key(key))?;
        }
    }
    Ok(())
}

fn scan(all: StateKey) -> Scan {
    Scan { space: all.space, prefix: all.key, after: None, limit: limit::GIVEN_PER_CELL_MAX }
}

fn view(record: SettingRecord) -> SettingView {
    SettingView { name: record.name, value: record.value, updated_at: Some(record.updated_at) }
}
