//! The audit log's tree: growing, proving, checking.

use std::hint::black_box;

use bitproof_core_ledger::merkle::{leaf_hash, proof, FullTree, Tree};
use sha2::{Digest as _, Sha256};

use super::Emit;
use crate::harness::{Harness, Items, Unrepeatable};

const LEAVES: u64 = 1_000_000;
const PROOFS: u64 = 10_000;

pub(super) fn run(harness: &Harness<'_>, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    let leaves: Vec<[u8; 32]> = (0..LEAVES).map(leaf).collect();
    let items = Items { count: LEAVES, of: "leaf" };
    let peer = || {
        // A leaf and a node for each but one: what no tree can do without.
        for leaf in &leaves {
            let mut prefixed = [0; 33];
            prefixed[1..].copy_from_slice(leaf);
            black_box(Sha256::digest(black_box(prefixed)));
        }
        for _ in 1..LEAVES {
            black_box(Sha256::digest(black_box([1; 65])));
        }
    };
    let name = "sha2: as many leaves and nodes";
    let root = |tree: &Tree| tree.root().to_vec();
    emit(harness.measure_against(("audit/tree", 1, items), || tree(&leaves), root, name, peer)?);
    let root = |tree: &FullTree| tree.root_at(LEAVES).expect("it has that many").to_vec();
    emit(harness.measure_against(("audit/tree-of-nodes", 1, items), || grown(&leaves), root, name, peer)?);

    let tree = grown(&leaves);
    // Of a size that is no power of two, so that paths meet the right edge, too.
    let indices: Vec<u64> = (0..PROOFS).map(|i| i * 7_919 % LEAVES).collect();
    let prove = || -> Vec<Vec<[u8; 32]>> {
        indices.iter().map(|&i| tree.inclusion_proof(i, LEAVES).expect("it is there")).collect()
    };
    let items = Items { count: PROOFS, of: "proof" };
    let proved = harness.measure("audit/prove", 1, prove, |proofs| proofs.concat().concat())?;
    emit(crate::Measurement { items: Some(items), ..proved });

    let (proofs, root) = (prove(), tree.root_at(LEAVES).expect("it has that many"));
    let check = || {
        let holds = |(&index, hashes): (&u64, &Vec<[u8; 32]>)| {
            let leaf = leaf_hash(&leaves[index as usize]);
            proof::check_inclusion(&leaf, index, LEAVES, hashes, &root).is_ok()
        };
        indices.iter().zip(&proofs).filter(|&proof| holds(proof)).count() as u64
    };
    let checked = harness.measure("audit/check", 1, check, |held| held.to_le_bytes().to_vec())?;
    emit(crate::Measurement { items: Some(items), ..checked });
    Ok(())
}

/// A leaf that holds a digest, as leaves do.
fn leaf(index: u64) -> [u8; 32] {
    *blake3::hash(&index.to_le_bytes()).as_bytes()
}

/// What appends and tells the root.
fn tree(leaves: &[[u8; 32]]) -> Tree {
    let mut tree = Tree::default();
    leaves.iter().for_each(|leaf| tree.push(leaf));
    tree
}

/// What proves, too: it keeps every node.
fn grown(leaves: &[[u8; 32]]) -> FullTree {
    let mut tree = FullTree::default();
    leaves.iter().for_each(|leaf| tree.push(leaf));
    tree
}
