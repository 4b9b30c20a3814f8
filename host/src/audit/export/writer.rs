//! Writes an export, page by page, from entries and tiles. It reads the tenant's own rows and, for what lies between them, a
//! few tiles; never another tenant's text.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;

use super::{FORMAT, Line, Manifest, check_of, end_text, written};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::merkle::{Hash, Range};
use crate::audit::proof::{Nodes, hash, signed, unsigned};
use crate::audit::seal::Sealer;
use crate::id::TenantId;
use crate::limit;
use crate::storage::{Storage, StorageError};

/// An export on its way.
pub struct Export {
    storage: Storage,
    sealer: Arc<Sealer>,
    nodes: Nodes,
    manifest: Manifest,
    /// Sizes at which a line must end, in order.
    bounds: Vec<u64>,
    hashed: digest::Context,
    at: u64,
    entries: u64,
    stage: Stage,
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export").field("manifest", &self.manifest).field("at", &self.at).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Manifest,
    Entries,
    End,
    Done,
}

impl Export {
    /// An export of a tenant's entries in a range of the log that a checkpoint covers, which shows the tree of the sizes
    /// `at`, too.
    #[must_use]
    pub fn new(
        storage: &Storage,
        sealer: Arc<Sealer>,
        tenant: TenantId,
        (Range(from, to), at): (Range, &[u64]),
        (checkpoint, note): (&Checkpoint, String),
    ) -> Self {
        let manifest = Manifest {
            format: FORMAT.into(),
            tenant_id: tenant,
            from,
            to,
            size: checkpoint.size,
            key: sealer.key().to_string(),
            checkpoint: note,
        };
        let mut bounds: Vec<u64> = [from, to].iter().chain(at).copied().collect();
        bounds.sort_unstable();
        Self {
            bounds,
            storage: storage.clone(),
            sealer,
            nodes: Nodes::new(storage),
            manifest,
            hashed: digest::Context::new(&digest::SHA256),
            at: 0,
            entries: 0,
            stage: Stage::Manifest,
        }
    }

    /// The next lines; none after the last.
    pub async fn next(&mut self) -> Result<Option<String>, StorageError> {
        let mut text = String::new();
        match self.stage {
            Stage::Manifest => {
                text = written(&self.manifest) + "\n";
                self.stage = Stage::Entries;
            }
            Stage::Entries => self.page(&mut text).await?,
            Stage::End => {
                let lines = Hash::finished(self.hashed.clone());
                let note = self.sealer.sign(&end_text(self.sealer.key().name(), lines));
                self.stage = Stage::Done;
                return Ok(Some(written(&Line::End { entries: self.entries, note }) + "\n"));
            }
            Stage::Done => return Ok(None),
        }
        self.hashed.update(text.as_bytes());
        Ok(Some(text))
    }

    async fn page(&mut self, text: &mut String) -> Result<(), StorageError> {
        let Manifest { tenant_id, from, to, size, .. } = self.manifest;
        let range = (signed(self.at.max(from)), signed(to));
        let rows = self.storage.audit_texts(tenant_id, range, limit::AUDIT_EXPORT_PAGE).await?;
        let full = rows.len() >= limit::AUDIT_EXPORT_PAGE as usize;
        for (index, leaf, body) in rows {
            let index = unsigned(index);
            self.others(index, text).await?;
            let line = Line::Entry { index, leaf: hash("audit", &leaf)?, text: body };
            text.push_str(&written(&line));
            text.push('\n');
            self.at = index + 1;
            self.entries += 1;
        }
        if !full {
            self.others(size, text).await?;
            self.stage = Stage::End;
        }
        Ok(())
    }

    /// The hashes over everything before `index`. The bounds of the range and the sizes that were asked for end a line, so
    /// that a checkpoint of that size can be compared.
    async fn others(&mut self, index: u64, text: &mut String) -> Result<(), StorageError> {
        for at in 0..=self.bounds.len() {
            let end = self.bounds.get(at).copied().unwrap_or(index).min(index);
            if self.at < end {
                let hashes = self.nodes.cover(Range(self.at, end)).await?;
                let line = Line::Others { index: self.at, count: end - self.at, check: check_of(&hashes), hashes };
                text.push_str(&written(&line));
                text.push('\n');
                self.at = end;
            }
        }
        Ok(())
    }
}
