//! The tree while it grows. Every 256 hashes of one level make a tile (as C2SP tlog-tiles has them), and the tile's root is
//! a hash of the level eight above; a full tile never changes, so it is written once. In memory are only the tiles that are
//! not full: at most 255 hashes for each level of tiles.

use super::merkle::{Hash, Subtree, root_of};

/// Levels of the tree that one tile spans.
pub const TILE_HEIGHT: u32 = 8;
/// Hashes of a full tile.
pub const TILE_WIDTH: u64 = 1 << TILE_HEIGHT;

/// A full tile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// 0 holds leaf hashes, 1 the roots of tiles of level 0, and so on.
    pub level: u32,
    /// Its place among those of its level.
    pub position: u64,
    /// The root over its hashes.
    pub root: Hash,
    /// Its hashes.
    pub hashes: Vec<Hash>,
}

impl Tile {
    /// The number of leaves up to its end.
    #[must_use]
    pub fn ends_at(&self) -> u64 {
        (self.position + 1) << (TILE_HEIGHT * (self.level + 1))
    }
}

/// Where the tree has the hashes that a subtree is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Level of the tile.
    pub level: u32,
    /// Position of the tile.
    pub position: u64,
    /// The first of its hashes that belongs to the subtree.
    pub first: usize,
    /// How many do.
    pub count: usize,
}

impl Place {
    /// The place of a subtree.
    #[must_use]
    pub fn of(subtree: Subtree) -> Self {
        let (level, height) = (subtree.level / TILE_HEIGHT, subtree.level % TILE_HEIGHT);
        let first = subtree.position << height;
        Self {
            level,
            position: first >> TILE_HEIGHT,
            first: usize::try_from(first % TILE_WIDTH).unwrap_or(0),
            count: 1 << height,
        }
    }
}

/// A tree that grows by one leaf after the other.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    size: u64,
    /// For each level of tiles the hashes past the last full tile.
    open: Vec<Vec<Hash>>,
    last: Option<Hash>,
}

impl Tree {
    /// The tree of the full tiles of level 0: for each level above it the roots of the tiles below that are in no full
    /// tile yet, beginning with level 1.
    #[must_use]
    pub fn resumed(tiles: u64, open: Vec<Vec<Hash>>) -> Self {
        let mut levels = vec![Vec::new()];
        levels.extend(open);
        Self { size: tiles * TILE_WIDTH, open: levels, last: None }
    }

    /// Leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The leaves past the last full tile.
    #[must_use]
    pub fn open_leaves(&self) -> &[Hash] {
        self.open.first().map(Vec::as_slice).unwrap_or_default()
    }

    /// The leaf that was added last.
    #[must_use]
    pub fn last_leaf(&self) -> Option<Hash> {
        self.last
    }

    /// Adds a leaf; answers the tiles that it filled, the lowest first.
    pub fn push(&mut self, leaf: Hash) -> Vec<Tile> {
        self.size += 1;
        self.last = Some(leaf);
        let mut filled = Vec::new();
        let mut next = Some(leaf);
        for level in 0.. {
            let Some(hash) = next.take() else { break };
            let index = usize::try_from(level).unwrap_or(usize::MAX);
            if self.open.len() <= index {
                self.open.push(Vec::new());
            }
            let Some(open) = self.open.get_mut(index) else { break };
            open.push(hash);
            if open.len() as u64 == TILE_WIDTH {
                let hashes = std::mem::take(open);
                let root = root_of(&hashes);
                let position = (self.size >> (TILE_HEIGHT * (level + 1))) - 1;
                filled.push(Tile { level, position, root, hashes });
                next = Some(root);
            }
        }
        filled
    }

    /// The root over all leaves.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut carried: Option<Hash> = None;
        for open in &self.open {
            if !open.is_empty() || carried.is_some() {
                let hashes: Vec<Hash> = open.iter().copied().chain(carried).collect();
                carried = Some(root_of(&hashes));
            }
        }
        carried.unwrap_or_else(|| root_of(&[]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_root_of_the_definition_and_fills_each_tile_once() {
        let mut tree = Tree::default();
        let mut leaves = Vec::new();
        let mut tiles = Vec::new();
        for number in 0..70_000_u32 {
            let leaf = Hash::of_leaf(&number.to_be_bytes());
            leaves.push(leaf);
            tiles.extend(tree.push(leaf));
            if number < 600 || number % 9973 == 0 {
                assert_eq!(tree.root(), root_of(&leaves), "{} leaves", number + 1);
            }
        }
        assert_eq!(tree.root(), root_of(&leaves));
        let places: Vec<(u32, u64)> = tiles.iter().map(|tile| (tile.level, tile.position)).collect();
        let lowest = (0..273).map(|position| (0, position));
        let mut expected: Vec<(u32, u64)> = lowest.collect();
        expected.insert(256, (1, 0));
        assert_eq!(places, expected);
        assert_eq!(tiles[256].hashes, tiles[..256].iter().map(|tile| tile.root).collect::<Vec<_>>());
        assert_eq!((tiles[256].ends_at(), tiles[255].ends_at()), (65_536, 65_536));
        let open: Vec<Hash> = tiles[257..].iter().map(|tile| tile.root).collect();
        let mut resumed = Tree::resumed(273, vec![open, vec![tiles[256].root]]);
        leaves[273 * 256..].iter().for_each(|leaf| drop(resumed.push(*leaf)));
        assert_eq!((resumed.size(), resumed.root()), (70_000, tree.root()));
    }

    #[test]
    fn a_subtree_lies_in_one_tile() {
        let place = |level, position| Place::of(Subtree { level, position });
        assert_eq!(place(0, 300), Place { level: 0, position: 1, first: 44, count: 1 });
        assert_eq!(place(7, 3), Place { level: 0, position: 1, first: 128, count: 128 });
        assert_eq!(place(8, 3), Place { level: 1, position: 0, first: 3, count: 1 });
        assert_eq!(place(10, 65), Place { level: 1, position: 1, first: 4, count: 4 });
    }
}
