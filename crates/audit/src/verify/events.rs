//! What events say by themselves: each once, about keys that hold, reports and statements that are what their leaves say.

use std::collections::BTreeSet;

use bitproof_core_ledger::events::{AuditView, EventBody};
use bitproof_core_ledger::keyring::Keyring;
use bitproof_core_ledger::note::NoteKey;
use bitproof_core_ledger::statement::Statement;
use bitproof_core_ledger::store::hex;

use super::Verifier;
use crate::reach::object_path;

impl Verifier<'_> {
    /// An event is appended once, a run is planned once and sealed once.
    pub(super) fn repeated_events(&mut self, audit: &AuditView) {
        let mut seen = BTreeSet::new();
        for leaf in audit.covered() {
            let said = match &leaf.event.body {
                EventBody::RunPlanned { uid, .. } | EventBody::RunSealed { uid, .. } => {
                    format!("{} {}", leaf.event.body.name(), hex(uid))
                }
                _ => leaf.event.id.to_string(),
            };
            if !seen.insert(said.clone()) {
                let expected = "each event once".to_owned();
                self.find("once", "audit/events.log", Some(leaf.offset), expected, format!("{said} again"));
            }
        }
    }

    /// The reports of earlier verifications: each is held against its leaf.
    pub(super) fn recorded_reports(&mut self, audit: &AuditView) {
        for event in audit.events() {
            let EventBody::VerificationRecorded { ok, tree_size, report } = event else { continue };
            let Some(bytes) = self.object(report) else { continue };
            let parsed: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
            let said = parsed.map(|report| (report["ok"].as_bool(), report["tree_size"].as_u64()));
            if said != Some((Some(*ok), Some(*tree_size))) {
                let expected = format!("a report with ok {ok} and tree_size {tree_size}, as its leaf says");
                self.find("report", &object_path(report), None, expected, "another".to_owned());
            }
        }
    }

    /// Events about keys that change nothing, because they do not hold.
    pub(super) fn rejected_keys(&mut self, audit: &AuditView, keyring: &Keyring) {
        for (index, why) in keyring.rejected() {
            let offset = audit.leaves.get(*index as usize).map(|leaf| leaf.offset);
            let expected = "an event about a key that holds".to_owned();
            self.find("keys", "audit/events.log", offset, expected, (*why).to_owned());
        }
    }

    /// Approvals, waivers and promotions: the key that the leaf names signed what the leaf says, about a run that the log holds.
    ///
    /// Whether that key may say so is for the governance plan; here it is held to its words.
    pub(super) fn statements(&mut self, audit: &AuditView) {
        for leaf in audit.covered() {
            let (uid, vkey, object) = match &leaf.event.body {
                EventBody::ApprovalRecorded { uid, vkey, statement, .. }
                | EventBody::WaiverRecorded { uid, vkey, statement, .. }
                | EventBody::RunPromoted { uid, vkey, statement, .. } => (uid, vkey, statement),
                _ => continue,
            };
            if !self.rows.iter().any(|row| row.uid == *uid) {
                let (expected, got) = ("a run that was planned".to_owned(), hex(uid));
                self.find("statement", "audit/events.log", Some(leaf.offset), expected, got);
            }
            let Some(bytes) = self.object(object) else { continue };
            let said = match vkey.parse::<NoteKey>() {
                Ok(key) => Statement::open(&bytes, &key)
                    .map(|statement| statement.event(&key, *object))
                    .map_err(|e| e.to_string()),
                Err(e) => Err(e.to_string()),
            };
            let got = match said {
                Ok(event) if event == leaf.event.body => continue,
                Ok(event) => format!("a statement for the event {}", event.name()),
                Err(error) => error,
            };
            let expected = format!("what the leaf at byte {} says, signed by {vkey}", leaf.offset);
            self.find("statement", &object_path(object), None, expected, got);
        }
    }
}
