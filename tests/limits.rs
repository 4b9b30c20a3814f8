//! `docs/limits.md` and `host/src/limit.rs` say the same, and every test that proves a limit exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Constants that limit a cell and are therefore in the table.
const OF_CELLS: [&str; 27] = [
    "FUEL_DEFAULT",
    "FUEL_MAX",
    "TIMEOUT_MS_DEFAULT",
    "TIMEOUT_MS_MAX",
    "MEMORY_MB_DEFAULT",
    "MEMORY_MB_MAX",
    "GUEST_STACK_BYTES_MAX",
    "TABLE_ELEMENTS_MAX",
    "OUTPUT_KB_DEFAULT",
    "OUTPUT_KB_MAX",
    "REPLY_HEADERS_MAX",
    "REPLY_HEADER_BYTES_MAX",
    "CONCURRENCY_DEFAULT",
    "CONCURRENCY_MAX",
    "HOST_CALLS_MAX",
    "HOST_CALL_BYTES_MAX",
    "STATE_WRITES_MAX",
    "STATE_WRITE_BYTES_MAX",
    "EVENTS_PER_CALL_MAX",
    "EVENT_DATA_BYTES_MAX",
    "LOG_LINES_PER_CALL_MAX",
    "CALL_DEPTH_MAX",
    "WASI_RESOURCES_MAX",
    "WASI_RANDOM_BYTES_MAX",
    "WASI_FIELD_BYTES_MAX",
    "OUTBOUND_REQUESTS_MAX",
    "OUTBOUND_REPLY_BYTES_MAX",
];

struct Row {
    limit: String,
    constants: Vec<String>,
    numbers: Vec<String>,
    test: String,
}

fn read(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(file).unwrap_or_else(|cause| panic!("{path}: {cause}"))
}

/// The rows of all tables of the document.
fn rows() -> Vec<Row> {
    let text = read("docs/limits.md");
    let lines = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| limit "));
    let row = |line: &str| {
        let columns: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(columns.len(), 7, "a row has seven columns: {line}");
        let names = columns[1].split('`').skip(1).step_by(2).map(str::to_owned);
        let numbers = [columns[2], columns[3]].into_iter().filter(|text| *text != "fixed");
        Row {
            limit: columns[0].to_owned(),
            constants: names.collect(),
            numbers: numbers.map(|number| number.replace(',', "")).collect(),
            test: columns[5].trim_matches('`').to_owned(),
        }
    };
    lines.map(row).collect()
}

/// The whole numbers among the constants; a product is multiplied out.
fn constants() -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for line in read("host/src/limit.rs").lines() {
        let Some((name, rest)) = line.strip_prefix("pub const ").and_then(|rest| rest.split_once(':')) else {
            continue;
        };
        let Some((_, expression)) = rest.trim_end_matches(';').split_once("= ") else { continue };
        let factors = expression.split('*').map(|factor| factor.trim().replace('_', "").parse::<u64>());
        if let Ok(factors) = factors.collect::<Result<Vec<_>, _>>() {
            found.insert(name.to_owned(), factors.iter().product());
        }
    }
    found
}

#[test]
fn the_table_says_what_the_code_does() {
    let constants = constants();
    let rows = rows();
    for row in rows.iter().filter(|row| !row.constants.is_empty()) {
        let values: Vec<String> = row.constants.iter().map(|name| constants[name].to_string()).collect();
        assert_eq!(values, row.numbers, "docs/limits.md, {:?}: host/src/limit.rs says otherwise", row.limit);
    }
    let listed: BTreeSet<&str> = rows.iter().flat_map(|row| &row.constants).map(String::as_str).collect();
    for name in OF_CELLS {
        assert!(listed.contains(name), "{name} limits a cell and is not in docs/limits.md");
    }
}

#[test]
fn every_limit_has_its_test() {
    for row in rows() {
        let (file, name) = row.test.rsplit_once("::").expect("a test is named by its path");
        let text = read(&format!("tests/{}.rs", file.replace("::", "/")));
        let exists = text.contains(&format!("async fn {name}(")) || text.contains(&format!("fn {name}("));
        assert!(exists, "docs/limits.md, {:?}: tests/{file} has no {name}", row.limit);
    }
}
