use std::path::Path;

use bitproof_core_ledger::files::Files;
use bitproof_training::adopt::{adopt, Adopted, Adoption};
use bitproof_training::pipeline;
use bitproof_training::workflow::{self, check_out, prepare_pipeline, RunReport, RunRequest, WorkflowError};

use super::run::{self, paths};
use crate::args::{Effort, Exec, Pipeline};
use crate::context::{self, App};
use crate::exit::{Exit, Failure};

const FILE: &str = "bitproof.toml";
const LOCAL_FILE: &str = "bitproof.local.toml";
const MAX_FILE_BYTES: u64 = pipeline::MAX_FILE_BYTES as u64;

pub(super) fn execute(app: &App, args: &Exec) -> Result<Exit, Failure> {
    let folder = Path::new(".").canonicalize()?;
    let environment = context::variables();
    let asked = Adoption {
        name: args.name.clone(),
        argv: args.command.clone(),
        code: args.code.clone(),
        inputs: args.inputs.iter().cloned().collect(),
        outputs: args.outputs.iter().cloned().collect(),
        metrics: args.metrics.clone(),
        env: args.env.clone(),
        tools: paths(&args.tools).into_iter().map(|(name, path)| (name, folder.join(path))).collect(),
        isolation: args.isolation.clone(),
    };
    let adopted = adopt(&folder, &asked, &environment).map_err(Failure::usage)?;
    let file = folder.join(FILE);
    // What cannot be written is told before anything runs.
    if args.write {
        with_stage(&file, &adopted.draft)?;
        local_text(&folder, &adopted)?;
    }
    let tools = adopted.tools.clone();
    let draft = &adopted.draft;
    // What is named here is meant, whatever else the project calls so.
    let data = args.inputs.iter().map(|(name, path)| (name.clone(), folder.join(path))).collect();
    let arguments =
        Pipeline { pipeline: file.clone(), overrides: vec![], stage: None, data: vec![], tools: vec![] };
    let request = RunRequest {
        data,
        tools,
        read_cache: !args.no_cache,
        ..run::request(app, &arguments, &Effort { workers: None, threads: None })
    };
    let text = draft.pipeline();
    let alone = pipeline::parse("bitproof exec", text.as_bytes()).map_err(WorkflowError::from)?;
    let prepared = prepare_pipeline(&request, alone)?;
    let keys = app.keys()?;
    let around = app.surroundings(app.store_for(&file)?, &keys);
    let report = workflow::run(&around, &prepared, &request)?;
    let store = app.store_at(&report.store)?;
    check_out(&store, &report.run, &folder)?;
    let written = args.write && run::all_done(&report);
    if written {
        let write = |file: &Path, text: &str| {
            Files::on_disk().replace(&folder, file, text.as_bytes()).map_err(WorkflowError::from)
        };
        // Somebody may have changed them since.
        write(&file, &with_stage(&file, draft)?)?;
        if let Some(text) = local_text(&folder, &adopted)? {
            write(&folder.join(LOCAL_FILE), &text)?;
        }
    }
    app.progress.clear();
    app.answer(|| run::to_json(&report), || to_text(app, &report, &draft.name, written))?;
    Ok(run::exit(&report))
}

/// The pipeline file with the stage at its end; a new one where there is none.
fn with_stage(file: &Path, draft: &pipeline::Draft) -> Result<String, Failure> {
    match text_of(file, FILE)? {
        Some(text) => draft.appended_to(FILE, &text).map_err(Failure::usage),
        None => Ok(draft.pipeline()),
    }
}

/// What becomes of the file with this machine's paths; `None` where nothing does.
fn local_text(folder: &Path, adopted: &Adopted) -> Result<Option<String>, Failure> {
    let text = text_of(&folder.join(LOCAL_FILE), LOCAL_FILE)?.unwrap_or_default();
    let local = adopted.local(&text);
    local.map_err(|e| Failure::usage(format!("{LOCAL_FILE}: {e}\n  hint: correct it")))
}

/// The text of a file; `None` where there is none.
fn text_of(file: &Path, name: &str) -> Result<Option<String>, Failure> {
    match Files::on_disk().read_bounded(file, MAX_FILE_BYTES) {
        Ok(bytes) => String::from_utf8(bytes)
            .map(Some)
            .map_err(|_| Failure::usage(format!("{name} is not UTF-8\n  hint: save it as UTF-8"))),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(Failure::usage(e)),
    }
}

fn to_text(app: &App, report: &RunReport, stage: &str, written: bool) -> String {
    let mut text = run::to_text(report, app.paint);
    if written {
        text.push_str(&format!("added stage {stage} to {FILE}: bitproof run --stage {stage}\n"));
    }
    text
}
