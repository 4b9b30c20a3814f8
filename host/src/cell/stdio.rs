//! What a guest prints becomes lines of its cell's log: a panic or a stack trace of any language is said there and nowhere
//! else. A line too long is cut into several; lines past the limit of a request are dropped, because printing must not end
//! a component that knows nothing of this host.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
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
    /// The request that it works for now.
    tree: Arc<ArcSwap<Tree>>,
    level: Level,
}

impl Printer {
    /// For an instance.
    #[must_use]
    pub fn new(version: &Arc<CellVersion>, tree: &Arc<Tree>) -> Self {
        Self { version: Arc::clone(version), tree: Arc::new(ArcSwap::new(Arc::clone(tree))), level: Level::Info }
    }

    /// From now on it works for another request.
    pub fn turn_to(&self, tree: &Arc<Tree>) {
        self.tree.store(Arc::clone(tree));
    }

    /// The same, of another level.
    #[must_use]
    pub fn at(self, level: Level) -> Self {
        Self { level, ..self }
    }

    fn print(&self, line: &[u8]) {
        let (line, tree) = (line.trim_ascii_end(), self.tree.load());
        if !line.is_empty() && tree.printed_lines.fetch_add(1, Ordering::Relaxed) < limit::PRINTED_LINES_MAX {
            log::emit(&self.version, &tree, self.level, &String::from_utf8_lossy(line));
        }
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
        Box::new(Lines { printer: self.clone(), begun: Vec::new() })
    }
}

/// Cuts what is written into lines.
struct Lines {
    printer: Printer,
    /// The line that has not ended yet.
    begun: Vec<u8>,
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.printer.print(&self.begun);
    }
}

#[async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        cut(&mut self.begun, &bytes, |line| self.printer.print(line));
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
