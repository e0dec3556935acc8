//! The governance of a run: which control stands before and after which task, and what each of them said.
//!
//! The pipeline names the controls that it demands; the plan binds them ([`Policy`]). From the plan alone follows where each
//! of them stands ([`compile`]). [`Governance`] judges them, and [`GovernanceView`] is what it left on disk: a chain beside the
//! ledger. What people, clocks and hosts say enters only there: the ledger stays a function of the plan.
//! `docs/formats/governance.md` is normative.

use std::fmt;

use bincode::{Decode, Encode};
use bitproof_core_ledger::chain::Chain;
use bitproof_core_ledger::digest::{Digest, GovernanceKind};
use bitproof_scheduler::{Plan, PlanDigest};

mod controls;
mod ledger;
mod plan;

pub use controls::{
    signed_artifacts, ArtifactSeen, Ended, Evidence, Governance, InputEvidence, SignedArtifact, VerdictSeen,
};
pub use ledger::{governance_root, Entry, GovernanceError, GovernanceView, Outcome};
pub use plan::{compile, ControlPoint, Policy};

/// The name under which a plan binds the controls that it demands.
pub const GOVERNANCE: &str = "governance";

/// A condition that a run must meet. The order is that of the plan where several stand at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Control {
    /// Before every task that takes a data input: each has a pin.
    InputsPinned,
    /// Before the first task: the work tree that holds the pipeline is as it was committed.
    CleanSource,
    /// After every package: what is handed out is signed, over the bytes that the ledger names.
    ArtifactsSigned,
    /// After the last task: no budget failed.
    Budgets,
    /// After the last task: no gate failed.
    Gates,
}

impl Control {
    /// Every control by its name in the pipeline file.
    pub const ALL: [(&'static str, Self); 5] = [
        ("inputs-pinned", Self::InputsPinned),
        ("clean-source", Self::CleanSource),
        ("artifacts-signed", Self::ArtifactsSigned),
        ("budgets", Self::Budgets),
        ("gates", Self::Gates),
    ];

    /// Its name in the pipeline file.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }

    /// The side of a task on which it stands.
    pub fn position(self) -> Position {
        match self {
            Self::InputsPinned | Self::CleanSource => Position::Before,
            Self::ArtifactsSigned | Self::Budgets | Self::Gates => Position::After,
        }
    }

    /// The evidence that it needs, in words.
    pub fn needs(self) -> &'static str {
        match self {
            Self::InputsPinned => "pin and digest of each data input",
            Self::CleanSource => "commit and state of the work tree",
            Self::ArtifactsSigned => "signature and digest of each artifact",
            Self::Budgets => "verdict of each budget",
            Self::Gates => "verdict of each gate",
        }
    }

    /// What to do when it failed.
    pub fn hint(self) -> &'static str {
        match self {
            Self::InputsPinned => {
                "write the digest as blake3 of the [data] table, if it is the file that is meant"
            }
            Self::CleanSource => "commit or put aside what was changed, and run from a git work tree",
            Self::ArtifactsSigned => "look at it with bitproof verify, and run the pipeline again",
            Self::Budgets => "see the budgets of the run: make the stage cheaper, or raise the limit",
            Self::Gates => "see the gates of the run",
        }
    }
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// On which side of a task a control stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Position {
    /// It is judged before anything of the plan is dispatched; where it fails, nothing more is executed.
    Before,
    /// It is judged when the execution has ended.
    After,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before",
            Self::After => "after",
        })
    }
}

#[derive(Encode)]
struct Binding {
    plan: PlanDigest,
    uid: [u8; 16],
}

/// The empty chain of a run. It fits no other plan, no other run, and no ledger.
pub fn chain(plan: &Plan, uid: &[u8; 16]) -> Chain {
    Chain::bound_to(Digest::<GovernanceKind>::of(&Binding { plan: plan.digest(), uid: *uid }).as_bytes())
}
