//! The house style as a test: sizes, names, the direction of modules, and lists that must agree with each other. It reads
//! the tree as text and needs nothing but the standard library. Formatting and idioms are rustfmt's and clippy's.
//!
//! Every failure names the file and says what to do. A rule that turns out wrong is changed here, in a commit that says why.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a source file; past this it has more than one subject.
const FILE_LINES_MAX: usize = 500;
/// Lines of a file of tests.
const TEST_FILE_LINES_MAX: usize = 800;
/// Lines of code in a function's body, counted as clippy's `too_many_lines` does.
const FUNCTION_LINES_MAX: usize = 70;

/// Names that say nothing about what is inside.
const NAMES_REFUSED: [&str; 9] = ["util", "utils", "helper", "helpers", "common", "misc", "manager", "managers", "mod"];

/// What each module of the host may use besides itself and the [`LEAVES`], in the order in which a request meets them.
const MODULES: [(&str, &[&str]); 9] = [
    ("http", &["kernel", "auth", "rbac", "gateway", "cell", "state", "event", "audit", "storage"]),
    ("auth", &["state", "event", "audit", "storage"]),
    ("rbac", &["auth", "state", "event", "audit", "storage"]),
    ("gateway", &["rbac", "cell", "state", "event", "audit", "storage"]),
    ("cell", &["state", "event", "audit", "storage"]),
    ("state", &["storage"]),
    ("event", &[]),
    ("audit", &["storage"]),
    ("storage", &[]),
];

/// What everything may use, and what itself uses nothing.
const LEAVES: [&str; 8] = ["address", "background", "clock", "config", "context", "id", "limit", "telemetry"];

/// What builds and starts the others, so it knows all of them.
const ROOTS: [&str; 4] = ["main", "lib", "kernel", "command"];

/// Uses against the order. One that is not needed any more must go.
const EXCEPTIONS: [(&str, &str, &str); 15] = [
    ("gateway", "kernel", "Kernel::commit is the one door through which a unit of work is committed"),
    ("cell", "rbac::permission", "a manifest names permissions; only their form is checked"),
    ("cell", "rbac::permit::PUBLIC", "the word in a manifest for a route without a token"),
    ("state", "event::Event", "a unit of work carries events, as data"),
    ("state", "audit::AuditEntry", "a unit of work carries audit entries, as data"),
    ("storage", "state::unit", "what is committed, as data"),
    ("storage", "state::Entry", "what a scan answers, as data"),
    ("storage", "state::Scan", "what is scanned, as data"),
    ("storage", "state::StateKey", "what is read, as data"),
    ("storage", "state::Version", "what is compared at commit, as data; also Versioned"),
    ("storage", "state::Space", "whose key it is, as data; in tests"),
    ("storage", "event", "rows of the event log, as data"),
    ("storage", "audit", "rows of the audit log, as data"),
    ("context", "auth::actor", "who asks is part of a request's circumstances"),
    ("context", "audit", "a context fills in the audit entry of its request"),
];

/// The same for single files, where the module as a whole has no business there.
const FILE_EXCEPTIONS: [(&str, &str, &str); 3] = [
    ("config.rs", "cell::outside", "what tests put in the place of the internet; no setting does"),
    ("config.rs", "auth::seal", "the master key is parsed where settings are read and never travels as text"),
    (
        "config.rs",
        "cell::signature",
        "trusted keys are parsed where settings are read; a wrong one is told at the start",
    ),
];

/// A file of the tree.
pub(crate) struct File {
    /// Path from the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    fn lines(&self) -> usize {
        self.text.lines().count()
    }

    fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|cause| panic!("{path}: {cause}"))
}

/// The files below some folders of the root that end in one of these, in order.
pub(crate) fn files(folders: &[&str], ends: &[&str]) -> Vec<File> {
    let mut found = Vec::new();
    for folder in folders {
        collect(&root().join(folder), folder, ends, &mut found);
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(directory: &Path, name: &str, ends: &[&str], found: &mut Vec<File>) {
    for entry in fs::read_dir(directory).unwrap_or_else(|cause| panic!("{name}: {cause}")) {
        let entry = entry.expect("a directory can be listed");
        let file_name = entry.file_name().to_string_lossy().into_owned();
        let path = if name == "." { file_name.clone() } else { format!("{name}/{file_name}") };
        let kind = entry.file_type().expect("an entry has a type");
        if kind.is_dir() {
            let built = ["target", "node_modules"].contains(&file_name.as_str());
            let hidden = file_name.starts_with('.') && ![".cargo", ".ci", ".github"].contains(&file_name.as_str());
            if !built && !hidden {
                collect(&entry.path(), &path, ends, found);
            }
        } else if kind.is_file() && ends.iter().any(|end| file_name.ends_with(end)) {
            let text = fs::read_to_string(entry.path()).unwrap_or_else(|cause| panic!("{path}: {cause}"));
            found.push(File { path, text });
        }
    }
}

fn sources() -> Vec<File> {
    files(&["host", "cells", "tests"], &[".rs"])
}

fn report(rule: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{rule}\n  {}", faults.join("\n  "));
}

// --- Sizes and names ---

#[test]
fn every_source_file_says_what_it_is_for() {
    let faults: Vec<String> =
        sources().into_iter().filter(|file| !file.text.starts_with("//! ")).map(|file| file.path).collect();
    report("a source file begins with `//!`: its purpose, its invariant, what is deliberately not there", &faults);
}

#[test]
fn files_are_short() {
    let sources = sources();
    let mut faults = Vec::new();
    for file in &sources {
        let most = if file.is_test() { TEST_FILE_LINES_MAX } else { FILE_LINES_MAX };
        if file.lines() > most {
            faults.push(format!("{} has {} lines, {most} are allowed", file.path, file.lines()));
        }
    }
    print_sizes(&sources);
    report("split the file by the noun that it serves", &faults);
}

/// Shown by `cargo test -- --nocapture`.
fn print_sizes(sources: &[File]) {
    for (what, wanted) in [("source", false), ("test", true)] {
        let mut lines: Vec<usize> = sources.iter().filter(|file| file.is_test() == wanted).map(File::lines).collect();
        lines.sort_unstable();
        let at = |percent: usize| lines.get(lines.len().saturating_sub(1) * percent / 100).copied().unwrap_or(0);
        println!("{} {what} files: median {} lines, 95th percentile {}", lines.len(), at(50), at(95));
    }
}

#[test]
fn functions_are_short() {
    let mut faults = Vec::new();
    for file in sources() {
        for function in functions(&code(&file.text)) {
            if function.lines > FUNCTION_LINES_MAX {
                let Function { name, line, lines } = function;
                faults.push(format!("{}:{line}: fn {name} has {lines} lines of code", file.path));
            }
        }
    }
    report(&format!("a function has at most {FUNCTION_LINES_MAX} lines of code"), &faults);
}

#[test]
fn names_say_something() {
    let mut faults = Vec::new();
    for file in sources() {
        let parts = file.path.trim_end_matches(".rs").split('/');
        faults.extend(parts.filter(|part| NAMES_REFUSED.contains(part)).map(|part| format!("{}: {part}", file.path)));
        let code = code(&file.text);
        let modules = code.lines().filter_map(|line| Some(line.trim().strip_suffix('{')?.trim().split_once("mod ")?.1));
        faults.extend(modules.filter(|name| NAMES_REFUSED.contains(name)).map(|name| format!("{}: {name}", file.path)));
    }
    report("name a module by what it does for whom; `foo.rs` stands beside `foo/`, there is no mod.rs", &faults);
}

#[test]
fn nothing_is_left_for_later() {
    // Put together so that this file does not contain them.
    let words = [["TO", "DO"], ["FIX", "ME"], ["X", "XX"], ["dbg", "!("]].map(|parts| parts.concat());
    let ends = [".rs", ".md", ".sql", ".wit", ".toml", ".yml", ".yaml", "run", "Dockerfile"];
    let mut faults = Vec::new();
    for file in files(&["."], &ends) {
        let is_rust = Path::new(&file.path).extension().is_some_and(|end| end == "rs");
        for (index, line) in file.text.lines().enumerate() {
            // In Rust only a comment can be such a note; ISO 4217 has a code of three X, which is data.
            let note = if is_rust { line.split_once("//").map_or("", |(_, comment)| comment) } else { line };
            let found = words.iter().find(|word| contains_word(if word.ends_with('(') { line } else { note }, word));
            faults.extend(found.map(|word| format!("{}:{}: {word}", file.path, index + 1)));
        }
    }
    report("finish it, or open an issue", &faults);
}

fn contains_word(line: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && (word.ends_with('(') || !after.is_some_and(is_word))
    })
}

// --- The direction of modules ---

#[test]
fn modules_point_down_the_request_path() {
    let mut faults = Vec::new();
    let mut used = BTreeSet::new();
    for file in files(&["host/src"], &[".rs"]) {
        let local = file.path.trim_start_matches("host/src/");
        let from = local.trim_end_matches(".rs").split('/').next().unwrap_or_default();
        let known = MODULES.iter().any(|(module, _)| *module == from);
        if !known && !LEAVES.contains(&from) && !ROOTS.contains(&from) {
            faults.push(format!("{}: say in tests/tidy.rs which modules {from} may use", file.path));
        }
        if ROOTS.contains(&from) {
            continue;
        }
        let code = code(&file.text);
        for (line, path) in crate_paths(&code) {
            match judge(from, local, &path) {
                Use::Allowed => {}
                Use::Exception(which) => drop(used.insert(which)),
                Use::Forbidden => faults.push(format!("{}:{line}: {from} may not use crate::{path}", file.path)),
            }
        }
        let depth = local.split('/').count();
        let escapes = escaping_supers(&code, depth).into_iter();
        faults
            .extend(escapes.map(|line| format!("{}:{line}: name another module with crate::, not super::", file.path)));
    }
    let exceptions = EXCEPTIONS.iter().chain(&FILE_EXCEPTIONS).map(|(from, path, _)| (*from, *path));
    for (from, path) in exceptions.filter(|exception| !used.contains(exception)) {
        faults.push(format!("tests/tidy.rs: the exception {from} -> {path} is not needed any more"));
    }
    report("http -> auth, rbac -> gateway -> cell -> state, event, audit -> storage; nothing points back", &faults);
}

enum Use {
    Allowed,
    Exception((&'static str, &'static str)),
    Forbidden,
}

fn judge(from: &str, file: &str, path: &str) -> Use {
    let to = path.split("::").next().unwrap_or_default();
    let permitted = MODULES.iter().find(|(module, _)| *module == from).map_or(&[][..], |(_, permitted)| permitted);
    if to == from || LEAVES.contains(&to) || permitted.contains(&to) {
        return Use::Allowed;
    }
    let module = EXCEPTIONS.iter().find(|(who, prefix, _)| *who == from && path.starts_with(prefix));
    let single = FILE_EXCEPTIONS.iter().find(|(who, prefix, _)| *who == file && path.starts_with(prefix));
    module.or(single).map_or(Use::Forbidden, |(who, prefix, _)| Use::Exception((*who, *prefix)))
}

/// Every path that begins with `crate::`, without the `crate::`; groups in braces are written out.
fn crate_paths(code: &str) -> Vec<(usize, String)> {
    const START: &str = "crate::";
    let mut paths = Vec::new();
    for (at, _) in code.match_indices(START) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c == '$' || c == '_' || c.is_alphanumeric()) {
            continue;
        }
        let line = line_of(code, at);
        let mut tree = Vec::new();
        expand(&code[at + START.len()..], "", &mut tree);
        paths.extend(tree.into_iter().map(|path| (line, path)));
    }
    paths
}

/// Reads one path or one group and writes its members out; answers what is left of the text.
fn expand<'a>(text: &'a str, prefix: &str, paths: &mut Vec<String>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
            match rest.strip_prefix('}') {
                Some(after) => return after,
                None if rest.is_empty() => return rest,
                None => rest = expand(rest, prefix, paths),
            }
        }
    }
    let end = text.find(|c: char| c != '_' && c != '*' && !c.is_alphanumeric()).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let path = if prefix.is_empty() { word.to_owned() } else { format!("{prefix}::{word}") };
    if let Some(rest) = rest.strip_prefix("::") {
        return expand(rest, &path, paths);
    }
    paths.push(path);
    // A name after `as` ends at the comma or brace; what is between does not matter.
    match rest.find([',', '}', ';']) {
        Some(at) if rest[..at].trim_start().starts_with("as ") => &rest[at..],
        _ if end == 0 => text.get(text.chars().next().map_or(0, char::len_utf8)..).unwrap_or_default(),
        _ => rest,
    }
}

/// Lines on which a file at this depth below `src/` climbs to the root of the crate.
fn escaping_supers(code: &str, depth: usize) -> Vec<usize> {
    let climb = "super::".repeat(depth);
    code.match_indices(&climb)
        .filter(|(at, _)| {
            let nesting = code[..*at].matches('{').count().saturating_sub(code[..*at].matches('}').count());
            let longer = code[..*at].ends_with("super::");
            // Inside a module of tests one `super` leads only to the file itself.
            nesting == 0 && !longer
        })
        .map(|(at, _)| line_of(code, at))
        .collect()
}

// --- Lists that must agree ---

#[test]
fn every_interface_has_its_capability() {
    let world = read("wit/world.wit");
    let imports = world.lines().filter_map(|line| line.trim().strip_prefix("import ")?.strip_suffix(';'));
    let interfaces: BTreeSet<String> = imports.map(str::to_owned).collect();
    let capabilities: BTreeSet<String> = stems("host/src/cell/capability", ".rs");
    let mut faults = differences(&interfaces, &capabilities, "wit/world.wit imports it", "host/src/cell/capability/");
    let missing = interfaces.iter().filter(|name| !root().join(format!("wit/{name}.wit")).is_file());
    faults.extend(missing.map(|name| format!("wit/{name}.wit is missing")));
    report("one interface, one file in wit/, one file in host/src/cell/capability/, the same name", &faults);
}

#[test]
fn both_databases_have_the_same_migrations() {
    let sqlite = stems("migrations/sqlite", ".sql");
    let postgres = stems("migrations/postgres", ".sql");
    let mut faults = differences(&sqlite, &postgres, "migrations/sqlite/ has it", "migrations/postgres/");
    for name in &sqlite {
        let parts = name.split_once('_').and_then(|(number, rest)| Some((number, rest.rsplit_once('.')?.1)));
        let (number, direction) = parts.unwrap_or_default();
        let numbered = number.len() == 4 && number.chars().all(|c| c.is_ascii_digit());
        if !numbered || !["up", "down"].contains(&direction) {
            faults.push(format!("{name}.sql: must be NNNN_name.up.sql or NNNN_name.down.sql"));
        }
    }
    let ups = sqlite.iter().filter_map(|name| name.strip_suffix(".up"));
    faults.extend(
        ups.filter(|name| !sqlite.contains(&format!("{name}.down"))).map(|name| format!("{name} has no way back")),
    );
    report("the same numbers and names in both folders, each with its way back", &faults);
}

#[test]
fn every_setting_is_listed() {
    let config = read("host/src/config.rs");
    let list = config
        .split_once("const VARIABLES")
        .and_then(|(_, rest)| rest.split_once("];"))
        .expect("config.rs lists VARIABLES")
        .0;
    let known: BTreeSet<String> = list.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    let mut listed = BTreeMap::<String, usize>::new();
    for line in read(".env.example").lines() {
        // `#NAME=value` is a setting that is switched off; `# text` is a comment.
        if let Some((name, _)) = line.trim_start_matches('#').split_once('=').filter(|_| !line.starts_with("# ")) {
            *listed.entry(name.to_owned()).or_default() += 1;
        }
    }
    let names = listed.keys().cloned().collect();
    let mut faults = differences(&known, &names, "host/src/config.rs reads it", ".env.example");
    faults.extend(listed.iter().filter(|(_, times)| **times > 1).map(|(name, _)| format!("{name} is listed twice")));
    report("every setting is in VARIABLES and in .env.example, once", &faults);
}

#[test]
fn every_crate_inherits_the_lints() {
    let workspace = read("Cargo.toml");
    let members =
        workspace.split_once("members = [").and_then(|(_, rest)| rest.split_once(']')).expect("there are members").0;
    let members: BTreeSet<String> = members.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    let manifests = files(&["host", "cells", "tests"], &["Cargo.toml"]);
    let crates = manifests.iter().map(|file| file.path.trim_end_matches("/Cargo.toml").to_owned()).collect();
    let mut faults = differences(&crates, &members, "there is a Cargo.toml", "members of the workspace");
    let inherits = |file: &&File| {
        let lints = file.text.split_once("[lints]").map_or("", |(_, rest)| rest);
        lints.trim_start().lines().next().is_some_and(|line| line.replace(' ', "") == "workspace=true")
    };
    let loose = manifests.iter().filter(|file| !inherits(file));
    faults.extend(loose.map(|file| format!("{}: add `[lints]` with `workspace = true`", file.path)));
    report("every crate is a member of the workspace and inherits its lints", &faults);
}

#[test]
fn what_the_documents_name_exists() {
    let mut faults = Vec::new();
    for file in files(&["."], &[".md"]) {
        let strict = ["README.md", "docs/ARCHITECTURE.md"].contains(&file.path.as_str());
        let directory = Path::new(&file.path).parent().unwrap_or(Path::new(""));
        for (index, line) in file.text.lines().enumerate() {
            let links = linked(line).into_iter().filter(|link| !root().join(directory).join(link).exists());
            let named = named(line).into_iter().filter(|path| strict && !root().join(path).exists());
            faults.extend(links.chain(named).map(|path| format!("{}:{}: {path}", file.path, index + 1)));
        }
    }
    report("a document names a file that does not exist", &faults);
}

/// Targets of Markdown links into this tree.
fn linked(line: &str) -> Vec<String> {
    let targets = line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    let local = targets.filter(|target| !target.contains("://") && !target.starts_with(['#', '<']));
    local
        .map(|target| target.split('#').next().unwrap_or_default().to_owned())
        .filter(|path| !path.is_empty())
        .collect()
}

/// Paths between backticks that begin with a folder of the root. A name in capitals stands for any.
fn named(line: &str) -> Vec<String> {
    const FOLDERS: [&str; 9] =
        [".cargo/", ".ci/", ".github/", "cells/", "docs/", "host/", "migrations/", "tests/", "wit/"];
    let spans = line.split('`').skip(1).step_by(2).map(|span| span.split_whitespace().next().unwrap_or_default());
    spans
        .filter(|span| FOLDERS.iter().any(|folder| span.starts_with(folder)))
        .filter(|span| span.chars().all(|c| c.is_ascii_alphanumeric() || "._/-".contains(c)))
        .filter(|span| !span.split(['/', '.', '_']).any(|part| ["NAME", "NNNN"].contains(&part)))
        .map(str::to_owned)
        .collect()
}

/// Names of the files of a folder, without their end.
fn stems(folder: &str, end: &str) -> BTreeSet<String> {
    let names = files(&[folder], &[end]).into_iter().map(|file| file.path);
    names.filter_map(|path| Some(path.strip_prefix(folder)?.strip_prefix('/')?.strip_suffix(end)?.to_owned())).collect()
}

fn differences(first: &BTreeSet<String>, second: &BTreeSet<String>, has: &str, place: &str) -> Vec<String> {
    let missing = first.difference(second).map(|name| format!("{name}: {has}, {place} has not"));
    let surplus = second.difference(first).map(|name| format!("{name}: {place} has it, the other has not"));
    missing.chain(surplus).collect()
}

// --- Reading Rust ---

/// The text with comments and the contents of strings blanked out, line for line.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = comment(rest).or_else(|| literal(rest, out.chars().next_back()));
        let length = skipped.unwrap_or(c.len_utf8());
        let (token, after) = rest.split_at(length);
        if skipped.is_none() {
            out.push(c);
        } else {
            // A literal keeps its first character, so that its line counts as code.
            let mark = if token.starts_with('/') { ' ' } else { '"' };
            out.push(mark);
            out.extend(token.chars().skip(1).map(|c| if c == '\n' { c } else { ' ' }));
        }
        rest = after;
    }
    out
}

/// The string literals of a source with their places, as they are written, quotes included.
pub(crate) fn strings(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let (mut at, mut before) = (0, None);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let is_comment = comment(rest);
        let is_literal = is_comment.is_none().then(|| literal(rest, before)).flatten();
        let first = rest.chars().next();
        let length = is_comment.or(is_literal).unwrap_or(first.map_or(1, char::len_utf8));
        if is_literal.is_some() && first != Some('\'') {
            found.extend(rest.get(..length).map(|token| (at, token)));
        }
        (at, before) = (at + length, first);
    }
    found
}

/// Length of the comment that the text begins with.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if !text.starts_with("/*") {
        return None;
    }
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let step = match rest {
            _ if rest.starts_with("/*") => (depth + 1, 2),
            _ if rest.starts_with("*/") => (depth.saturating_sub(1), 2),
            _ => (depth, rest.chars().next().map_or(1, char::len_utf8)),
        };
        depth = step.0;
        at += step.1;
        if depth == 0 {
            break;
        }
    }
    Some(at)
}

/// Length of the string or character that the text begins with.
fn literal(text: &str, before: Option<char>) -> Option<usize> {
    if text.starts_with('"') {
        return Some(quoted(text, 1, '"'));
    }
    if text.starts_with('\'') {
        let mut characters = text.chars().skip(1);
        let (first, second) = (characters.next()?, characters.next());
        // Otherwise it is a lifetime.
        return (first == '\\' || second == Some('\'')).then(|| quoted(text, 1, '\''));
    }
    if before.is_some_and(|c| c == '_' || c.is_alphanumeric()) {
        return None;
    }
    let raw = text.strip_prefix("br").or_else(|| text.strip_prefix("cr")).or_else(|| text.strip_prefix('r'))?;
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    let body = raw.get(hashes..)?.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(text.len() - body.len() + length)
}

fn quoted(text: &str, start: usize, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(start) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

struct Function {
    name: String,
    line: usize,
    lines: usize,
}

/// The functions with a body; one inside another is counted by itself too.
fn functions(code: &str) -> Vec<Function> {
    let starts = code
        .match_indices("fn ")
        .filter(|(at, _)| !code[..*at].chars().next_back().is_some_and(|c| c == '_' || c.is_alphanumeric()));
    starts
        .filter_map(|(at, _)| {
            let signature = &code[at + 3..];
            let name: String = signature.chars().take_while(|c| *c == '_' || c.is_alphanumeric()).collect();
            let body = body(signature)?;
            let lines = body.lines().filter(|line| !line.trim().is_empty()).count();
            (!name.is_empty()).then(|| Function { name, line: line_of(code, at), lines })
        })
        .collect()
}

/// What stands between the braces of a function that begins with this text; none for a declaration.
fn body(signature: &str) -> Option<&str> {
    let mut parentheses = 0_i32;
    let mut braces = 0_i32;
    let mut start = 0;
    for (at, c) in signature.char_indices() {
        match c {
            '(' | '[' if braces == 0 => parentheses += 1,
            ')' | ']' if braces == 0 => parentheses -= 1,
            ';' if braces == 0 && parentheses == 0 => return None,
            '{' => {
                if braces == 0 {
                    start = at + 1;
                }
                braces += 1;
            }
            '}' => {
                braces -= 1;
                if braces == 0 {
                    return signature.get(start..at);
                }
            }
            _ => {}
        }
    }
    None
}

pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

// --- The reader itself ---

#[test]
fn the_reader_understands_rust() {
    let text = "fn a<'x>(s: &'x str) -> [u8; 2] {\n    // {\n    let _ = (\"{\", '{', r#\"\"}\"#);\n    b()\n}\n/* fn c() { */\n";
    let found = functions(&code(text));
    let mut seen = String::new();
    for Function { name, line, lines } in &found {
        write!(seen, "{name}:{line}:{lines} ").expect("a string takes everything");
    }
    assert_eq!(seen, "a:1:2 ", "a comment is no code, and a brace in a literal is no brace");
    let tokens: Vec<&str> = strings(text).into_iter().map(|(_, token)| token).collect();
    assert_eq!(tokens, ["\"{\"", "r#\"\"}\"#"]);
    let paths: Vec<String> = crate_paths("use crate::a::{self, B as C, d::{E, F}};\nlet x = crate::g::h(1);")
        .into_iter()
        .map(|(line, path)| format!("{line} {path}"))
        .collect();
    assert_eq!(paths, ["1 a::self", "1 a::B", "1 a::d::E", "1 a::d::F", "2 g::h"]);
    assert!(contains_word("a XY b", "XY") && !contains_word("aXY", "XY"));
}
