//! Checking of inclusion and consistency proofs. RFC 9162 sections 2.1.3.2 and 2.1.4.2.
//!
//! The length of a proof follows from the sizes: any other length is refused before anything is hashed.

use super::{node_hash, Hash};

/// A proof that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// There is no such leaf.
    #[error("there is no leaf {index} in a tree of {size}")]
    Index {
        /// The leaf.
        index: u64,
        /// The tree's size.
        size: u64,
    },
    /// The sizes are not those of a tree that grew.
    #[error("a tree of {new} leaves cannot be shown to continue one of {old}")]
    Sizes {
        /// The older size.
        old: u64,
        /// The newer size.
        new: u64,
    },
    /// There are more or fewer hashes than the sizes ask for.
    #[error("the proof has {got} hashes, where {expected} are needed")]
    Length {
        /// How many are needed.
        expected: usize,
        /// How many there are.
        got: usize,
    },
    /// The hashes lead to another root.
    #[error("the proof does not lead to the {which} root")]
    Root {
        /// Which of the roots.
        which: &'static str,
    },
}

/// Checks that a tree of `size` leaves and this root has the leaf of this hash at `index`.
///
/// # Errors
/// [`ProofError`].
pub fn check_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Index { index, size });
    }
    let (inner, border) = path_lengths(index, size);
    expect_length(inner + border, proof)?;
    let (below, above) = proof.split_at(inner);
    let seed = below.iter().enumerate().fold(*leaf, |hash, (level, other)| {
        if index >> level & 1 == 0 {
            node_hash(&hash, other)
        } else {
            node_hash(other, &hash)
        }
    });
    let got = above.iter().fold(seed, |hash, left| node_hash(left, &hash));
    if got == *root {
        Ok(())
    } else {
        Err(ProofError::Root { which: "tree's" })
    }
}

/// Checks that the tree of `new` leaves and `new_root` begins with the leaves of the tree of `old` leaves and `old_root`.
/// Nothing can be shown of an empty tree, which every tree continues.
///
/// # Errors
/// [`ProofError`].
pub fn check_consistency(
    old: u64,
    old_root: &Hash,
    new: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if old == 0 || old > new {
        return Err(ProofError::Sizes { old, new });
    }
    if old == new {
        expect_length(0, proof)?;
        return if old_root == new_root { Ok(()) } else { Err(ProofError::Root { which: "older" }) };
    }
    let (inner, border) = path_lengths(old - 1, new);
    // Complete subtrees on the right edge of the old tree need no proof of their own.
    let shift = old.trailing_zeros() as usize;
    let inner = inner - shift;
    let begins_with_old = old.is_power_of_two();
    let seeds = usize::from(!begins_with_old);
    expect_length(seeds + inner + border, proof)?;
    let (seed, proof) = if begins_with_old { (*old_root, proof) } else { (proof[0], &proof[1..]) };
    let (below, above) = proof.split_at(inner);
    let (mut older, mut newer) = (seed, seed);
    for (level, other) in below.iter().enumerate() {
        if (old - 1) >> (level + shift) & 1 == 1 {
            older = node_hash(other, &older);
            newer = node_hash(other, &newer);
        } else {
            newer = node_hash(&newer, other);
        }
    }
    for left in above {
        older = node_hash(left, &older);
        newer = node_hash(left, &newer);
    }
    if older != *old_root {
        return Err(ProofError::Root { which: "older" });
    }
    if newer == *new_root {
        Ok(())
    } else {
        Err(ProofError::Root { which: "newer" })
    }
}

/// How many hashes of a path lie below the point where it meets the right edge of the tree, and how many on the edge.
fn path_lengths(index: u64, size: u64) -> (usize, usize) {
    let inner = u64::BITS - (index ^ (size - 1)).leading_zeros();
    let border = index.checked_shr(inner).unwrap_or(0).count_ones();
    (inner as usize, border as usize)
}

fn expect_length(expected: usize, proof: &[Hash]) -> Result<(), ProofError> {
    if proof.len() == expected {
        Ok(())
    } else {
        Err(ProofError::Length { expected, got: proof.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::{leaf_hash, FullTree, Tree};

    fn tree(size: u64) -> FullTree {
        let mut tree = FullTree::default();
        (0..size).for_each(|i| tree.push(&i.to_le_bytes()));
        tree
    }

    #[test]
    fn every_leaf_of_every_size_is_proved_and_nothing_else() {
        let full = tree(130);
        let mut growing = Tree::default();
        for size in 1..=130 {
            growing.push(&(size - 1u64).to_le_bytes());
            let root = full.root_at(size).unwrap();
            assert_eq!(root, growing.root());
            for index in 0..size {
                let leaf = leaf_hash(&index.to_le_bytes());
                let proof = full.inclusion_proof(index, size).unwrap();
                check_inclusion(&leaf, index, size, &proof, &root).unwrap();
                let other = (index + 1) % size;
                assert!(size == 1 || check_inclusion(&leaf, other, size, &proof, &root).is_err());
                let longer = [proof.as_slice(), &[root]].concat();
                assert!(matches!(
                    check_inclusion(&leaf, index, size, &longer, &root),
                    Err(ProofError::Length { .. })
                ));
                for i in 0..proof.len() {
                    let mut bad = proof.clone();
                    bad[i][0] ^= 1;
                    assert!(check_inclusion(&leaf, index, size, &bad, &root).is_err());
                }
            }
            assert!(full.inclusion_proof(size, size).is_none());
        }
        assert!(full.inclusion_proof(0, 131).is_none() && full.root_at(131).is_none());
    }

    #[test]
    fn every_pair_of_sizes_is_consistent_and_a_fork_is_not() {
        let full = tree(80);
        let mut fork = tree(40);
        (0..40u64).for_each(|i| fork.push(&(i + 1000).to_le_bytes()));
        let root = |size| full.root_at(size).unwrap();
        for new in 1..=80 {
            for old in 1..=new {
                let proof = full.consistency_proof(old, new).unwrap();
                check_consistency(old, &root(old), new, &root(new), &proof).unwrap();
                for i in 0..proof.len() {
                    let mut bad = proof.clone();
                    bad[i][31] ^= 1;
                    assert!(check_consistency(old, &root(old), new, &root(new), &bad).is_err());
                }
                let longer = [proof.as_slice(), &[root(1)]].concat();
                assert!(check_consistency(old, &root(old), new, &root(new), &longer).is_err());
                if old > 40 {
                    let theirs = fork.root_at(new).unwrap();
                    let proof = fork.consistency_proof(old, new).unwrap();
                    assert!(check_consistency(old, &root(old), new, &theirs, &proof).is_err());
                }
            }
        }
        assert!(
            check_consistency(0, &root(1), 5, &root(5), &[]).is_err(),
            "nothing is shown of an empty tree"
        );
        assert!(check_consistency(6, &root(6), 5, &root(5), &[]).is_err());
        assert!(full.consistency_proof(0, 5).is_none() && full.consistency_proof(6, 5).is_none());
        assert_eq!(path_lengths(u64::MAX - 1, u64::MAX).0, 0);
    }
}
