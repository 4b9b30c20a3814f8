//! Every statement that touches a table that grows is served by an index: the databases themselves are asked how they would
//! run it. The statements are read from the source, so a new one is asked about without being listed anywhere.

mod rows;
mod source;

use std::collections::{BTreeMap, BTreeSet};

use aibos::audit::{AuditQuery, Outcome};
use aibos::event::EventQuery;
use aibos::id::{CorrelationId, TenantId};
use aibos::storage::Storage;
use aibos::storage::postgres::settings;
use jiff::Timestamp;
use serde_json::Value;
use source::Statement;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row, SqliteConnection, ValueRef};
use suite::database::Backend;

use super::Subject;

on_both_backends! {
    every_statement_is_served_by_an_index,
    every_search_of_events_is_served_by_an_index,
    every_search_of_the_audit_log_is_served_by_an_index,
    a_bad_statement_is_found,
}

/// What a statement may do nevertheless: its name, how the fault begins, why it is bounded.
const ALLOWED: [(&str, &str, &str); 7] = [
    ("migrate.rs AUDIT_HAS_ENTRIES", "goes through all of audit_", "ends with the first row"),
    ("migrate.rs AUDIT_HAS_ENTRIES", "SCAN audit USING COVERING INDEX", "ends with the first row"),
    ("whole.rs SEQUENCES", "", "a check of everything reads everything"),
    ("whole.rs CALLS_POSTGRES", FILTERED, "entries of one millisecond"),
    ("record.rs AUDIT_ENTRY", FILTERED, "an id is that of one entry"),
    ("postgres/answer.rs VERSIONS", "Sort", "as many as were asked for"),
    ("sqlite/read.rs READ", "USE TEMP B-TREE", "as many as were asked for"),
];

/// On an empty table either index of events looks as good as the other. The first ANALYZE, which follows the first rows, has
/// these planned again.
const ALLOWED_WHEN_NEW: [&str; 3] = ["postgres/answer.rs EVENTS", "record.rs EVENT", "whole.rs ABOUT_POSTGRES"];

const FILTERED: &str = "reads rows that are not meant: ";

/// A database that tells how it would run a statement.
enum Planner {
    Sqlite(SqliteConnection),
    Postgres {
        connection: PgConnection,
        /// The first column of each index.
        leading: BTreeMap<String, String>,
    },
}

impl Planner {
    /// With the settings of the kernel's own connections.
    async fn of(subject: &Subject) -> Self {
        let url = subject.database.url();
        if matches!(subject.storage, Storage::Sqlite(_)) {
            return Self::Sqlite(SqliteConnection::connect(url).await.unwrap());
        }
        let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
        let options = options.options(settings());
        let mut connection = PgConnection::connect_with(&options).await.unwrap();
        let leading = "select pg_class.relname::text, pg_attribute.attname::text from pg_index
            join pg_class on pg_class.oid = indexrelid
            join pg_attribute on attrelid = indrelid and attnum = indkey[0]
            where indrelid::regclass::text not in ('head', 'migration') and indrelid > 16384";
        let leading: Vec<(String, String)> = sqlx::query_as(leading).fetch_all(&mut connection).await.unwrap();
        Self::Postgres { connection, leading: leading.into_iter().collect() }
    }

    /// How a statement would be run, and what is wrong with that.
    async fn faults(&mut self, sql: &str, growing: &BTreeSet<String>) -> (String, Vec<String>) {
        match self {
            Self::Sqlite(connection) => {
                let rows = connection.fetch_all(AssertSqlSafe(format!("explain query plan {sql}"))).await;
                let rows = rows.unwrap_or_else(|cause| panic!("{cause}: {sql}"));
                let lines: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
                (lines.join("\n"), lines.iter().filter_map(|line| sqlite_fault(line)).collect())
            }
            Self::Postgres { connection, leading } => {
                let plan = postgres_plan(connection, sql).await;
                let mut faults = Vec::new();
                judge(&plan, growing, leading, &mut faults);
                (plan.to_string(), faults)
            }
        }
    }
}

fn sqlite_fault(line: &str) -> Option<String> {
    // What does not grow: arrays and values of the statement itself, and tables that are kept small.
    const SMALL: [&str; 5] = ["VIRTUAL TABLE", "CONSTANT ROW", "SCAN head", "SCAN migration", "SCAN sqlite_master"];
    let scan = line.starts_with("SCAN") && !SMALL.iter().any(|small| line.contains(small));
    let bad = ["AUTOMATIC", "ANY(", "USE TEMP B-TREE"].iter().any(|bad| line.contains(bad));
    (scan || bad).then(|| line.to_owned())
}

/// Planned once for all values, as the kernel has it planned.
async fn postgres_plan(connection: &mut PgConnection, sql: &str) -> Value {
    let asked = |cause: sqlx::Error| panic!("{cause}: {sql}");
    let parameters = (1..100).take_while(|number| sql.contains(&format!("${number}"))).count();
    let nulls = if parameters == 0 { String::new() } else { format!("({})", vec!["null"; parameters].join(", ")) };
    let run = async |connection: &mut PgConnection, sql: String| {
        sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await
    };
    run(connection, format!("prepare asked as {sql}")).await.unwrap_or_else(asked);
    let rows = run(connection, format!("explain (format json) execute asked{nulls}")).await.unwrap_or_else(asked);
    run(connection, "deallocate asked".into()).await.unwrap_or_else(asked);
    let text = rows[0].try_get_raw(0).unwrap();
    assert!(!text.is_null());
    serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap()[0]["Plan"].take()
}

/// Adds what is wrong with a node of a plan and what is below it; answers whether a growing table is read there.
fn judge(
    node: &Value,
    growing: &BTreeSet<String>,
    leading: &BTreeMap<String, String>,
    faults: &mut Vec<String>,
) -> bool {
    let text = |name: &str| node[name].as_str().unwrap_or_default();
    let kind = text("Node Type");
    let mut grows = false;
    for below in node["Plans"].as_array().into_iter().flatten() {
        grows |= judge(below, growing, leading, faults);
    }
    let table = text("Relation Name");
    if kind != "ModifyTable" && growing.contains(table) {
        grows = true;
        if kind == "Seq Scan" {
            faults.push(format!("reads all of {table}"));
        }
    }
    for filter in ["Filter", "Join Filter"].map(text).into_iter().filter(|filter| grows && !filter.is_empty()) {
        faults.push(format!("{FILTERED}{filter}"));
    }
    if let Some(column) = leading.get(text("Index Name"))
        && !text("Index Cond").contains(column.as_str())
    {
        faults.push(format!("goes through all of {}", text("Index Name")));
    }
    if grows && ["Sort", "Incremental Sort", "Hash", "Merge Join"].contains(&kind) {
        faults.push(format!("{kind} over what it reads"));
    }
    grows
}

/// Asks about statements on a new database, and on `PostgreSQL` on a full one too; fails with everything that is not
/// allowed. `SQLite` has no statistics here, so it decides by the schema alone.
async fn ask(subject: &Subject, statements: &[Statement], allowed: impl Fn(&str, &str) -> bool) {
    let growing = source::growing();
    let mut faults = BTreeSet::new();
    for full in [false, true] {
        if full && matches!(subject.storage, Storage::Sqlite(_)) {
            break;
        }
        if full {
            rows::fill(&subject.database).await;
        }
        let mut planner = Planner::of(subject).await;
        for Statement { name, sql, index, .. } in statements {
            let (plan, mut found) = planner.faults(sql, &growing).await;
            if let Some(index) = index
                && !plan.contains(index.as_str())
            {
                found.push(format!("does not use {index}"));
            }
            let new = !full && ALLOWED_WHEN_NEW.contains(&name.as_str());
            found.retain(|fault| !(allowed(name, fault) || (new && fault.starts_with(FILTERED))));
            faults.extend(found.into_iter().map(|fault| format!("{name}: {fault}")));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.into_iter().collect::<Vec<_>>().join("\n"));
}

async fn every_statement_is_served_by_an_index(subject: Subject) {
    let backend = match subject.storage {
        Storage::Sqlite(_) => Backend::Sqlite,
        Storage::Postgres(_) => Backend::Postgres,
    };
    let mut statements = source::statements();
    // Searches have tests of their own.
    statements.retain(|statement| statement.runs_on(backend) && !statement.is_search());
    for statement in statements.iter_mut().filter(|statement| statement.is_begun()) {
        let columns = statement.sql.trim_end().rsplit_once('(').map_or(0, |(_, names)| names.split(',').count());
        let values: Vec<String> = (1..=columns).map(|number| format!("${number}")).collect();
        statement.sql = format!("{}values ({})", statement.sql, values.join(", "));
    }
    let allowed = |name: &str, fault: &str| {
        ALLOWED.iter().any(|(who, beginning, _)| *who == name && fault.starts_with(beginning))
    };
    ask(&subject, &statements, allowed).await;
}

async fn every_search_of_events_is_served_by_an_index(subject: Subject) {
    let kinds = [("", None), ("type", Some("a.b")), ("types", Some("a.*"))];
    let searches = kinds.into_iter().flat_map(|(name, kind)| {
        let query = |subject: Option<&str>| EventQuery {
            tenant: TenantId::PLATFORM,
            kind: kind.map(Into::into),
            subject: subject.map(Into::into),
            after: 1000,
            limit: 51,
        };
        let index = (name == "type").then_some("event_by_kind");
        let with_subject = (format!("{name} subject").trim().to_owned(), query(Some("s")), Some("event_by_subject"));
        [(name.to_owned(), query(None), index), with_subject]
    });
    let statement = |(name, query, index): (String, EventQuery, Option<&str>)| Statement {
        name,
        sql: subject.storage.event_statement(&query),
        backend: None,
        index: index.map(Into::into),
    };
    let searches: Vec<Statement> = searches.map(statement).collect();
    // Of a type and a subject one has an index; a beginning of types is compared with the tenant's events in their order.
    let allowed =
        |name: &str, fault: &str| name.starts_with("type") && name != "type" && is_filter(fault, &["kind", "subject"]);
    ask(&subject, &searches, allowed).await;
}

async fn every_search_of_the_audit_log_is_served_by_an_index(subject: Subject) {
    const NAMES: [&str; 6] = ["actor", "action", "outcome", "correlation", "from", "to"];
    let (at, id) = (Timestamp::UNIX_EPOCH, CorrelationId::new(&subject.clock));
    let mut searches = Vec::new();
    for filters in 0..64_u32 {
        let given: Vec<&str> =
            (0..).zip(NAMES).filter(|(place, _)| filters & (1 << place) != 0).map(|(_, name)| name).collect();
        let some = |name: &str| given.contains(&name).then(|| name.to_owned());
        let query = AuditQuery {
            tenant: Some(TenantId::PLATFORM),
            actor: some("actor"),
            action: some("action"),
            outcome: some("outcome").map(|_| Outcome::Denied.as_str().into()),
            correlation_id: some("correlation").map(|_| id),
            from: some("from").map(|_| at),
            to: some("to").map(|_| at),
            before: Some(1000),
            limit: 51,
        };
        for (way, sql) in ["in order", "counted", "by time"].into_iter().zip(subject.storage.audit_statements(&query)) {
            let index = match given[..] {
                _ if way != "in order" => Some("audit_by_time".to_owned()),
                _ if given.contains(&"correlation") => Some("audit_by_correlation".to_owned()),
                [] | ["from" | "to"] | ["from", "to"] => Some("audit_by_tenant".to_owned()),
                [one] => Some(format!("audit_by_{one}")),
                _ => None,
            };
            searches.push(Statement { name: format!("{} {way}", given.join("+")), sql, backend: None, index });
        }
    }
    let allowed = |name: &str, fault: &str| {
        // Of several filters one is served by an index; no index has the tenant, the order and a time.
        let several = name.contains('+') && is_filter(fault, &["actor", "action", "outcome", "at"]);
        let sorted = ["Sort over", "SCAN few", "USE TEMP B-TREE"].iter().any(|sorting| fault.starts_with(sorting));
        // What is counted or sorted is limited.
        let few = fault.contains("few.") || sorted;
        several || is_filter(fault, &["at"]) || (few && !name.ends_with("in order"))
    };
    ask(&subject, &searches, allowed).await;
}

/// Whether a fault is a filter by nothing but these columns.
fn is_filter(fault: &str, columns: &[&str]) -> bool {
    const ALL: [&str; 9] = ["tenant", "idx", "sequence", "kind", "subject", "actor", "action", "correlation", "at"];
    let filter = fault.strip_prefix(FILTERED).unwrap_or("tenant");
    let mut words = filter.split(|c: char| c != '_' && !c.is_alphanumeric());
    words.all(|word| columns.contains(&word) || !ALL.contains(&word))
}

/// What makes the reading of the source complete.
#[test]
fn no_statement_hides() {
    let growing = source::growing();
    let mut faults = Vec::new();
    for file in crate::tidy::files(&["host/src"], &[".rs"]) {
        let storage = source::is_storage(&file.path);
        for word in ["AssertSqlSafe", "sqlx::query", "sqlx::raw_sql", "QueryBuilder"] {
            if file.text.contains(word) && (!storage || word == "AssertSqlSafe") {
                faults.push(format!("{}: {word}: statements are literals below host/src/storage", file.path));
            }
        }
        let statements = source::of_file(&file);
        let begun = statements.iter().filter(|statement| statement.is_begun()).count();
        let built =
            file.text.matches("QueryBuilder::new(").count() + file.text.matches("QueryBuilder::<Sqlite>::new(").count();
        if begun != built {
            faults.push(format!(
                "{}: a statement that goes on at run time begins with a literal that ends in a space",
                file.path
            ));
        }
        let searches = statements.iter().filter(|statement| statement.is_search());
        if file.path != "host/src/storage/search.rs" {
            faults.extend(searches.map(|statement| format!("{}: belongs into search.rs", statement.name)));
            let hidden = source::hidden(&file, &growing);
            faults.extend(hidden.into_iter().map(|text| format!("{}: begins with no verb of SQL: {text}", file.path)));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    let filled: BTreeSet<String> = rows::TABLES.iter().map(|(table, _)| (*table).to_owned()).collect();
    assert_eq!(filled, growing, "rows.rs fills every table that the migrations make");
    let statements = source::statements();
    for name in ALLOWED.map(|(name, ..)| name).into_iter().chain(ALLOWED_WHEN_NEW) {
        assert!(
            statements.iter().any(|statement| statement.name == name),
            "{name} is allowed something and is not there"
        );
    }
}

/// A connection keeps its last hundred statements prepared; with more, those of the payments would make room for others.
#[test]
fn a_connection_keeps_every_statement_prepared() {
    const KEPT: usize = 100;
    // Of events, with and without a type, some types, and a subject. Searches of the audit log are not kept.
    const SEARCHES: usize = 6;
    // Inserts of a commit on SQLite, by the number of their rows.
    const SHAPES: usize = 8;
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let statements = source::statements();
        let kept = statements.iter().filter(|statement| statement.runs_on(backend) && !statement.is_search());
        let shapes = |statement: &Statement| if statement.name.starts_with("sqlite/commit.rs:") { SHAPES } else { 1 };
        let count = kept.map(shapes).sum::<usize>() + SEARCHES;
        println!("{backend:?}: {count} statements");
        assert!(count <= KEPT, "{backend:?} has {count} statements: raise the capacity of its connections' caches");
    }
}

/// The judgment is worth what it finds.
async fn a_bad_statement_is_found(subject: Subject) {
    let growing = source::growing();
    let mut planner = Planner::of(&subject).await;
    for sql in [
        "select body from audit where outcome = $1",
        "select body from audit order by at",
        "select body from state join audit on audit.commit_sequence = state.version where state.tenant = $1",
    ] {
        assert!(!planner.faults(sql, &growing).await.1.is_empty(), "{sql}");
    }
}
