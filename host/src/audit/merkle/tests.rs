//! The tree against the known answers of Certificate Transparency (its reference implementation's eight leaves), and against
//! the definition of RFC 6962 for every small size.

use super::*;

/// The inputs of certificate-transparency's `merkle_tree_test`.
const LEAVES: [&[u8]; 8] = [
    b"",
    b"\x00",
    b"\x10",
    b"\x20\x21",
    b"\x30\x31",
    b"\x40\x41\x42\x43",
    b"\x50\x51\x52\x53\x54\x55\x56\x57",
    b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
];

/// The roots over the first one to eight of them.
const ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn hex(hash: Hash) -> String {
    hash.0.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|number| Hash::of_leaf(&number.to_be_bytes())).collect()
}

fn slice(leaves: &[Hash], Range(from, to): Range) -> &[Hash] {
    &leaves[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()]
}

fn path(leaves: &[Hash], ranges: &[Range]) -> Vec<Hash> {
    ranges.iter().map(|range| root_of(slice(leaves, *range))).collect()
}

#[test]
fn gives_the_roots_of_certificate_transparency() {
    assert_eq!(hex(root_of(&[])), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let hashes: Vec<Hash> = LEAVES.iter().map(|leaf| Hash::of_leaf(leaf)).collect();
    for (size, root) in (1..).zip(ROOTS) {
        assert_eq!(hex(root_of(&hashes[..size])), root, "{size} leaves");
    }
}

#[test]
fn gives_the_proofs_of_certificate_transparency() {
    let hashes: Vec<Hash> = LEAVES.iter().map(|leaf| Hash::of_leaf(leaf)).collect();
    let shown = |ranges: &[Range]| path(&hashes, ranges).into_iter().map(hex).collect::<Vec<_>>();
    assert_eq!(
        shown(&inclusion(5, 8)),
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ]
    );
    assert_eq!(shown(&inclusion(0, 1)), [""; 0]);
    assert_eq!(
        shown(&consistency(6, 8)),
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ]
    );
    assert_eq!(
        shown(&consistency(2, 5)),
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ]
    );
}

#[test]
fn every_proof_of_every_small_tree_holds_and_no_other() {
    let all = leaves(40);
    let root = |size: u64| root_of(slice(&all, Range(0, size)));
    for size in 1..=40 {
        for index in 0..size {
            let proof = path(&all, &inclusion(index, size));
            let leaf = all[usize::try_from(index).unwrap()];
            assert!(verify_inclusion(leaf, index, size, &proof, root(size)), "leaf {index} of {size}");
            for other in (0..=size).filter(|other| *other != index) {
                assert!(!verify_inclusion(leaf, other, size, &proof, root(size)), "{index} as {other} of {size}");
            }
        }
        for first in 0..=size {
            let proof = path(&all, &consistency(first, size));
            assert!(verify_consistency((first, root(first)), (size, root(size)), &proof), "{first} in {size}");
            let longer = [proof.as_slice(), &[root(1)]].concat();
            assert!(!verify_consistency((first, root(first)), (size, root(size)), &longer), "{first} in {size}");
            assert!(!verify_consistency((size + 1, root(first)), (size, root(size)), &proof));
        }
    }
}

#[test]
fn a_range_is_covered_by_its_largest_subtrees() {
    let all = leaves(70);
    for from in 0..70 {
        for to in from..70 {
            let mut next = from;
            for Subtree { level, position } in Range(from, to).cover() {
                assert_eq!(position << level, next);
                next += 1 << level;
            }
            assert_eq!(next, to);
        }
        let hashes: Vec<Hash> = Range(0, from)
            .cover()
            .iter()
            .map(|part| root_of(slice(&all, Range(part.position << part.level, (part.position + 1) << part.level))))
            .collect();
        assert_eq!(fold(&hashes), root_of(slice(&all, Range(0, from))));
    }
}
