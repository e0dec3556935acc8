//! The environment of a command: nothing of ours, and the same on every machine.
//!
//! | variable | value |
//! |---|---|
//! | `PATH` | the folders of its tools, then `/usr/local/bin:/usr/bin:/bin` |
//! | `HOME`, `TMPDIR` | an empty folder of its own |
//! | `TZ`, `LC_ALL`, `LANG` | `UTC`, `C.UTF-8`, `C.UTF-8` |
//! | `SOURCE_DATE_EPOCH` | `315532800`: 1980-01-01, the first day that a ZIP archive can hold |
//! | `PYTHONHASHSEED`, `PYTHONDONTWRITEBYTECODE`, `PYTHONNOUSERSITE` | `0`, `1`, `1` |
//! | `BITPROOF_SEED`, `BITPROOF_TASK` | the run's seed, the task's name |
//! | `OMP_NUM_THREADS`, and those of MKL, OpenBLAS, numexpr and rayon | how many threads it is to compute with |
//! | `VIRTUAL_ENV` | the first of its tools that is a virtual environment of Python |
//!
//! A declared variable that was set replaces what stands here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use super::tools::Toolbox;
use super::Job;

const FIXED: [(&str, &str); 7] = [
    ("TZ", "UTC"),
    ("LC_ALL", "C.UTF-8"),
    ("LANG", "C.UTF-8"),
    ("SOURCE_DATE_EPOCH", "315532800"),
    ("PYTHONHASHSEED", "0"),
    ("PYTHONDONTWRITEBYTECODE", "1"),
    ("PYTHONNOUSERSITE", "1"),
];

const THREADS: [&str; 5] = [
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
];

/// Every variable of the job's command, whose own folder for temporary files is `tmp` as it sees it.
pub(super) fn of(job: &Job<'_>, toolbox: &Toolbox, tmp: &Path) -> BTreeMap<String, OsString> {
    let mut variables: BTreeMap<String, OsString> =
        FIXED.map(|(name, value)| (name.to_owned(), value.into())).into();
    let mut set = |name: &str, value: OsString| drop(variables.insert(name.to_owned(), value));
    set("PATH", toolbox.search_path());
    set("HOME", tmp.into());
    set("TMPDIR", tmp.into());
    set("BITPROOF_SEED", job.seed.to_string().into());
    set("BITPROOF_TASK", job.task.into());
    THREADS.iter().for_each(|name| set(name, job.spec.threads.to_string().into()));
    if let Some(venv) = toolbox.venv() {
        set("VIRTUAL_ENV", venv.into());
    }
    for (name, value) in &job.spec.env {
        if let Some(value) = value {
            set(name, value.into());
        }
    }
    variables
}
