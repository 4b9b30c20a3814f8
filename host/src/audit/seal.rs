//! Extends the tree over what was committed and signs checkpoints, in the background: commits wait for none of it.
//!
//! Several kernels may do so on one database. A tile and a root follow from the entries alone, everything is insert-only,
//! and nobody signs what does not continue the newest checkpoint, so there is never a second tree. Whoever finds that
//! another kernel has signed since leaves the next signature to it.

use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::Mutex;

use super::checkpoint::{Checkpoint, CheckpointError};
use super::note::{Signer, VerifierKey};
use super::proof::{Nodes, hash, signed, unsigned};
use super::tree::{TILE_HEIGHT, TILE_WIDTH, Tile, Tree};
use crate::clock::Clock;
use crate::limit;
use crate::storage::audit_tree::TileRow;
use crate::storage::{Storage, StorageError};

/// Why nothing is signed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The database.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Entries that were signed are gone.
    #[error("the audit log was cut off: it had {size} entries, but there are {entries}")]
    Cut {
        /// That there were.
        size: i64,
        /// That there are.
        entries: i64,
    },
    /// The newest checkpoint is not of this kernel's key.
    #[error("checkpoint {size} cannot be believed")]
    Foreign {
        /// Of the checkpoint.
        size: i64,
        /// Why.
        #[source]
        cause: CheckpointError,
    },
    /// The entries are not those that were signed.
    #[error("the audit log was rewritten: its first {size} entries are not those of checkpoint {size}")]
    Rewritten {
        /// Of the checkpoint.
        size: i64,
    },
    /// An entry is missing.
    #[error("entry {0} of the audit log is missing")]
    Gap(u64),
}

/// Extends and signs.
#[derive(Debug)]
pub struct Sealer {
    signer: Signer,
    state: Mutex<State>,
    /// When everything was last under a checkpoint, in milliseconds.
    covered_at_ms: AtomicI64,
}

#[derive(Debug, Default)]
struct State {
    /// None until it was built from what is stored, and after a failure.
    tree: Option<Tree>,
    /// Size of the newest checkpoint at the last look.
    seen: Option<i64>,
}

impl Sealer {
    /// A sealer that has not looked at the log yet.
    #[must_use]
    pub fn new(signer: Signer, clock: &Clock) -> Self {
        let covered_at_ms = AtomicI64::new(clock.now().as_millisecond());
        Self { signer, state: Mutex::default(), covered_at_ms }
    }

    /// The key that verifies checkpoints.
    #[must_use]
    pub fn key(&self) -> &VerifierKey {
        self.signer.verifier()
    }

    /// Signs a text that is no checkpoint.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        self.signer.sign(text)
    }

    /// Seconds since every entry was under a checkpoint, as far as this kernel knows.
    #[must_use]
    pub fn age_seconds(&self, clock: &Clock) -> u32 {
        let age_ms = clock.now().as_millisecond() - self.covered_at_ms.load(Ordering::SeqCst);
        u32::try_from(age_ms.max(0) / 1000).unwrap_or(u32::MAX)
    }

    /// Takes committed entries into the tree, within bounds, and signs when something is new. After a failure the tree is
    /// built anew from what is stored.
    pub async fn seal(&self, storage: &Storage, clock: &Clock) -> Result<(), SealError> {
        let mut state = self.state.lock().await;
        let (entries, newest) = storage.audit_end().await?;
        if let Some(size) = newest.filter(|size| *size > entries) {
            return Err(SealError::Cut { size, entries });
        }
        let mut tree = if let Some(tree) = state.tree.take() {
            tree
        } else {
            state.seen = newest;
            self.resume(storage, newest).await?
        };
        // This kernel remembers what it has seen, also when the checkpoints were removed with the entries.
        let size = signed(tree.size());
        if size > entries {
            state.tree = Some(tree);
            return Err(SealError::Cut { size, entries });
        }
        extend(storage, &mut tree, unsigned(entries)).await?;
        let size = signed(tree.size());
        let mut covered = newest;
        if newest.is_none_or(|newest| newest < size) {
            if newest == state.seen {
                let checkpoint = Checkpoint { size: tree.size(), root: tree.root() };
                storage.put_audit_checkpoint(size, &checkpoint.sign(&self.signer)).await?;
                (state.seen, covered) = (Some(size), Some(size));
            } else {
                state.seen = newest;
            }
        }
        if covered >= Some(entries) || entries == 0 {
            self.covered_at_ms.store(clock.now().as_millisecond(), Ordering::SeqCst);
        }
        state.tree = Some(tree);
        Ok(())
    }

    /// The tree of what is stored, which must continue the newest checkpoint.
    async fn resume(&self, storage: &Storage, newest: Option<i64>) -> Result<Tree, SealError> {
        if let Some(size) = newest {
            let rows = storage.audit_checkpoints(size - 1, size, 1).await?;
            let note = rows.into_iter().next().map(|(_, note)| note).unwrap_or_default();
            let checkpoint = Checkpoint::open(&String::from_utf8_lossy(&note), self.key())
                .map_err(|cause| SealError::Foreign { size, cause })?;
            let root = Nodes::new(storage).root(unsigned(size)).await?;
            if (checkpoint.size, checkpoint.root) != (unsigned(size), root) {
                return Err(SealError::Rewritten { size });
            }
        }
        let tiles = storage.last_audit_tile(0).await?.map_or(0, |last| unsigned(last) + 1);
        let mut open = Vec::new();
        let (mut below, mut level) = (tiles, 0);
        while below > 0 {
            let first = below / TILE_WIDTH * TILE_WIDTH;
            let rows = storage.audit_tile_roots(level, signed(first), signed(below)).await?;
            if rows.len() as u64 != below - first {
                let what = format!("tiles of level {level} before {below} are missing");
                return Err(StorageError::Corrupt { table: "audit_tile", what }.into());
            }
            open.push(rows.iter().map(|(_, root)| hash("audit_tile", root)).collect::<Result<Vec<_>, _>>()?);
            below >>= TILE_HEIGHT;
            level += 1;
        }
        Ok(Tree::resumed(tiles, open))
    }
}

/// Takes entries into the tree and stores the tiles that they fill.
async fn extend(storage: &Storage, tree: &mut Tree, entries: u64) -> Result<(), SealError> {
    for _ in 0..limit::AUDIT_SEAL_PAGES_MAX {
        let from = tree.size();
        if from >= entries {
            break;
        }
        let to = entries.min(from + limit::AUDIT_SEAL_PAGE);
        let mut tiles = Vec::new();
        for (index, leaf) in storage.audit_leaves(signed(from), signed(to)).await? {
            if index != signed(tree.size()) {
                break;
            }
            tiles.extend(tree.push(hash("audit", &leaf)?).iter().map(row));
        }
        if tree.size() < to {
            return Err(SealError::Gap(tree.size()));
        }
        storage.put_audit_tiles(&tiles).await?;
    }
    Ok(())
}

fn row(tile: &Tile) -> TileRow {
    TileRow {
        level: i64::from(tile.level),
        position: signed(tile.position),
        root: tile.root.0.to_vec(),
        hashes: tile.hashes.iter().flat_map(|hash| hash.0).collect(),
    }
}
