//! An export of a tenant's audit log, which proves itself without a kernel. The log is one for all tenants, so the export
//! goes over the whole tree: the tenant's own entries with their text, and for what lies between them the hashes of the
//! largest subtrees, which say nothing about it. Together they give the root of the signed checkpoint.
//!
//! NDJSON: a manifest, the parts in the order of the log, an end with the signature of all lines before it. Every line has
//! one form of writing, so a changed byte is found even where JSON would not mind it.

pub mod writer;

use std::io::{self, BufRead, Read};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use super::AuditEntry;
use super::check::{Fault, Report};
use super::checkpoint::Checkpoint;
use super::merkle::{Hash, Range, Subtree, fold};
use super::note::VerifierKey;
use crate::id::TenantId;
use crate::limit;

/// The name of this format.
pub const FORMAT: &str = "aibos-audit-export/1";

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always [`FORMAT`].
    pub format: String,
    /// Whose entries have their text.
    pub tenant_id: TenantId,
    /// The first index whose entry, if it is the tenant's, has its text.
    pub from: u64,
    /// The index before which it ends.
    pub to: u64,
    /// Entries of the log.
    pub size: u64,
    /// The verifier key.
    pub key: String,
    /// The signed checkpoint of that size.
    pub checkpoint: String,
}

/// Every further line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Line {
    /// An entry of the tenant.
    Entry {
        /// Its position in the log.
        index: u64,
        /// Its leaf hash.
        leaf: Hash,
        /// Its exact text.
        text: String,
    },
    /// What is not shown.
    Others {
        /// The first of them.
        index: u64,
        /// How many.
        count: u64,
        /// The hashes of the largest subtrees that they fall into, from left to right.
        hashes: Vec<Hash>,
        /// SHA-256 of those hashes, so that a broken line is found where it stands.
        check: Hash,
    },
    /// The last line.
    End {
        /// Entries with their text.
        entries: u64,
        /// A signed note of the SHA-256 of all bytes before this line.
        note: String,
    },
}

/// The hash over the hashes of a line.
fn check_of(hashes: &[Hash]) -> Hash {
    Hash::of(&hashes.iter().flat_map(|hash| hash.0).collect::<Vec<_>>())
}

/// What the last line signs.
fn end_text(origin: &str, lines: Hash) -> String {
    format!("{FORMAT}\n{origin}\n{lines}\n")
}

/// A line as it is written, without its newline.
fn written(line: &impl Serialize) -> String {
    // Serializing strings, numbers and hashes into memory has no way to fail.
    serde_json::to_string(line).unwrap_or_default()
}

/// Reads a line that must be written exactly as this version writes it.
fn parsed<T: Serialize + for<'de> Deserialize<'de>>(bytes: &[u8]) -> Option<T> {
    let line: T = serde_json::from_slice(bytes).ok()?;
    (written(&line).as_bytes() == bytes).then_some(line)
}

/// The complete subtrees so far, from the largest to the smallest.
#[derive(Debug, Default)]
struct Frontier {
    size: u64,
    parts: Vec<(u32, Hash)>,
}

impl Frontier {
    /// Adds the subtree that follows.
    fn push(&mut self, Subtree { level, .. }: Subtree, hash: Hash) {
        self.size += 1 << level;
        let (mut level, mut hash) = (level, hash);
        while let Some((_, left)) = self.parts.pop_if(|(below, _)| *below == level) {
            hash = Hash::of_node(&left, &hash);
            level += 1;
        }
        self.parts.push((level, hash));
    }

    fn root(&self) -> Hash {
        fold(&self.parts.iter().map(|(_, hash)| *hash).collect::<Vec<_>>())
    }
}

/// The key that an export names.
pub fn key(mut export: impl BufRead) -> Option<VerifierKey> {
    let mut line = Vec::new();
    export.by_ref().take(limit::AUDIT_EXPORT_LINE_BYTES_MAX).read_until(b'\n', &mut line).ok()?;
    serde_json::from_slice::<Manifest>(&line).ok()?.key.parse().ok()
}

/// Verifies an export. The key is the one that the caller has from elsewhere; without it, that of the export, which then
/// only proves that the export agrees with itself. `kept` are checkpoints that the caller believes.
pub fn verify(export: impl BufRead, key: Option<&VerifierKey>, kept: &[Checkpoint]) -> io::Result<Report> {
    let mut lines = Lines { export, number: 0, line: Vec::new() };
    let mut reading = Reading::default();
    let found = reading.run(&mut lines, key, kept)?;
    Ok(Report::new(reading.entries, reading.frontier.size, found.err()))
}

struct Lines<R> {
    export: R,
    number: u64,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// Goes to the next line; answers whether there is one, which must end in a newline within bounds.
    fn next(&mut self) -> io::Result<bool> {
        self.line.clear();
        self.number += 1;
        self.export.by_ref().take(limit::AUDIT_EXPORT_LINE_BYTES_MAX).read_until(b'\n', &mut self.line)?;
        Ok(self.line.ends_with(b"\n"))
    }

    fn bytes(&self) -> &[u8] {
        self.line.strip_suffix(b"\n").unwrap_or(&self.line)
    }

    fn fault(&self, what: &str) -> Fault {
        Fault::elsewhere(format!("line {} of the export: {what}", self.number))
    }
}

#[derive(Default)]
struct Reading {
    frontier: Frontier,
    entries: u64,
}

impl Reading {
    fn run(
        &mut self,
        lines: &mut Lines<impl BufRead>,
        key: Option<&VerifierKey>,
        kept: &[Checkpoint],
    ) -> io::Result<Result<(), Fault>> {
        let manifest = if lines.next()? { parsed::<Manifest>(lines.bytes()) } else { None };
        let believed = manifest.ok_or_else(|| lines.fault("it is no manifest")).and_then(|it| it.believed(lines, key));
        let (manifest, key, checkpoint) = match believed {
            Ok(believed) => believed,
            Err(fault) => return Ok(Err(fault)),
        };
        let mut hashed = digest::Context::new(&digest::SHA256);
        hashed.update(&lines.line);
        let mut kept: Vec<&Checkpoint> = kept.iter().filter(|kept| kept.size > 0).collect();
        while lines.next()? {
            let part = parsed::<Line>(lines.bytes()).ok_or_else(|| lines.fault("it is not written as an export is"));
            let taken = part.and_then(|part| match part {
                Line::End { entries, note } => {
                    let hash = Hash::finished(hashed.clone());
                    self.end(lines, &checkpoint, entries, end_signed(&key, &note, hash)).map(|()| true)
                }
                part => self.take(lines, &manifest, part).map(|()| false),
            });
            let ended = match taken.and_then(|ended| self.compare(&mut kept).map(|()| ended)) {
                Ok(ended) => ended,
                Err(fault) => return Ok(Err(fault)),
            };
            if ended {
                let more = lines.next()? || !lines.line.is_empty();
                return Ok(if more { Err(lines.fault("it stands after the end")) } else { uncompared(&kept) });
            }
            hashed.update(&lines.line);
        }
        let size = self.frontier.size;
        Ok(Err(Fault::at(size, format!("the export was cut off at line {}, before entry {size}", lines.number))))
    }

    fn take(&mut self, lines: &Lines<impl BufRead>, manifest: &Manifest, part: Line) -> Result<(), Fault> {
        let next = self.frontier.size;
        let follows = |index: u64| {
            let sentence = format!("line {}: entry {next} should follow, not {index}", lines.number);
            if index == next { Ok(()) } else { Err(Fault::at(next, sentence)) }
        };
        match part {
            Line::Entry { index, leaf, text } => {
                follows(index)?;
                if leaf != Hash::of_leaf(text.as_bytes()) {
                    let sentence = format!("entry {index}: its text and its leaf hash do not belong together");
                    return Err(Fault::at(index, sentence));
                }
                let entry: Option<AuditEntry> = serde_json::from_str(&text).ok();
                let own = entry.is_some_and(|entry| entry.tenant_id == manifest.tenant_id);
                if !own || index < manifest.from || index >= manifest.to {
                    return Err(Fault::at(index, format!("entry {index} is not one of those that the manifest names")));
                }
                self.entries += 1;
                self.frontier.push(Subtree { level: 0, position: index }, leaf);
            }
            Line::Others { index, count, hashes, check } => {
                follows(index)?;
                if index.checked_add(count).is_none_or(|end| end > manifest.size) || count == 0 {
                    return Err(Fault::at(
                        index,
                        format!("line {}: the log has no {count} entries there", lines.number),
                    ));
                }
                let cover = Range(index, index + count).cover();
                if cover.len() != hashes.len() || check != check_of(&hashes) {
                    let sentence = format!("line {}: the hashes over entry {index} were changed", lines.number);
                    return Err(Fault::at(index, sentence));
                }
                cover.into_iter().zip(hashes).for_each(|(subtree, hash)| self.frontier.push(subtree, hash));
            }
            Line::End { .. } => {}
        }
        Ok(())
    }

    fn end(
        &self,
        lines: &Lines<impl BufRead>,
        checkpoint: &Checkpoint,
        entries: u64,
        signed: Result<(), String>,
    ) -> Result<(), Fault> {
        let size = self.frontier.size;
        if size != checkpoint.size {
            let sentence = format!("line {}: the export ends at entry {size} of {}", lines.number, checkpoint.size);
            return Err(Fault::at(size, sentence));
        }
        if self.frontier.root() != checkpoint.root {
            return Err(Fault::elsewhere(
                "the entries and hashes of the export do not give the root of its checkpoint: an entry was rewritten \
                 with its leaf hash, or hashes of others with their check",
            ));
        }
        if entries != self.entries {
            return Err(lines.fault(&format!("it counts {entries} entries, but there are {}", self.entries)));
        }
        signed.map_err(|cause| lines.fault(&cause))
    }

    /// Compares the kept checkpoints that the export has come to.
    fn compare(&self, kept: &mut Vec<&Checkpoint>) -> Result<(), Fault> {
        for kept in kept.extract_if(.., |kept| kept.size == self.frontier.size) {
            if self.frontier.root() != kept.root {
                let sentence = format!(
                    "the log was rewritten: its first {} entries are not those of the kept checkpoint",
                    kept.size
                );
                return Err(Fault::at(0, sentence));
            }
        }
        Ok(())
    }
}

impl Manifest {
    /// The manifest with its key and its checkpoint, if all of them are as they should be.
    fn believed(
        self,
        lines: &Lines<impl BufRead>,
        known: Option<&VerifierKey>,
    ) -> Result<(Self, VerifierKey, Checkpoint), Fault> {
        if self.format != FORMAT {
            return Err(lines.fault(&format!("the format is not {FORMAT}")));
        }
        let key: VerifierKey = self.key.parse().map_err(|cause| lines.fault(&format!("key: {cause}")))?;
        if let Some(known) = known.filter(|known| **known != key) {
            return Err(lines.fault(&format!("the key is not {known}")));
        }
        let opened = Checkpoint::open_own(&self.checkpoint, &key);
        let checkpoint = opened.map_err(|cause| lines.fault(&format!("checkpoint: {cause}")))?;
        if checkpoint.size != self.size || self.from > self.to || self.to > self.size {
            return Err(lines.fault("the range and the size do not fit the checkpoint"));
        }
        Ok((self, key, checkpoint))
    }
}

/// Whether the end was signed for exactly these lines.
fn end_signed(key: &VerifierKey, note: &str, lines: Hash) -> Result<(), String> {
    let text = key.open_own(note).map_err(|cause| format!("the signature of the export: {cause}"))?;
    if text == end_text(key.name(), lines) {
        return Ok(());
    }
    Err("the lines before it are not those that were signed; the entries and hashes add up, so it is line 1, the \
         manifest, that was changed"
        .into())
}

/// Kept checkpoints that the export could not be compared with.
fn uncompared(kept: &[&Checkpoint]) -> Result<(), Fault> {
    kept.first().map_or(Ok(()), |kept| {
        Err(Fault::open(format!(
            "the export cannot be compared with the kept checkpoint of {} entries, because it does not show the tree of \
             that size: make it again with `aibos audit export --checkpoint FILE`",
            kept.size
        )))
    })
}
