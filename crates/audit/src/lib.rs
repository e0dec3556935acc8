//! Judges what is on disk: verification of evidence, replay of whole runs and of single steps, and where two runs part.
//!
//! # Invariants
//! - No byte is trusted that was not hashed, and no store is written to but by [`record()`] and [`gc()`].
//! - Corruption is a finding with a file and an offset, never a panic.
//! - What cannot be shown from the store alone is said ([`VerifyReport::not_provable_here`]).
//!
//! # Where to start
//! [`verify()`] checks a run's evidence and the audit log; [`replay()`] executes a run again, [`replay_steps()`] a part of a
//! training, [`bisect()`] finds where two runs part, and [`compare()`] says what two contents of one output are to each other.
//!
//! ```no_run
//! use bitproof_audit::{verify, Anchors, Scope};
//! use bitproof_core_ledger::files::Files;
//! use bitproof_core_ledger::Store;
//!
//! let store = Store::open(&Files::on_disk(), std::path::Path::new(".bitproof"))?;
//! let report = verify(&store, &Scope::Run("latest".into()), &Anchors::default())?;
//! assert!(report.ok(), "{:?}", report.findings);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod anchors;
mod attestation;
mod divergence;
mod export;
mod gc;
mod prove;
mod reach;
mod record;
mod replay;
mod report;
mod verify;
mod witness;

pub use anchors::{read_head, AnchorError, Anchors, WitnessPolicy};
pub use attestation::model_signing::sign_model;
pub use attestation::{
    Attestation, AttestationError, AttestationKind, Claims, FolderCheck, SignedFile, NOT_COVERED,
};
pub use divergence::{
    compare, compare_folders, ByteDifference, Comparison, Deviation, Difference, Divergence, FileDifference,
    FolderFiles, Number, Place, Side, TensorForm, TextPosition, Within,
};
pub use export::{export, ExportAs, ExportError, ExportReport, ExportRequest, ExportedFile, MODEL_DIR};
pub use gc::{gc, Collect, GcError, GcReport, Unreached};
pub use prove::{prove, prove_growth, ProveError, Since};
pub use record::record;
pub use replay::{
    bisect, replay, replay_steps, stretches, BisectReport, Cause, Factor, OtherValue, Parting, Reexecuted,
    ReplayError, ReplayOf, ReplayOutcome, ReplayReport, ReplayRequest, Sample, SegmentDifference,
    SegmentFault, SegmentParting, StepsReport, StepsWanted, Stretch, Tolerated, TrainingParting,
};
pub use report::{Finding, Scope, Severity, VerifyReport};
pub use verify::{verify, VerifyError};
pub use witness::{Witness, WitnessError};
