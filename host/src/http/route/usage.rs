//! What the caller's tenant used of which cell on which day.

use std::collections::BTreeMap;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cell::manifest::valid_cell_name;
use crate::gateway::meter;
use crate::http::input::{Query, page_size};
use crate::http::operation::Operation;
use crate::http::output::{Ok200, Page};
use crate::http::problem::Problem;
use crate::id::TenantId;
use crate::rbac::permission::UsageRead;
use crate::rbac::permit::Permit;
use crate::state::Space;
use crate::storage::plan::parse_counter;

/// Which usage; what matches everything given.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UsageFilter {
    /// A cell.
    #[serde(default)]
    pub cell: Option<String>,
    /// Not before this day.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub from: Option<Date>,
    /// Not after this day.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub to: Option<Date>,
    /// Page size, 1 to 200; 50 when absent.
    #[serde(default)]
    pub limit: Option<u32>,
    /// Where the page before ended: its `next_cursor`.
    #[serde(default)]
    pub cursor: Option<String>,
}

/// A cell's usage on a day.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct UsageView {
    /// The cell.
    pub cell: String,
    /// The day, in UTC.
    #[schemars(with = "String")]
    pub day: Date,
    /// Calls, those by other cells included.
    pub invocations: i64,
    /// Fuel charged to the cell itself.
    pub fuel: i64,
    /// Bodies of requests, in bytes.
    pub bytes_in: i64,
    /// Bodies of replies, in bytes.
    pub bytes_out: i64,
}

/// `GET /api/v1/usage`: in the order of cells and days. The operator also sees what calls without a token used.
pub async fn list(
    operation: Operation,
    permit: Permit<UsageRead>,
    Query(filter): Query<UsageFilter>,
) -> Result<Ok200<Page<UsageView>>, Problem> {
    let size = page_size(filter.limit)?;
    if let Some(cell) = filter.cell.as_ref().filter(|cell| !valid_cell_name(cell)) {
        return Err(Problem::invalid("/query/cell", format!("{cell:?} is not a cell's name")));
    }
    let after = filter.cursor.as_deref().map(place).transpose()?;
    operation.kernel.write_usage().await;
    let mut all: BTreeMap<(String, Date), [i64; 4]> = BTreeMap::new();
    let access = permit.access();
    read(&operation, access.tenant, filter.cell.as_deref(), &mut all).await?;
    if access.system {
        read(&operation, TenantId::PLATFORM, filter.cell.as_deref(), &mut all).await?;
    }
    let chosen = all.into_iter().filter(|((cell, day), _)| {
        filter.from.is_none_or(|from| *day >= from)
            && filter.to.is_none_or(|to| *day <= to)
            && after.as_ref().is_none_or(|(last, at)| (cell, day) > (last, at))
    });
    let view = |((cell, day), counters): ((String, Date), [i64; 4])| {
        let [bytes_in, bytes_out, fuel, invocations] = counters;
        UsageView { cell, day, invocations, fuel, bytes_in, bytes_out }
    };
    let data: Vec<UsageView> = chosen.take(size as usize + 1).map(view).collect();
    Ok(Ok200(Page::cut(data, size, |view| format!("{}/{}", view.cell, view.day))))
}

/// Where a page ended.
fn place(cursor: &str) -> Result<(String, Date), Problem> {
    let parsed = cursor.split_once('/').and_then(|(cell, day)| Some((cell.to_owned(), day.parse().ok()?)));
    parsed.ok_or_else(|| Problem::invalid("/query/cursor", "must be the next_cursor of a page of this list"))
}

async fn read(
    operation: &Operation,
    tenant: TenantId,
    cell: Option<&str>,
    all: &mut BTreeMap<(String, Date), [i64; 4]>,
) -> Result<(), Problem> {
    let entries = operation.kernel.storage.scan_all(Space::kernel(tenant).key(meter::prefix(cell))).await?;
    for entry in entries {
        let mut parts = entry.key.split('/').skip(1);
        let (Some(cell), Some(day), Some(name)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let place = meter::COUNTERS.iter().position(|counter| *counter == name);
        let (Ok(day), Some(place)) = (day.parse(), place) else { continue };
        let counters = all.entry((cell.to_owned(), day)).or_default();
        if let (Some(counter), Some(value)) = (counters.get_mut(place), parse_counter(&entry.versioned.value)) {
            *counter = counter.saturating_add(value);
        }
    }
    Ok(())
}
