//! Proofs about the audit log for somebody who does not have the store.

use bitproof_core_ledger::events::{AuditView, EventBody};
use bitproof_core_ledger::growth_proof::GrowthProof;
use bitproof_core_ledger::note::TreeHead;
use bitproof_core_ledger::tlog_proof::TlogProof;
use bitproof_training::run_folder::{RunError, RunIndex};

const MIN_ID_PREFIX: usize = 8;

/// Something that cannot be proved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// No run, event or finding answers to it.
    #[error("no run, event or finding {selector:?} in the audit log: {source}")]
    Unknown {
        /// What was asked for.
        selector: String,
        /// What was said of it as a run.
        source: Box<RunError>,
    },
    /// More than one event answers to it.
    #[error("{selector:?} is the beginning of more than one event's id")]
    Ambiguous {
        /// What was asked for.
        selector: String,
    },
    /// The run has no leaf that seals it.
    #[error("run {run} is incomplete: there is nothing to prove of it yet")]
    Incomplete {
        /// The run.
        run: String,
    },
    /// The store has signed nothing yet.
    #[error("the audit log has no signed head yet")]
    NoHead,
    /// There is no proof from that size.
    #[error("there is nothing to show from {old} to {new} leaves")]
    Sizes {
        /// The older size.
        old: u64,
        /// The log's size.
        new: u64,
    },
    /// The head that was given is not of this log.
    #[error("the log does not have the root of the head of {size} leaves that was given: one of the two was rewritten")]
    Fork {
        /// The size of the head that was given.
        size: u64,
    },
}

/// Proves that the log has the leaf that seals a run, the leaf of an event (by the beginning of its id), or the leaf of a
/// finding (by the object that holds the verdict).
///
/// # Errors
/// [`ProveError`].
pub fn prove(view: &AuditView, selector: &str) -> Result<TlogProof, ProveError> {
    let (Some(head), Some(note)) = (&view.head, &view.note) else { return Err(ProveError::NoHead) };
    let index = find(view, selector)?;
    let leaf = view.covered()[index as usize].bytes();
    let hashes = view.tree().inclusion_proof(index, head.size).expect("a covered leaf is in the tree");
    Ok(TlogProof { leaf, index, hashes, head: note.clone() })
}

fn find(view: &AuditView, selector: &str) -> Result<u64, ProveError> {
    let unknown = match RunIndex::new(view).resolve(selector) {
        Ok(row) => {
            let incomplete = || ProveError::Incomplete { run: row.run.clone() };
            return row.seal.as_ref().map(|seal| seal.leaf).ok_or_else(incomplete);
        }
        Err(source) => ProveError::Unknown { selector: selector.to_owned(), source: Box::new(source) },
    };
    if selector.len() < MIN_ID_PREFIX {
        return Err(unknown);
    }
    let answers = |body: &EventBody| {
        body.object().is_some_and(|object| object.to_string().starts_with(selector))
            || body.id().to_string().starts_with(selector)
    };
    let mut found =
        view.events().enumerate().filter(|(_, body)| answers(body)).map(|(index, _)| index as u64);
    match (found.next(), found.next()) {
        (Some(index), None) => Ok(index),
        (Some(_), Some(_)) => Err(ProveError::Ambiguous { selector: selector.to_owned() }),
        (None, _) => Err(unknown),
    }
}

/// Where a proof of growth begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// At a size.
    Size(u64),
    /// At a head that somebody kept.
    Head(TreeHead),
}

/// Proves that the log has only grown. From size 0 there is nothing to show but the head itself.
///
/// # Errors
/// [`ProveError`].
pub fn prove_growth(view: &AuditView, since: &Since) -> Result<GrowthProof, ProveError> {
    let (Some(head), Some(note)) = (&view.head, &view.note) else { return Err(ProveError::NoHead) };
    let old = match since {
        Since::Size(size) => *size,
        Since::Head(known) if view.root_at(known.size).is_some_and(|root| root != known.root) => {
            return Err(ProveError::Fork { size: known.size })
        }
        Since::Head(known) => known.size,
    };
    let hashes = match old {
        0 => Vec::new(),
        _ => {
            view.tree().consistency_proof(old, head.size).ok_or(ProveError::Sizes { old, new: head.size })?
        }
    };
    Ok(GrowthProof { old, hashes, head: note.clone() })
}
