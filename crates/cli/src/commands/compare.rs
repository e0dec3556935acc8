use bitproof_experiment_graph::compare;
use bitproof_training::judge::sealed_facts;
use bitproof_training::run_folder::RunIndex;
use serde_json::json;

use crate::args::{Compare, CompareFormat};
use crate::context::App;
use crate::exit::{Exit, Failure};

pub(super) fn execute(app: &App, args: &Compare) -> Result<Exit, Failure> {
    let store = app.store()?;
    let index = RunIndex::read(&store)?;
    let mut facts = Vec::new();
    for selector in &args.runs {
        let row = index.resolve(selector)?;
        facts.push(sealed_facts(&store, row)?);
    }
    let comparison = compare(&facts).map_err(Failure::usage)?;
    app.answer(
        || {
            let mut object = json!(comparison);
            // Those of the first candidate lie at the top as well, where scripts that compare two runs look.
            for field in ["factors", "like_for_like", "confounded", "deltas"] {
                object[field] = object["candidates"][0][field].clone();
            }
            object["schema"] = json!("bitproof/compare/v1");
            object["graph_digest"] = json!(comparison.digest());
            object
        },
        || match args.format {
            CompareFormat::Text => comparison.to_text(),
            CompareFormat::Mermaid => comparison.to_mermaid(),
            CompareFormat::Markdown => comparison.to_markdown(),
        },
    )?;
    Ok(Exit::Done)
}
