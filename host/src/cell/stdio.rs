//! What a guest prints becomes lines of its cell's log: a panic or a stack trace of any language is said there and nowhere
//! else. A line too long is cut into several; lines past the limit of a request are dropped, because printing must not end
//! a component that knows nothing of this host.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::binding::aibos::cell::log::Level;
use super::capability::log;
use super::store::Tree;
use super::version::CellVersion;
use crate::limit;

/// Standard output or standard error of an instance.
#[derive(Clone)]
pub struct Printer {
    version: Arc<CellVersion>,
    paper: Arc<Mutex<Paper>>,
    level: Level,
}

/// What the two streams of an instance have in common.
struct Paper {
    /// The request that it works for now.
    tree: Arc<Tree>,
    /// The lines that have not ended yet: of standard output, of standard error.
    begun: [Vec<u8>; 2],
}

impl Printer {
    /// Standard output of an instance.
    #[must_use]
    pub fn new(version: &Arc<CellVersion>, tree: &Arc<Tree>) -> Self {
        let paper = Paper { tree: Arc::clone(tree), begun: Default::default() };
        Self { version: Arc::clone(version), paper: Arc::new(Mutex::new(paper)), level: Level::Info }
    }

    /// Standard error of the same instance.
    #[must_use]
    pub fn of_errors(&self) -> Self {
        Self { level: Level::Warn, ..self.clone() }
    }

    /// From now on it works for another request. What was printed for the last one is its own, with or without an end.
    pub fn turn_to(&self, tree: &Arc<Tree>) {
        let mut paper = self.paper();
        let Paper { tree: last, begun: [output, errors] } = &mut *paper;
        for (level, begun) in [(Level::Info, output), (Level::Warn, errors)] {
            print(&self.version, last, level, &std::mem::take(begun));
        }
        *last = Arc::clone(tree);
    }

    fn write(&self, bytes: &[u8]) {
        let mut paper = self.paper();
        let Paper { tree, begun: [output, errors] } = &mut *paper;
        let begun = if self.level == Level::Info { output } else { errors };
        cut(begun, bytes, |line| print(&self.version, tree, self.level, line));
    }

    fn paper(&self) -> MutexGuard<'_, Paper> {
        self.paper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn print(version: &CellVersion, tree: &Tree, level: Level, line: &[u8]) {
    let line = line.trim_ascii_end();
    if !line.is_empty() && tree.printed_lines.fetch_add(1, Ordering::Relaxed) < limit::PRINTED_LINES_MAX {
        log::emit(version, tree, level, &String::from_utf8_lossy(line));
    }
}

impl IsTerminal for Printer {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printer {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // WASI 0.3 only, which this host does not link.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Lines(self.clone()))
    }
}

/// Cuts what is written into lines.
struct Lines(Printer);

impl Drop for Lines {
    fn drop(&mut self) {
        // Ends the line, if one was begun.
        self.0.write(b"\n");
    }
}

#[async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(limit::LOG_LINE_BYTES_MAX)
    }
}

/// Adds bytes to the line that was begun, and gives away each that has ended or grown too long.
fn cut(begun: &mut Vec<u8>, bytes: &[u8], mut print: impl FnMut(&[u8])) {
    let most = limit::LOG_LINE_BYTES_MAX;
    for part in bytes.split_inclusive(|byte| *byte == b'\n').flat_map(|part| part.chunks(most)) {
        if begun.len() + part.len() > most {
            print(&std::mem::take(begun));
        }
        begun.extend_from_slice(part);
        if part.ends_with(b"\n") {
            print(&std::mem::take(begun));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::cut;
    use crate::limit::LOG_LINE_BYTES_MAX;

    #[test]
    fn lines_end_where_they_end_or_get_too_long() {
        let mut begun = Vec::new();
        let mut lines = Vec::new();
        let long = "x".repeat(LOG_LINE_BYTES_MAX + 1);
        for text in ["one\ntw", "o\n", "\nthree", &long, "\n", "rest"] {
            cut(&mut begun, text.as_bytes(), |line| lines.push(String::from_utf8_lossy(line).into_owned()));
        }
        let full = "x".repeat(LOG_LINE_BYTES_MAX);
        assert_eq!(lines, ["one\n", "two\n", "\n", "three", full.as_str(), "x\n"]);
        assert_eq!(begun, b"rest");
    }
}
