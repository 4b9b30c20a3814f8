//! No mutated proof is accepted. `PROPTEST_CASES=1000000 tests/run mutated` tries a million of each kind.

use std::cell::RefCell;
use std::collections::HashMap;

use aibos::audit::merkle::{self, Hash, Range, root_of};
use proptest::prelude::*;
use proptest::sample::Index;

/// Leaves of the largest tree.
const LEAVES_MAX: u64 = 300;

/// One change of a proof.
#[derive(Clone, Debug)]
enum Mutation {
    /// Of a bit of a hash on the path.
    Bit(Index, u8),
    Drop(Index),
    Insert(Index, [u8; 32]),
    Repeat(Index),
    Swap(Index, Index),
    /// Of a bit of the leaf or of the older root.
    Subject(u8),
    /// Of a bit of the root that is proved against.
    Root(u8),
    /// Of the position, or of the older size.
    Number(u64),
    /// The path of another leaf or of another size.
    Other(u64),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, bit)| Mutation::Bit(at, bit)),
        1 => any::<Index>().prop_map(Mutation::Drop),
        1 => (any::<Index>(), any::<[u8; 32]>()).prop_map(|(at, hash)| Mutation::Insert(at, hash)),
        1 => any::<Index>().prop_map(Mutation::Repeat),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(one, two)| Mutation::Swap(one, two)),
        1 => any::<u8>().prop_map(Mutation::Subject),
        1 => any::<u8>().prop_map(Mutation::Root),
        1 => (0..LEAVES_MAX + 2).prop_map(Mutation::Number),
        1 => (0..LEAVES_MAX).prop_map(Mutation::Other),
    ]
}

/// A proof as a verifier is given it. The size of the tree comes with its root from the signed checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Proof {
    number: u64,
    subject: Hash,
    root: Hash,
    path: Vec<Hash>,
}

fn flip(hash: &mut Hash, bit: u8) {
    hash.0[usize::from(bit / 8)] ^= 1 << (bit % 8);
}

impl Proof {
    fn mutated(&self, mutation: &Mutation, other: impl Fn(u64) -> Vec<Hash>) -> Self {
        let mut proof = self.clone();
        let length = proof.path.len();
        match mutation {
            Mutation::Subject(bit) => flip(&mut proof.subject, *bit),
            Mutation::Root(bit) => flip(&mut proof.root, *bit),
            Mutation::Number(number) => proof.number = *number,
            Mutation::Other(number) => proof.path = other(*number),
            Mutation::Insert(at, hash) => proof.path.insert(at.index(length + 1), Hash(*hash)),
            _ if length == 0 => {}
            Mutation::Bit(at, bit) => flip(&mut proof.path[at.index(length)], *bit),
            Mutation::Drop(at) => drop(proof.path.remove(at.index(length))),
            Mutation::Repeat(at) => proof.path.insert(at.index(length), proof.path[at.index(length)]),
            Mutation::Swap(one, two) => proof.path.swap(one.index(length), two.index(length)),
        }
        proof
    }
}

/// The hashes of ranges of one sequence of leaves, each computed once.
struct Grove {
    leaves: Vec<Hash>,
    known: RefCell<HashMap<(u64, u64), Hash>>,
}

impl Grove {
    fn new() -> Self {
        let leaves = (0..LEAVES_MAX).map(|number| Hash::of_leaf(&number.to_be_bytes())).collect();
        Self { leaves, known: RefCell::default() }
    }

    fn hash(&self, Range(from, to): Range) -> Hash {
        let slice = || &self.leaves[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()];
        *self.known.borrow_mut().entry((from, to)).or_insert_with(|| root_of(slice()))
    }

    fn root(&self, size: u64) -> Hash {
        self.hash(Range(0, size))
    }

    fn path(&self, ranges: &[Range]) -> Vec<Hash> {
        ranges.iter().map(|range| self.hash(*range)).collect()
    }
}

fn cases() -> ProptestConfig {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    // What the environment says comes first; the default of the library would be 256.
    if config.cases == 256 {
        config.cases = 20_000;
    }
    config
}

#[test]
fn no_mutated_proof_of_an_entry_is_accepted() {
    let grove = Grove::new();
    proptest!(cases(), |(size in 1..=LEAVES_MAX, at in any::<Index>(), mutation in mutation())| {
        let number = at.index(usize::try_from(size).unwrap()) as u64;
        let path = |number: u64| grove.path(&merkle::inclusion(number.min(size - 1), size));
        let subject = grove.hash(Range(number, number + 1));
        let good = Proof { number, subject, root: grove.root(size), path: path(number) };
        let holds = |it: &Proof| merkle::verify_inclusion(it.subject, it.number, size, &it.path, it.root);
        prop_assert!(holds(&good));
        let bad = good.mutated(&mutation, path);
        prop_assert!(bad == good || !holds(&bad), "{bad:?}");
    });
}

#[test]
fn no_mutated_proof_of_a_continuation_is_accepted() {
    let grove = Grove::new();
    proptest!(cases(), |(size in 1..=LEAVES_MAX, at in any::<Index>(), mutation in mutation())| {
        let number = 1 + at.index(usize::try_from(size).unwrap()) as u64;
        let path = |number: u64| grove.path(&merkle::consistency(number.clamp(1, size), size));
        let good = Proof { number, subject: grove.root(number), root: grove.root(size), path: path(number) };
        let holds = |it: &Proof| merkle::verify_consistency((it.number, it.subject), (size, it.root), &it.path);
        prop_assert!(holds(&good));
        let bad = good.mutated(&mutation, path);
        // A size comes with its root from a checkpoint: alone it is not what a proof is about.
        prop_assert!(bad == good || bad.number != good.number || !holds(&bad), "{bad:?}");
    });
}
