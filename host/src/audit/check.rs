//! Proves the stored audit log from its first entry: each text gives its leaf hash and its searchable copies, the leaves
//! give the tiles, and the tree gives every signed checkpoint, those that somebody kept elsewhere included. The first
//! violation is named by its place. Nothing that is stored is believed, except the verifier key that the caller brings.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::Serialize;

use super::AuditEntry;
use super::checkpoint::Checkpoint;
use super::merkle::Hash;
use super::note::VerifierKey;
use super::proof::{signed, unsigned};
use super::tree::{TILE_HEIGHT, Tile, Tree};
use crate::id::TenantId;
use crate::limit;
use crate::storage::audit_tree::RawEntry;
use crate::storage::{Storage, StorageError};

/// How a verification ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Everything holds.
    Holds,
    /// Something does not.
    Broken,
    /// Nothing is wrong as far as can be seen, but not everything that was asked can be answered.
    Open,
}

/// Whose entries a verification names by their ids. Every other is named by its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Everybody's.
    All,
    /// Those of one tenant.
    Tenant(TenantId),
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Report {
    /// Whether everything holds.
    pub ok: bool,
    /// Entries that were checked, from the first.
    pub checked: u64,
    /// Entries under the newest checkpoint that was met.
    pub sealed: u64,
    /// Where the first violation is, or where the range of entries begins that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_bad_index: Option<u64>,
    /// What it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The same in one word, for who prints it.
    #[serde(skip)]
    pub finding: Finding,
}

/// A violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The entry, where there is one.
    pub index: Option<u64>,
    /// What is wrong and where.
    pub sentence: String,
    /// Whether it is wrong, or only not known.
    finding: Finding,
}

impl Fault {
    /// A violation at an entry.
    pub fn at(index: u64, sentence: impl Into<String>) -> Self {
        Self { index: Some(index), sentence: sentence.into(), finding: Finding::Broken }
    }

    /// A violation elsewhere.
    pub fn elsewhere(sentence: impl Into<String>) -> Self {
        Self { index: None, sentence: sentence.into(), finding: Finding::Broken }
    }

    /// A question that stays open.
    pub fn open(sentence: impl Into<String>) -> Self {
        Self { index: None, sentence: sentence.into(), finding: Finding::Open }
    }
}

/// What stops a verification.
enum Stop {
    Fault(Fault),
    Storage(StorageError),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<StorageError> for Stop {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl Report {
    /// The report of a verification that came so far.
    #[must_use]
    pub fn new(checked: u64, sealed: u64, fault: Option<Fault>) -> Self {
        let ok = fault.is_none();
        let finding = fault.as_ref().map_or(Finding::Holds, |fault| fault.finding);
        let (first_bad_index, problem) = fault.map(|fault| (fault.index, fault.sentence)).unzip();
        Self { ok, checked, sealed, first_bad_index: first_bad_index.flatten(), problem, finding }
    }
}

/// Verifies the whole log as it is now. `kept` are checkpoints that the caller believes.
pub async fn verify(storage: &Storage, key: &VerifierKey, kept: &[Checkpoint]) -> Result<Report, StorageError> {
    verify_as(Sight::All, storage, key, kept).await
}

/// The same for somebody who may not see everybody's entries.
pub async fn verify_as(
    sight: Sight,
    storage: &Storage,
    key: &VerifierKey,
    kept: &[Checkpoint],
) -> Result<Report, StorageError> {
    let mut kept = kept.to_vec();
    kept.sort_by_key(|checkpoint| checkpoint.size);
    let mut walk =
        Walk { sight, storage, key, tree: Tree::default(), sealed: 0, believed: 0, order: i64::MIN, kept: kept.into() };
    match walk.run().await {
        Ok(()) => Ok(Report::new(walk.tree.size(), walk.sealed, None)),
        Err(Stop::Fault(fault)) => Ok(Report::new(walk.tree.size(), walk.sealed, Some(fault))),
        Err(Stop::Storage(error)) => Err(error),
    }
}

struct Walk<'a> {
    sight: Sight,
    storage: &'a Storage,
    key: &'a VerifierKey,
    tree: Tree,
    /// Size of the last stored checkpoint that was found right.
    sealed: u64,
    /// The same of the kept ones. Who has the key can sign a rewritten log anew, so the stored ones say nothing here.
    believed: u64,
    /// The commit of the entry before.
    order: i64,
    kept: VecDeque<Checkpoint>,
}

impl Walk<'_> {
    async fn run(&mut self) -> Result<(), Stop> {
        let last_tile = self.storage.last_audit_tile(0).await?;
        let last_row = self.storage.last_audit_row().await?;
        let (entries, newest) = self.storage.audit_end().await?;
        let newest = newest.unwrap_or(0);
        let mut checkpoints = VecDeque::new();
        let mut after = i64::MIN;
        while signed(self.tree.size()) < entries {
            let from = signed(self.tree.size());
            let rows = self.storage.audit_rows(from, entries.min(from + i64::from(limit::AUDIT_CHECK_PAGE))).await?;
            if rows.is_empty() {
                return Err(missing(self.tree.size()).into());
            }
            for row in rows {
                // Hashing never waits by itself, and requests share these threads.
                tokio::task::consume_budget().await;
                let leaf = self.entry(&row)?;
                for tile in self.tree.push(leaf) {
                    self.tile(&tile, unsigned(newest)).await?;
                }
                if checkpoints.is_empty() && after < newest {
                    checkpoints = self.storage.audit_checkpoints(after, newest, limit::AUDIT_CHECK_PAGE).await?.into();
                    after = checkpoints.back().map_or(newest, |(size, _)| *size);
                }
                while let Some((size, note)) = checkpoints.pop_front_if(|(size, _)| *size <= signed(self.tree.size())) {
                    let judged = self.checkpoint(size, &note);
                    self.placed(judged).await?;
                }
                let judged = self.kept();
                self.placed(judged).await?;
            }
        }
        self.end(entries, newest, last_row, last_tile)
    }

    /// What must hold past the last entry.
    fn end(&self, entries: i64, newest: i64, last_row: Option<i64>, last_tile: Option<i64>) -> Result<(), Stop> {
        let size = self.tree.size();
        let cut = |signed: u64, whose: &str| {
            let sentence = format!(
                "the log was cut off: it has {size} entries, and {whose} checkpoint was signed for {signed}, so entry \
                 {size} and what followed is gone"
            );
            Stop::Fault(Fault::at(size, sentence))
        };
        if newest > entries {
            return Err(cut(unsigned(newest), "a stored"));
        }
        if let Some(kept) = self.kept.back() {
            return Err(cut(kept.size, "the kept"));
        }
        if let Some(row) = last_row.filter(|row| *row >= entries) {
            return Err(Fault::at(size, format!("row {row} stands past the end of the log at {entries}")).into());
        }
        if last_tile.is_some_and(|tile| tile >= entries >> TILE_HEIGHT) {
            return Err(Fault::at(size, format!("the tree has tiles past entry {entries}: the log was cut off")).into());
        }
        Ok(())
    }

    /// Checks a row against its text; answers its leaf hash.
    fn entry(&mut self, row: &RawEntry) -> Result<Hash, Fault> {
        let index = self.tree.size();
        if row.0 != signed(index) {
            return Err(missing(index));
        }
        let leaf = Hash::of_leaf(&row.1);
        let parsed: Option<AuditEntry> = serde_json::from_slice(&row.1).ok();
        // The column and the text must both say whose it is: one of them may have been changed.
        let seen = parsed.as_ref().filter(|it| match self.sight {
            Sight::All => true,
            Sight::Tenant(tenant) => it.tenant_id == tenant && *row.4 == *tenant.0.as_bytes(),
        });
        let name = seen.map_or_else(|| format!("entry {index}"), |it| format!("entry {index} (id {})", it.id));
        if row.2 != leaf.0 {
            return Err(Fault::at(index, format!("{name}: its text and its leaf hash do not belong together")));
        }
        let entry = parsed.ok_or_else(|| Fault::at(index, format!("{name}: its text is no audit entry")))?;
        let columns: [(&str, &[u8], &[u8]); 6] = [
            ("id", &row.3, entry.id.0.as_bytes()),
            ("tenant", &row.4, entry.tenant_id.0.as_bytes()),
            ("actor", &row.6, entry.actor.id.as_bytes()),
            ("action", &row.7, entry.action.as_bytes()),
            ("outcome", &row.8, entry.outcome.as_str().as_bytes()),
            ("correlation", &row.9, entry.correlation_id.0.as_bytes()),
        ];
        let wrong = columns.iter().find(|(_, column, text)| column != text).map(|(column, ..)| *column);
        let wrong = wrong.or_else(|| (row.5 != entry.at.as_millisecond()).then_some("at"));
        if let Some(column) = wrong {
            return Err(Fault::at(index, format!("{name}: column {column} does not say what the text says")));
        }
        if row.10 < self.order {
            return Err(Fault::at(index, format!("{name}: it belongs to an earlier commit than the entry before it")));
        }
        self.order = row.10;
        Ok(leaf)
    }

    /// Compares a tile that the entries give with the stored one, which must be there once a checkpoint covers it.
    async fn tile(&self, tile: &Tile, sealed: u64) -> Result<(), Stop> {
        let Tile { level, position, .. } = tile;
        let name = format!("tile {position} of level {level}");
        let width = 1 << (TILE_HEIGHT * level);
        let begin = (position * width) << TILE_HEIGHT;
        let Some(stored) = self.storage.audit_tile(i64::from(*level), signed(*position)).await? else {
            if tile.ends_at() > sealed {
                return Ok(());
            }
            return Err(Fault::at(begin, format!("{name} is missing, which was over entry {begin}")).into());
        };
        let pairs = (0_u64..).zip(tile.hashes.iter().zip(stored.hashes.chunks(32)));
        let odd = pairs.into_iter().find(|(_, (given, stored))| given.0 != **stored);
        if let Some((place, _)) = odd {
            let index = begin + place * width;
            if *level == 0 {
                return Err(different(index, &name).into());
            }
            let sentence =
                format!("the tile over entry {index} and {name} do not belong together: one of them was changed");
            return Err(Fault::at(index, sentence).into());
        }
        if stored.root != tile.root.0 || stored.hashes.len() != tile.hashes.len() * 32 {
            return Err(Fault::at(begin, format!("{name}: its root is not that of its hashes")).into());
        }
        Ok(())
    }

    /// Replaces the range that a checkpoint can name with the entry, where the tile that follows is full and tells it.
    async fn placed(&self, judged: Result<(), Fault>) -> Result<(), Stop> {
        let Err(fault) = judged else { return Ok(()) };
        let position = self.tree.size() >> TILE_HEIGHT;
        let stored = self.storage.audit_tile(0, signed(position)).await?;
        let hashes = stored.map(|tile| tile.hashes).unwrap_or_default();
        let pairs = ((position << TILE_HEIGHT)..).zip(self.tree.open_leaves().iter().zip(hashes.chunks(32)));
        let odd = pairs.into_iter().find(|(_, (given, stored))| given.0 != **stored);
        let placed = odd.map(|(index, _)| different(index, &format!("tile {position} of level 0")));
        Err(placed.unwrap_or(fault).into())
    }

    fn checkpoint(&mut self, size: i64, note: &[u8]) -> Result<(), Fault> {
        let opened = Checkpoint::open_own(&String::from_utf8_lossy(note), self.key);
        let checkpoint = opened.map_err(|cause| Fault::elsewhere(format!("checkpoint {size}: {cause}")))?;
        if signed(checkpoint.size) != size || checkpoint.size != self.tree.size() {
            let sentence = format!("checkpoint {size} was signed for {} entries", checkpoint.size);
            return Err(Fault::elsewhere(sentence));
        }
        self.matches(&checkpoint, self.sealed, "the checkpoint")?;
        self.sealed = checkpoint.size;
        Ok(())
    }

    fn kept(&mut self) -> Result<(), Fault> {
        while let Some(kept) = self.kept.pop_front_if(|kept| kept.size <= self.tree.size()) {
            // The empty log has nothing to compare.
            if kept.size > 0 {
                self.matches(&kept, self.believed, "the kept checkpoint")?;
                self.believed = kept.size;
            }
        }
        Ok(())
    }

    fn matches(&self, checkpoint: &Checkpoint, first: u64, name: &str) -> Result<(), Fault> {
        let size = checkpoint.size;
        if self.tree.root() != checkpoint.root {
            let last = size.saturating_sub(1);
            let range =
                if first == last { format!("entry {first} is") } else { format!("entries {first} to {last} are") };
            let sentence = format!("the log was rewritten: {range} not what {name} of {size} entries was signed for");
            return Err(Fault::at(first, sentence));
        }
        Ok(())
    }
}

fn different(index: u64, tile: &str) -> Fault {
    Fault::at(index, format!("entry {index} and {tile} do not belong together: one of them was changed"))
}

fn missing(index: u64) -> Fault {
    Fault::at(index, format!("entry {index} is missing"))
}
