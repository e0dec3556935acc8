use bitproof_core_ledger::events::EventBody;
use bitproof_core_ledger::objects::ObjectId;
use bitproof_training::recorder::Recorder;
use bitproof_training::workflow::WorkflowError;

use crate::report::VerifyReport;

/// Keeps a verification's report as an object and records it under a signed head.
///
/// # Errors
/// [`WorkflowError`]; then nothing is acknowledged.
pub fn record(recorder: &Recorder<'_>, report: &VerifyReport) -> Result<ObjectId, WorkflowError> {
    let mut text = format!("{:#}", report.to_json());
    text.push('\n');
    let object = recorder.store.objects().put(text.as_bytes())?;
    let event =
        EventBody::VerificationRecorded { ok: report.ok(), tree_size: report.tree_size, report: object };
    recorder.record(&[event])?;
    Ok(object)
}
