//! Proofs about the stored log: that an entry is in it, and that an older state is its beginning. A proof reads a few tiles,
//! however long the log is; whoever has a checkpoint and the verifier key checks it without trusting the kernel.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoint;
use super::merkle::{self, Hash, Range, Subtree, fold, root_of};
use super::tree::{Place, TILE_WIDTH};
use crate::id::AuditId;
use crate::storage::{Storage, StorageError};

/// Tiles that one reader remembers, 8 KiB each: an export meets them in order.
const TILES_REMEMBERED: usize = 16;

/// That an entry is in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InclusionProof {
    /// The entry.
    pub id: AuditId,
    /// Its position.
    pub index: u64,
    /// Its exact text, which the leaf hash covers.
    pub text: String,
    /// The leaf hash: SHA-256 of a zero byte and the text.
    pub leaf: Hash,
    /// Entries of the log that the proof is about.
    pub size: u64,
    /// The root of that log.
    pub root: Hash,
    /// The path from the leaf to the root (RFC 9162, section 2.1.3).
    pub hashes: Vec<Hash>,
    /// The signed checkpoint of that size; null when none was signed at this size.
    pub checkpoint: Option<String>,
}

/// What a text says of itself.
#[derive(Deserialize)]
struct Named {
    id: AuditId,
}

impl InclusionProof {
    /// Whether it proves its entry for a checkpoint that the caller believes.
    #[must_use]
    pub fn holds(&self, checkpoint: &Checkpoint) -> bool {
        self.size == checkpoint.size
            && self.root == checkpoint.root
            && serde_json::from_str::<Named>(&self.text).is_ok_and(|named| named.id == self.id)
            && self.leaf == Hash::of_leaf(self.text.as_bytes())
            && merkle::verify_inclusion(self.leaf, self.index, self.size, &self.hashes, self.root)
    }
}

/// That the log of one size begins with the log of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConsistencyProof {
    /// Entries of the older log.
    pub from: u64,
    /// Entries of the newer log.
    pub to: u64,
    /// The proof (RFC 9162, section 2.1.4).
    pub hashes: Vec<Hash>,
    /// The signed checkpoint of the newer log; null when none was signed at this size.
    pub checkpoint: Option<String>,
}

impl ConsistencyProof {
    /// Whether it proves that one checkpoint continues another; the caller believes both.
    #[must_use]
    pub fn holds(&self, old: &Checkpoint, new: &Checkpoint) -> bool {
        let sizes = (self.from, self.to) == (old.size, new.size);
        sizes && merkle::verify_consistency((old.size, old.root), (new.size, new.root), &self.hashes)
    }
}

/// Reads the hashes of subtrees that are complete and signed.
#[derive(Debug)]
pub struct Nodes {
    storage: Storage,
    tiles: HashMap<(u32, u64), Vec<Hash>>,
}

impl Nodes {
    /// A reader.
    #[must_use]
    pub fn new(storage: &Storage) -> Self {
        Self { storage: storage.clone(), tiles: HashMap::new() }
    }

    /// The path from leaf `index` to the root of the log of `size` entries.
    pub async fn inclusion(&mut self, index: u64, size: u64) -> Result<Vec<Hash>, StorageError> {
        self.ranges(merkle::inclusion(index, size)).await
    }

    /// The proof that the log of `second` entries begins with that of `first`.
    pub async fn consistency(&mut self, first: u64, second: u64) -> Result<Vec<Hash>, StorageError> {
        self.ranges(merkle::consistency(first, second)).await
    }

    /// The root of the first `size` entries.
    pub async fn root(&mut self, size: u64) -> Result<Hash, StorageError> {
        Ok(fold(&self.cover(Range(0, size)).await?))
    }

    /// The hashes of the subtrees that a range falls into.
    pub async fn cover(&mut self, range: Range) -> Result<Vec<Hash>, StorageError> {
        let mut hashes = Vec::new();
        for subtree in range.cover() {
            hashes.push(self.subtree(subtree).await?);
        }
        Ok(hashes)
    }

    async fn ranges(&mut self, ranges: Vec<Range>) -> Result<Vec<Hash>, StorageError> {
        let mut hashes = Vec::with_capacity(ranges.len());
        for range in ranges {
            hashes.push(fold(&self.cover(range).await?));
        }
        Ok(hashes)
    }

    async fn subtree(&mut self, subtree: Subtree) -> Result<Hash, StorageError> {
        let place = Place::of(subtree);
        if !self.tiles.contains_key(&(place.level, place.position)) {
            let tile = self.load(place).await?;
            if self.tiles.len() >= TILES_REMEMBERED {
                self.tiles.clear();
            }
            self.tiles.insert((place.level, place.position), tile);
        }
        let tile = self.tiles.get(&(place.level, place.position)).map(Vec::as_slice).unwrap_or_default();
        let hashes = tile.get(place.first..place.first + place.count).ok_or_else(|| StorageError::Corrupt {
            table: if place.level == 0 { "audit" } else { "audit_tile" },
            what: format!("hashes of level {} in tile {} are missing", place.level, place.position),
        })?;
        Ok(root_of(hashes))
    }

    /// A full tile, or what there is of one.
    async fn load(&self, place: Place) -> Result<Vec<Hash>, StorageError> {
        let (level, position) = (i64::from(place.level), signed(place.position));
        if let Some(tile) = self.storage.audit_tile(level, position).await? {
            return tile.hashes.chunks(32).map(|bytes| hash("audit_tile", bytes)).collect();
        }
        let (from, to) = (signed(place.position * TILE_WIDTH), signed((place.position + 1) * TILE_WIDTH));
        let rows = match level {
            0 => self.storage.audit_leaves(from, to).await?,
            _ => self.storage.audit_tile_roots(level - 1, from, to).await?,
        };
        // A gap would put every hash behind it into a wrong place.
        let gapless = (from..).zip(rows).take_while(|(expected, (found, _))| expected == found);
        gapless.map(|(_, (_, bytes))| hash("audit", &bytes)).collect()
    }
}

/// A stored hash.
pub(super) fn hash(table: &'static str, bytes: &[u8]) -> Result<Hash, StorageError> {
    let length = bytes.len();
    let bytes = bytes.try_into();
    bytes
        .map(Hash)
        .map_err(|_| StorageError::Corrupt { table, what: format!("a hash is {length} bytes long instead of 32") })
}

/// A number as the databases have it.
#[must_use]
pub fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number as the tree has it; what is below zero stands for nothing.
#[must_use]
pub fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
