//! Extends the tree over what was committed and signs checkpoints, in the background: commits wait for none of it.
//!
//! Several kernels may do so on one database. A tile and a root follow from the entries alone, everything is insert-only,
//! and nobody signs what does not continue the newest checkpoint, so there is never a second tree. Whoever finds that
//! another kernel has signed since leaves the next signature to it.
//!
//! A log that lost entries while this kernel ran is never signed again by it, however long it grows.

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
    /// Entries that were there are there no more. That stays so until the kernel is started anew.
    #[error("{0}; nothing more is signed until this kernel is started again")]
    Lost(#[from] Loss),
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

/// What a log can lose, which no later look finds again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// Its tail.
    #[error("the audit log was cut off: it had {size} entries, but there are {entries}")]
    Cut {
        /// That there were.
        size: i64,
        /// That there are.
        entries: i64,
    },
    /// The last entry that the tree has.
    #[error("the audit log was rewritten: entry {0} is not the one that was there")]
    Replaced(u64),
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
    /// Size of the last checkpoint that was compared with the log, or signed here.
    believed: Option<i64>,
    /// Entries at the first look that found some under no checkpoint, and when that was.
    waiting: Option<(i64, i64)>,
    /// What was lost while this kernel ran.
    lost: Option<Loss>,
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
    /// built anew from what is stored; after a loss nothing is signed any more.
    pub async fn seal(&self, storage: &Storage, clock: &Clock) -> Result<(), SealError> {
        let mut state = self.state.lock().await;
        if let Some(lost) = state.lost {
            return Err(lost.into());
        }
        let sealed = self.go_on(&mut state, storage, clock).await;
        if let Err(SealError::Lost(loss)) = &sealed {
            state.lost = Some(*loss);
        }
        sealed
    }

    async fn go_on(&self, state: &mut State, storage: &Storage, clock: &Clock) -> Result<(), SealError> {
        let taken = state.tree.take();
        let resumed = taken.is_none();
        let mut tree = match taken {
            Some(tree) => tree,
            None => resume(storage).await?,
        };
        let now = clock.now().as_millisecond();
        // After the tiles were read: another kernel may have written more of them meanwhile, over entries that came later.
        let (entries, newest) = storage.audit_end().await?;
        if resumed {
            state.seen = newest;
        }
        let size = signed(tree.size()).max(newest.unwrap_or(0));
        if size > entries {
            return Err(Loss::Cut { size, entries }.into());
        }
        if let Some(size) = newest.filter(|_| newest != state.believed) {
            self.compare(storage, size).await?;
            state.believed = newest;
        }
        extend(storage, &mut tree, unsigned(entries)).await?;
        let size = signed(tree.size());
        let mut covered = newest;
        if newest.is_none_or(|newest| newest < size) {
            if newest == state.seen {
                let checkpoint = Checkpoint { size: tree.size(), root: tree.root() };
                storage.put_audit_checkpoint(size, &checkpoint.sign(&self.signer)).await?;
                (state.seen, state.believed, covered) = (Some(size), Some(size), Some(size));
            } else {
                state.seen = newest;
            }
        }
        self.look(state, (entries, now), covered.unwrap_or(0));
        state.tree = Some(tree);
        Ok(())
    }

    /// Notes since when every entry is under a checkpoint, whoever signed it. While the log grows, that is the time of an
    /// earlier look, whose entries are covered by now.
    fn look(&self, state: &mut State, (entries, now): (i64, i64), covered: i64) {
        if covered >= entries {
            state.waiting = None;
            self.covered_at_ms.store(now, Ordering::SeqCst);
            return;
        }
        if let Some((_, looked_at)) = state.waiting.take_if(|(entries, _)| *entries <= covered) {
            self.covered_at_ms.store(looked_at, Ordering::SeqCst);
        }
        state.waiting.get_or_insert((entries, now));
    }

    /// Whether the log begins with what the stored checkpoint of this size was signed for.
    async fn compare(&self, storage: &Storage, size: i64) -> Result<(), SealError> {
        let rows = storage.audit_checkpoints(size - 1, size, 1).await?;
        let note = rows.into_iter().next().map(|(_, note)| note).unwrap_or_default();
        let checkpoint = Checkpoint::open_own(&String::from_utf8_lossy(&note), self.key())
            .map_err(|cause| SealError::Foreign { size, cause })?;
        let root = Nodes::new(storage).root(unsigned(size)).await?;
        if (checkpoint.size, checkpoint.root) == (unsigned(size), root) {
            Ok(())
        } else {
            Err(SealError::Rewritten { size })
        }
    }
}

/// The tree of the tiles that are stored.
async fn resume(storage: &Storage) -> Result<Tree, SealError> {
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

/// Takes entries into the tree and stores the tiles that they fill.
async fn extend(storage: &Storage, tree: &mut Tree, entries: u64) -> Result<(), SealError> {
    for _ in 0..limit::AUDIT_SEAL_PAGES_MAX {
        let from = tree.size();
        if from >= entries {
            break;
        }
        let to = entries.min(from + limit::AUDIT_SEAL_PAGE);
        let mut tiles = Vec::new();
        // The leaf before tells whether the log is still the one that the tree was built from.
        let last = tree.last_leaf();
        for (index, leaf) in storage.audit_leaves(signed(from.saturating_sub(1)), signed(to)).await? {
            if index < signed(from) {
                if last.is_some_and(|last| last.0 != *leaf) {
                    return Err(Loss::Replaced(from - 1).into());
                }
                continue;
            }
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
