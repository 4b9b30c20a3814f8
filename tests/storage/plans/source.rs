//! The statements of the kernel, read from its source: what is not listed by anybody cannot be forgotten. A statement is a
//! string literal below `host/src/storage` that begins with a verb of SQL. Since sqlx takes only literals, nothing else is
//! sent; the few that are put together at run time begin with a literal that ends in a space.

use std::collections::BTreeSet;

use suite::database::Backend;

use crate::tidy::{self, File};

/// How a statement begins.
const VERBS: [&str; 6] = ["delete", "insert", "select", "update", "values", "with"];

/// A statement as it stands in the source.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    /// File and constant, or file and line: `whole.rs VERSIONS`.
    pub(super) name: String,
    pub(super) sql: String,
    /// None when both databases understand it.
    pub(super) backend: Option<Backend>,
    /// The index that must serve it, where only one is right.
    pub(super) index: Option<String>,
}

impl Statement {
    /// Whether something is added at run time.
    pub(super) fn is_begun(&self) -> bool {
        self.sql.ends_with(' ')
    }

    /// Whether it asks for what is decided at run time.
    pub(super) fn is_search(&self) -> bool {
        self.is_begun() && self.sql.starts_with("select")
    }

    pub(super) fn runs_on(&self, backend: Backend) -> bool {
        self.backend.is_none_or(|its| its == backend)
    }
}

/// Whether a file may talk to a database.
pub(super) fn is_storage(path: &str) -> bool {
    path == "host/src/storage.rs" || path.starts_with("host/src/storage/")
}

/// Every statement, in the order of the files.
pub(super) fn statements() -> Vec<Statement> {
    let files = tidy::files(&["host/src"], &[".rs"]);
    files.iter().filter(|file| is_storage(&file.path)).flat_map(of_file).collect()
}

/// The statements of one file.
pub(super) fn of_file(file: &File) -> Vec<Statement> {
    let place = file.path.trim_start_matches("host/src/").trim_start_matches("storage/");
    let literals = tidy::strings(&file.text).into_iter().filter(|(_, token)| is_statement(inside(token)));
    let statement = |(at, token): (usize, &str)| {
        let line = tidy::line_of(&file.text, at);
        assert!(token.starts_with('r') || !token.contains('\\'), "{}:{line}: write SQL without escapes", file.path);
        let constant = constant(&file.text[..at]);
        let backend = match place.split(['/', '.']).next() {
            Some("sqlite") => Some(Backend::Sqlite),
            Some("postgres") => Some(Backend::Postgres),
            _ => constant.and_then(|name| match name.rsplit_once('_')?.1 {
                "SQLITE" => Some(Backend::Sqlite),
                "POSTGRES" => Some(Backend::Postgres),
                _ => None,
            }),
        };
        let name = constant.map_or_else(|| format!("{place}:{line}"), |constant| format!("{place} {constant}"));
        Statement { name, sql: inside(token).to_owned(), backend, index: None }
    };
    literals.map(statement).collect()
}

/// What stands between the quotes.
fn inside(token: &str) -> &str {
    token.trim_start_matches('r').trim_matches('#').trim_matches('"')
}

fn is_statement(text: &str) -> bool {
    let mut words = text.split_whitespace();
    words.next().is_some_and(|first| VERBS.contains(&first.to_lowercase().as_str())) && words.next().is_some()
}

/// The constant whose value begins here.
fn constant(before: &str) -> Option<&str> {
    let rest = before.trim_end().strip_suffix("&str =")?.trim_end().strip_suffix(':')?;
    rest.rsplit_once("const ").map(|(_, name)| name)
}

/// The tables that the migrations make and that grow. Only the head keeps its one row.
pub(super) fn growing() -> BTreeSet<String> {
    let scripts = tidy::files(&["migrations"], &[".up.sql"]);
    let after = |prefix: &str, next: &str| -> BTreeSet<String> {
        let lines = scripts.iter().flat_map(|file| file.text.lines());
        lines.filter_map(|line| Some(line.strip_prefix(prefix)?.split_once(next)?.0.to_owned())).collect()
    };
    // One that was made to take another's place and name.
    let mut names = &after("create table ", " ") - &after("alter table ", " rename to ");
    names.remove("head");
    names
}

/// Literals that read or write a growing table, as far as words tell, and are no statement.
pub(super) fn hidden(file: &File, growing: &BTreeSet<String>) -> Vec<String> {
    let literals = tidy::strings(&file.text).into_iter().map(|(_, token)| inside(token));
    literals.filter(|text| !is_statement(text) && touches(text, growing)).map(str::to_owned).collect()
}

fn touches(text: &str, growing: &BTreeSet<String>) -> bool {
    let text = text.to_lowercase();
    let words: Vec<&str> =
        text.split(|c: char| c != '_' && !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let mut pairs = words.windows(2);
    pairs.any(|pair| ["from", "into", "join", "update"].contains(&pair[0]) && growing.contains(pair[1]))
}
