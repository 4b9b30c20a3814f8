//! The Merkle tree of RFC 6962 section 2.1 and RFC 9162 section 2.1: hashes, the ranges that a proof names, and the two
//! verifications. Pure: nothing here reads a database, so an auditor's verifier is this file and `note`.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// SHA-256 of a leaf or of two nodes. As text it is base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// SHA-256 of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::of_parts(&[bytes])
    }

    fn of_parts(parts: &[&[u8]]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in parts {
            context.update(part);
        }
        Self::finished(context)
    }

    /// The hash that a context has come to.
    #[must_use]
    pub fn finished(context: digest::Context) -> Self {
        let mut hash = [0; 32];
        hash.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
        Self(hash)
    }

    /// The hash of a leaf: SHA-256 of a zero byte and its bytes.
    #[must_use]
    pub fn of_leaf(bytes: &[u8]) -> Self {
        Self::of_parts(&[&[0], bytes])
    }

    /// The hash of a node: SHA-256 of a one byte and its two halves.
    #[must_use]
    pub fn of_node(left: &Self, right: &Self) -> Self {
        Self::of_parts(&[&[1], &left.0, &right.0])
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the base64 of 32 bytes")]
pub struct InvalidHash;

impl FromStr for Hash {
    type Err = InvalidHash;
    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        let bytes = STANDARD.decode(text).map_err(|_| InvalidHash)?;
        bytes.try_into().map(Self).map_err(|_| InvalidHash)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Hash {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Hash".into()
    }
    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "SHA-256, in base64.", "contentEncoding": "base64" })
    }
}

/// A complete subtree: the leaves from `position << level`, `1 << level` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subtree {
    /// Its height; a leaf has 0.
    pub level: u32,
    /// Its place among those of its height.
    pub position: u64,
}

/// Leaves from the first to before the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range(pub u64, pub u64);

impl Range {
    /// The largest complete subtrees that the range falls into, from left to right.
    #[must_use]
    pub fn cover(self) -> Vec<Subtree> {
        let Self(mut from, to) = self;
        let mut cover = Vec::new();
        while from < to {
            let fits = (to - from).ilog2();
            let level = if from == 0 { fits } else { fits.min(from.trailing_zeros()) };
            cover.push(Subtree { level, position: from >> level });
            from += 1 << level;
        }
        cover
    }
}

/// The root over subtrees that stand from the largest to the smallest; the hash of nothing when there are none.
#[must_use]
pub fn fold(hashes: &[Hash]) -> Hash {
    let folded = hashes.iter().rev().copied().reduce(|right, left| Hash::of_node(&left, &right));
    folded.unwrap_or_else(|| Hash::of(b""))
}

/// The root over nodes of one level of which only the last may be incomplete; the hash of nothing when there are none.
#[must_use]
pub fn root_of(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => Hash::of(b""),
        [only] => *only,
        several => {
            let half = usize::try_from(half(several.len() as u64)).unwrap_or(1);
            let (left, right) = several.split_at_checked(half).unwrap_or((several, &[]));
            Hash::of_node(&root_of(left), &root_of(right))
        }
    }
}

/// The largest power of two below `size`, which is at least 2.
fn half(size: u64) -> u64 {
    1 << (size.saturating_sub(1).max(1)).ilog2()
}

/// The ranges whose hashes prove that leaf `index` is in a tree of `size` leaves, from the leaf to the root.
#[must_use]
pub fn inclusion(index: u64, size: u64) -> Vec<Range> {
    let (mut from, mut to) = (0, size);
    let mut ranges = Vec::new();
    while to - from > 1 {
        let middle = from + half(to - from);
        if index < middle {
            ranges.push(Range(middle, to));
            to = middle;
        } else {
            ranges.push(Range(from, middle));
            from = middle;
        }
    }
    ranges.reverse();
    ranges
}

/// The ranges whose hashes prove that a tree of `second` leaves begins with the tree of its first `first`.
#[must_use]
pub fn consistency(first: u64, second: u64) -> Vec<Range> {
    let (mut from, mut to, mut whole) = (0, second, true);
    let mut ranges = Vec::new();
    if first == 0 {
        return ranges;
    }
    while first < to {
        let middle = from + half(to - from);
        if first <= middle {
            ranges.push(Range(middle, to));
            to = middle;
        } else {
            ranges.push(Range(from, middle));
            from = middle;
            whole = false;
        }
    }
    if !whole {
        ranges.push(Range(from, to));
    }
    ranges.reverse();
    ranges
}

/// Whether `path` proves that `leaf` is leaf `index` of the tree of `size` leaves with this root (RFC 9162, 2.1.3.2).
#[must_use]
pub fn verify_inclusion(leaf: Hash, index: u64, size: u64, path: &[Hash], root: Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf);
    for step in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = Hash::of_node(step, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = Hash::of_node(&hash, step);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == root
}

/// Whether `path` proves that the tree of `second` leaves begins with that of `first` (RFC 9162, 2.1.4.2). Every tree
/// begins with the empty one and with itself.
#[must_use]
pub fn verify_consistency(first: (u64, Hash), second: (u64, Hash), path: &[Hash]) -> bool {
    let ((first_size, first_root), (second_size, second_root)) = (first, second);
    if first_size == second_size || first_size == 0 {
        let same = first_size != second_size || first_root == second_root;
        let empty = first_size != 0 || first_root == Hash::of(b"");
        return same && empty && path.is_empty();
    }
    if first_size > second_size || path.is_empty() {
        return false;
    }
    let begins_whole = first_size.is_power_of_two();
    let mut steps = begins_whole.then_some(&first_root).into_iter().chain(path);
    let (mut node, mut last) = (first_size - 1, second_size - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let Some(seed) = steps.next() else { return false };
    let (mut old, mut new) = (*seed, *seed);
    for step in steps {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            old = Hash::of_node(step, &old);
            new = Hash::of_node(step, &new);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new = Hash::of_node(&new, step);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && old == first_root && new == second_root
}

#[cfg(test)]
mod tests;
