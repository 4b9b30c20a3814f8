//! What a command prints, and how it fails.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

/// A command that did not do what was asked; the sentence says why and what to do.
#[derive(Debug)]
pub struct Failure(pub String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        Self(text)
    }
}

/// Prints a line to standard output. A closed pipe ends the command quietly, as a reader like `head` expects.
pub fn say(text: impl std::fmt::Display) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(Failure::from)
}

/// Prints data as indented JSON.
pub fn say_json(data: &impl Serialize) -> Result<(), Failure> {
    say(serde_json::to_string_pretty(data)?)
}

/// A text of an answer, or a dash where there is none.
pub fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or("-").to_owned()
}

/// Prints rows in columns as wide as their widest cell.
pub fn say_table(head: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
    let heads: Vec<String> = head.iter().map(|&text| text.to_owned()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&heads).chain(rows).collect();
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|text| text.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(text, width)| format!("{text:width$}"));
        say(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}
