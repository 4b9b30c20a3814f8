//! Rows in every table that grows, so that PostgreSQL's planner has something to choose between: a few tenants, a few
//! kinds of things, and ids that are all different.

use suite::database::Database;

/// Rows of each table.
const ROWS: u32 = 20_000;

/// Table and row number `n`. `OWN` is an id of its own, `TENANT` one of eight; `BYTES_8` is a value of 8 bytes.
pub(super) const TABLES: [(&str, &str); 8] = [
    ("node", "OWN, OWN"),
    ("tenant_sequence", "OWN, n"),
    ("state", "TENANT, 'space', 'key-' || n, n, BYTES_8"),
    ("idempotency", "TENANT, 'user-' || n % 100, '/route', 'key-' || n, BYTES_32, 201, '[]', BYTES_8, n, n"),
    (
        "event",
        "TENANT, n, 'id-' || n, '/cells/hub', 'kind-' || n % 20, 'subject-' || n % 5000, n, '{}', 'user-' || n % 100, OWN, \
         null, n",
    ),
    (
        "audit",
        "n, '{}', BYTES_32, OWN, TENANT, n, 'user-' || n % 100, 'action-' || n % 20, case when n % 50 = 0 then 'denied' \
         else 'success' end, OWN, n",
    ),
    ("audit_tile", "n % 3, n, BYTES_32, BYTES_8192"),
    ("audit_checkpoint", "n, BYTES_8"),
];

/// Fills the tables and tells the planner.
pub(super) async fn fill(database: &Database) {
    for (table, row) in TABLES {
        let row = row.replace("OWN", &id("n")).replace("TENANT", &id("n % 8"));
        let row =
            [8192, 32, 8].into_iter().fold(row, |row, length| row.replace(&format!("BYTES_{length}"), &bytes(length)));
        let sql = format!("insert into {table} select {row} from generate_series(1::bigint, {ROWS}) as numbers (n)");
        database.execute(&sql).await.unwrap_or_else(|cause| panic!("{sql}: {cause}"));
    }
    database.execute("analyze").await.expect("tables can be analyzed");
}

fn id(number: &str) -> String {
    format!("cast(lpad(to_hex({number}), 32, '0') as uuid)")
}

fn bytes(length: u32) -> String {
    format!("decode(repeat('00', {length}), 'hex')")
}
