use std::fs;

use bitproof_core_ledger::files::Files;
use bitproof_core_ledger::store::{Store, STORE_DIR};
use bitproof_training::workflow::WorkflowError;
use serde_json::json;

use crate::args::{Init, Template};
use crate::context::App;
use crate::exit::{Exit, Failure};

/// A file of a template: its path below the project, and its content.
type TemplateFile = (&'static str, &'static [u8]);

const DIGITS: &[TemplateFile] = &[
    ("bitproof.toml", include_bytes!("../../templates/digits/bitproof.toml")),
    ("lenet.toml", include_bytes!("../../templates/digits/lenet.toml")),
    ("data/digits.csv.gz", include_bytes!("../../templates/digits/data/digits.csv.gz")),
    ("README.md", include_bytes!("../../templates/digits/README.md")),
];

const COMMAND: &[TemplateFile] = &[
    ("bitproof.toml", include_bytes!("../../templates/command/bitproof.toml")),
    ("clean.py", include_bytes!("../../templates/command/clean.py")),
    ("describe.py", include_bytes!("../../templates/command/describe.py")),
    ("fit.py", include_bytes!("../../templates/command/fit.py")),
    ("evaluate.py", include_bytes!("../../templates/command/evaluate.py")),
    ("report.py", include_bytes!("../../templates/command/report.py")),
    ("data/rents.csv", include_bytes!("../../templates/command/data/rents.csv")),
    ("README.md", include_bytes!("../../templates/command/README.md")),
];

pub(super) fn execute(app: &App, args: &Init) -> Result<Exit, Failure> {
    let files = match args.template {
        Template::Digits => DIGITS,
        Template::Command => COMMAND,
    };
    if let Some((name, _)) = files.iter().find(|(name, _)| args.dir.join(name).exists()) {
        let path = args.dir.join(name);
        return Err(Failure::usage(format!(
            "{} exists already\n  hint: name another folder",
            path.display()
        )));
    }
    for (name, content) in files {
        let path = args.dir.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .map_err(|e| anyhow::anyhow!("cannot create {}: {e}", folder.display()))?;
        }
        Files::on_disk().write_new(&path, content).map_err(|e| Failure::from(WorkflowError::from(e)))?;
    }
    let (store, _) = Store::open_or_create(&Files::on_disk(), &args.dir.join(STORE_DIR))
        .map_err(|e| Failure::from(WorkflowError::from(e)))?;
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    app.answer(
        || json!({ "schema": "bitproof/init/v1", "dir": args.dir, "files": names, "store": store.root() }),
        || {
            format!(
                "made {} in {}\nnext: bitproof -C {} run\n",
                names.join(", "),
                args.dir.display(),
                args.dir.display()
            )
        },
    )?;
    Ok(Exit::Done)
}
