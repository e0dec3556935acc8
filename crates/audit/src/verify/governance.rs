//! What the controls of a run said: the chain, that none is missing, and that each says what its evidence gives.

use std::path::Path;

use bitproof_core_ledger::events::VerdictKind;
use bitproof_core_ledger::limits::CANON_BYTES;
use bitproof_core_ledger::note::NoteKey;
use bitproof_core_ledger::storage::EntryKind;
use bitproof_scheduler::ledger::LedgerView;
use bitproof_training::governance::{
    compile, signed_artifacts, Control, Ended, Entry, Evidence, Governance, GovernanceView, VerdictSeen,
};
use bitproof_training::run_folder::{RunError, RunFolder, RunRow, EVIDENCE, GOVERNANCE_LEDGER};

use super::Verifier;
use crate::reach::object_path;

/// What a governance ledger says of the run as a whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Controls {
    /// Whether a control before a task failed: then entries of the ledger may lack.
    pub(super) refused: bool,
    /// Whether no control failed.
    pub(super) passed: bool,
}

impl Verifier<'_> {
    /// Checks the governance ledger of a run; `None` where it cannot be read, which is found.
    pub(super) fn governance(
        &mut self,
        folder: &RunFolder,
        row: &RunRow,
        ledger: &LedgerView,
        keys: &[NoteKey],
    ) -> Option<Controls> {
        let path = self.relative(&folder.path(GOVERNANCE_LEDGER));
        let view = match folder.governance() {
            Ok(Some(view)) => view,
            Ok(None) => {
                if self.store.files().exists(&folder.path(GOVERNANCE_LEDGER)) {
                    let expected = "no governance ledger, since the plan demands no control".to_owned();
                    self.find("governance-complete", &path, None, expected, "a file".to_owned());
                }
                return Some(Controls { refused: false, passed: true });
            }
            Err(error) => {
                let offset = match &error {
                    RunError::Governance(error) => error.offset(),
                    _ => None,
                };
                let expected = "the chain of what the plan's controls said".to_owned();
                self.find("governance-chain", &path, offset, expected, error.to_string());
                return None;
            }
        };
        let points = compile(&folder.plan).map_or(0, |points| points.len());
        if view.entries.len() != points || view.torn_bytes > 0 {
            let got = format!("{} entries with {} bytes after the last", view.entries.len(), view.torn_bytes);
            self.find("governance-complete", &path, None, format!("{points} entries"), got);
        }
        for (entry, &offset) in view.entries.iter().zip(&view.offsets) {
            self.control_evidence(entry, &path, offset);
        }
        match self.governance_again(folder, row, ledger, keys) {
            Ok(again) => self.hold_against(&view, again.entries(), &path),
            Err(RunError::Governance(error)) => {
                let expected = "governance that this version judges".to_owned();
                self.find("governance-chain", &path, error.offset(), expected, error.to_string());
            }
            Err(error) => {
                let evidence = self.relative(&folder.path(EVIDENCE));
                let expected = "the evidence of the run".to_owned();
                self.find("evidence", &evidence, None, expected, error.to_string());
            }
        }
        Some(Controls { refused: view.refused(), passed: view.passed() })
    }

    /// Every control judged again by what the store holds: the plan, the evidence of the machine, signatures, and the verdicts
    /// that the log names.
    fn governance_again(
        &self,
        folder: &RunFolder,
        row: &RunRow,
        ledger: &LedgerView,
        keys: &[NoteKey],
    ) -> Result<Governance, RunError> {
        let asks_git = compile(&folder.plan)?.iter().any(|point| point.control == Control::CleanSource);
        let git = if asks_git { folder.evidence()?.git } else { None };
        let mut governance = Governance::before(&folder.plan, git.as_ref())?;
        let seen = |kind: VerdictKind| -> Vec<VerdictSeen> {
            let mut own: Vec<_> = row.own_verdicts().filter(|v| v.kind == kind).collect();
            own.sort_by_key(|v| v.policy);
            let seen = own.into_iter().map(|v| VerdictSeen {
                metric: v.metric.clone(),
                outcome: v.outcome.clone(),
                verdict: v.verdict,
            });
            seen.collect()
        };
        governance.after(
            &folder.plan,
            Ended {
                entries: &ledger.entries,
                artifacts: &signed_artifacts(self.store, folder, &ledger.entries, keys),
                budgets: &seen(VerdictKind::Budget),
                gates: &seen(VerdictKind::Gate),
            },
        )?;
        Ok(governance)
    }

    fn hold_against(&mut self, view: &GovernanceView, again: &[Entry], path: &str) {
        let told = |entry: &Entry| {
            let evidence = entry.evidence.map_or("none".to_owned(), |id| id.to_string());
            format!("{} with the evidence {evidence}", entry.outcome.name())
        };
        for ((recorded, again), &offset) in view.entries.iter().zip(again).zip(&view.offsets) {
            if !recorded.agrees_with(again) {
                let expected =
                    format!("{} {} {}: {}", again.control, again.position, again.task, told(again));
                self.find("governance-outcome", path, Some(offset), expected, told(recorded));
            }
        }
    }

    /// The evidence that an entry names must be there, whole, and evidence.
    fn control_evidence(&mut self, entry: &Entry, path: &str, offset: u64) {
        let Some(id) = &entry.evidence else { return };
        let at = self.objects.path(id);
        if self.too_long(&at) {
            // What is far too long for evidence is hashed, but not read into memory.
            self.hash_object(id);
        } else {
            match self.object(id).map(|bytes| Evidence::decode(&bytes)) {
                None | Some(Ok(Some(_))) => return,
                Some(Ok(None) | Err(_)) => {}
            }
        }
        let expected = format!("evidence of the control {} at byte {offset} of {path}", entry.control);
        self.find("governance-evidence", &object_path(id), None, expected, "another object".to_owned());
    }

    fn too_long(&self, path: &Path) -> bool {
        let entry = self.store.files().entry(path);
        matches!(entry, Ok(Some(EntryKind::File(bytes))) if bytes > CANON_BYTES as u64)
    }
}
