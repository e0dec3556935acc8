//! Implementations that nobody here wrote agree on roots, heads and proofs.

use bitproof_core_ledger::keys::{KeyRole, PrivateKey};
use bitproof_core_ledger::merkle::proof::{check_consistency, check_inclusion};
use bitproof_core_ledger::merkle::{leaf_hash, FullTree, Hash, Tree};
use bitproof_core_ledger::note::{self, TreeHead};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use sha2::Sha256;
use tlog_tiles::{Hash as TheirHash, HashReader};

/// The hashes that `tlog_tiles` stores, by their index.
struct Stored(Vec<TheirHash>);

impl HashReader for Stored {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<TheirHash>, tlog_tiles::Error> {
        Ok(indexes.iter().map(|&i| self.0[i as usize]).collect())
    }
}

fn leaf(i: u64) -> Vec<u8> {
    format!("{i}").repeat((i % 7) as usize).into_bytes()
}

struct Trees {
    ours: FullTree,
    growing: Tree,
    tiles: Stored,
    ct: MemoryBackedTree<Sha256, Vec<u8>>,
}

impl Trees {
    fn of(size: u64) -> Self {
        let mut trees = Self {
            ours: FullTree::default(),
            growing: Tree::default(),
            tiles: Stored(Vec::new()),
            ct: MemoryBackedTree::new(),
        };
        (0..size).for_each(|i| trees.push(&leaf(i)));
        trees
    }

    fn push(&mut self, leaf: &[u8]) {
        let n = self.ours.size();
        self.ours.push(leaf);
        self.growing.push(leaf);
        let more = tlog_tiles::stored_hashes(n, leaf, &self.tiles).unwrap();
        self.tiles.0.extend(more);
        self.ct.push(leaf.to_vec());
    }

    fn root(&self, size: u64) -> Hash {
        let ours = self.ours.root_at(size).unwrap();
        assert_eq!(tlog_tiles::tree_hash(size, &self.tiles).unwrap().0, ours, "root of {size}");
        ours
    }

    /// Our proof is theirs, we accept it, and so do they.
    fn prove(&self, index: u64, size: u64) {
        let (root, hash) = (self.root(size), leaf_hash(&leaf(index)));
        let ours = self.ours.inclusion_proof(index, size).unwrap();
        let theirs = tlog_tiles::prove_record(size, index, &self.tiles).unwrap();
        assert_eq!(ours, theirs.iter().map(|h| h.0).collect::<Vec<Hash>>(), "leaf {index} of {size}");
        check_inclusion(&hash, index, size, &ours, &root).unwrap();
        let ours: Vec<TheirHash> = ours.into_iter().map(TheirHash).collect();
        tlog_tiles::check_record(&ours, size, TheirHash(root), index, TheirHash(hash)).unwrap();
    }

    fn prove_growth(&self, old: u64, new: u64) {
        let (old_root, new_root) = (self.root(old), self.root(new));
        let ours = self.ours.consistency_proof(old, new).unwrap();
        let theirs = tlog_tiles::prove_tree(new, old, &self.tiles).unwrap();
        assert_eq!(ours, theirs.iter().map(|h| h.0).collect::<Vec<Hash>>(), "{old} to {new}");
        check_consistency(old, &old_root, new, &new_root, &ours).unwrap();
        let ours: Vec<TheirHash> = ours.into_iter().map(TheirHash).collect();
        tlog_tiles::check_tree(&ours, new, TheirHash(new_root), old, TheirHash(old_root)).unwrap();
    }

    /// The whole tree against `ct_merkle`, which knows only its newest size.
    fn against_ct_merkle(&self, index: u64, old: u64) {
        let size = self.ours.size();
        let root = self.ct.root();
        assert_eq!((root.num_leaves(), root.as_bytes().as_slice()), (size, self.root(size).as_slice()));
        let proof = self.ct.prove_inclusion(index as usize);
        assert_eq!(proof.as_bytes(), self.ours.inclusion_proof(index, size).unwrap().concat());
        if old < size {
            let proof = self.ct.prove_consistency((size - old) as usize);
            assert_eq!(proof.as_bytes(), self.ours.consistency_proof(old, size).unwrap().concat());
        }
    }
}

#[test]
fn roots_and_proofs_of_every_size_up_to_300() {
    let mut trees = Trees::of(0);
    assert_eq!(trees.ours.root_at(0), Some(trees.growing.root()));
    for size in 1..=300 {
        trees.push(&leaf(size - 1));
        assert_eq!(trees.root(size), trees.growing.root());
        // Every leaf of some sizes, and some leaves of every size.
        let step = if size < 40 || size % 50 == 0 { 1 } else { size / 7 + 1 };
        for index in (0..size).step_by(step as usize) {
            trees.prove(index, size);
            trees.prove_growth(index + 1, size);
            trees.against_ct_merkle(index, index + 1);
        }
    }
}

#[test]
fn roots_and_proofs_of_large_trees() {
    let trees = Trees::of(70_001);
    for size in [4096, 4097, 65_535, 65_536, 65_537, 70_001] {
        for index in [0, 1, 4095, size / 3, size / 2, size - 1] {
            trees.prove(index.min(size - 1), size);
            trees.prove_growth(index.clamp(1, size), size);
        }
    }
    trees.against_ct_merkle(65_536, 65_535);
}

#[test]
fn signed_heads_are_notes_and_checkpoints() {
    let key = PrivateKey::from_bytes(KeyRole::Log, &[7; 32]);
    let origin = "bitproof.local/0123456789abcdef";
    let vkey = key.note_key(origin).unwrap();
    let verifiers = || {
        let verifier = signed_note::StandardVerifier::new(&vkey.to_string()).unwrap();
        signed_note::VerifierList::new(vec![Box::new(verifier)])
    };
    for size in 0..=300u64 {
        let mut tree = Tree::default();
        (0..size).for_each(|i| tree.push(&leaf(i)));
        let head = TreeHead { origin: origin.to_owned(), size, root: tree.root() };
        let text = key.sign_note(&head.body(), origin).unwrap();
        let note = signed_note::Note::from_bytes(text.as_bytes()).unwrap();
        let (signed, unknown) = note.verify(&verifiers()).unwrap();
        assert_eq!((signed.len(), unknown.len()), (1, 0));
        let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
        assert_eq!(
            (checkpoint.origin(), checkpoint.size(), checkpoint.hash().0, checkpoint.extension()),
            (origin, size, head.root, "")
        );
        assert_eq!(checkpoint.to_bytes(), head.body().as_bytes());
        let bytes = note.to_bytes();
        let (body, _) = note::open(&bytes, std::slice::from_ref(&vkey)).unwrap();
        assert_eq!(TreeHead::parse(body).unwrap(), head);
    }
    let mut bad = key.sign_note("x\ny\n", origin).unwrap().into_bytes();
    bad[0] = b'z';
    assert!(signed_note::Note::from_bytes(&bad).unwrap().verify(&verifiers()).is_err(), "they can refuse");
}
