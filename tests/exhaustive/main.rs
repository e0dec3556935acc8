//! Every change of a small store: each byte flipped, each file cut at each byte, each record removed, repeated and swapped.
//! `verify` finds every one, names the file, and takes no more memory than twice what it takes of the good store.

#![expect(clippy::print_stdout, reason = "exhaustive tests print how many cases they tried")]

mod datasets;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

use bitproof_audit::{verify, Anchors, Scope};
use bitproof_core_ledger::files::Files;
use bitproof_core_ledger::Store;
use bitproof_telemetry::{peak_of_thread, CountingAllocator};
use bitproof_tests::Project;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const LARGEST_STORE: usize = 64 << 10;
const THREADS: usize = 2;
/// Before the first record of a log file, and before each payload: `docs/formats/log-file.md`.
const LOG_HEADER: usize = 32;
const FRAME: usize = 12;

/// One change of one file.
#[derive(Clone)]
enum Change {
    Flip(usize),
    Cut(usize),
    Record(&'static str, usize, Vec<u8>),
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flip(at) => write!(f, "a flip of byte {at}"),
            Self::Cut(len) => write!(f, "a cut after {len} bytes"),
            Self::Record(what, n, _) => write!(f, "record {n} {what}"),
        }
    }
}

impl Change {
    fn apply(&self, good: &[u8]) -> Vec<u8> {
        let mut bytes = good.to_vec();
        match self {
            Self::Flip(at) => bytes[*at] ^= 1 << (at % 8),
            Self::Cut(len) => bytes.truncate(*len),
            Self::Record(.., other) => bytes.clone_from(other),
        }
        bytes
    }
}

/// What `verify` says: the paths of its findings with their places; an error of its own is no pass either.
fn findings(root: &Path) -> Vec<(String, Option<u64>)> {
    let store = match Store::open(&Files::on_disk(), root) {
        Err(error) => return vec![(error.to_string(), Some(0))],
        Ok(store) => store,
    };
    match verify(&store, &Scope::All, &Anchors::default()) {
        Ok(report) => report.findings.into_iter().map(|f| (f.path, f.offset)).collect(),
        Err(error) => vec![(error.to_string(), None)],
    }
}

/// Where the frames of a log file begin, and where the last ends.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let mut at = LOG_HEADER;
    let mut starts = vec![at];
    while at < bytes.len() {
        let len: [u8; 4] = bytes[at..at + 4].try_into().unwrap();
        at += FRAME + u32::from_le_bytes(len) as usize;
        starts.push(at);
    }
    assert_eq!(at, bytes.len());
    starts
}

/// Every record removed, repeated, and swapped with its neighbour.
fn records(bytes: &[u8]) -> Vec<Change> {
    let starts = frames(bytes);
    let frame = |i: usize| &bytes[starts[i]..starts[i + 1]];
    let around =
        |i: usize, j: usize, middle: &[u8]| [&bytes[..starts[i]], middle, &bytes[starts[j]..]].concat();
    let mut changes = Vec::new();
    for i in 0..starts.len() - 1 {
        changes.push(Change::Record("removed", i, around(i, i + 1, &[])));
        changes.push(Change::Record("repeated", i, around(i, i + 1, &[frame(i), frame(i)].concat())));
        if i + 2 < starts.len() {
            changes.push(Change::Record("swapped", i, around(i, i + 2, &[frame(i + 1), frame(i)].concat())));
        }
    }
    changes
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, target).unwrap();
        }
    }
}

/// Whether findings name the file that was changed, or one that cannot be told from it: a damaged `store.toml` makes
/// another origin, and head and events are judged together.
fn name(found: &[(String, Option<u64>)], relative: &str) -> bool {
    found.iter().any(|(path, _)| {
        path.contains(relative)
            || (relative == "store.toml" && path.contains("audit/"))
            || (relative.starts_with("audit/") && path.contains("audit/"))
    })
}

#[test]
fn no_change_of_a_small_store_passes() {
    let project = Project::new();
    project.run(&project.request(&[])).unwrap();
    let files = project.evidence();
    let size: usize = files.iter().map(|path| fs::read(path).unwrap().len()).sum();
    assert!(size <= LARGEST_STORE && files.len() > 25, "{size} bytes in {} files", files.len());
    let mut work: Vec<(PathBuf, Change)> = Vec::new();
    for path in &files {
        let bytes = fs::read(path).unwrap();
        let relative = path.strip_prefix(project.store_root()).unwrap().to_owned();
        let mut changes: Vec<Change> =
            (0..bytes.len()).flat_map(|i| [Change::Flip(i), Change::Cut(i)]).collect();
        if path.extension().is_some_and(|e| e == "log") {
            changes.extend(records(&bytes));
        }
        work.extend(changes.into_iter().map(|change| (relative.clone(), change)));
    }
    let (_, good) = peak_of_thread(|| assert_eq!(findings(&project.store_root()), []));
    let (next, placed, largest) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(0));
    std::thread::scope(|scope| {
        for n in 0..THREADS {
            let own = project.path().join(format!("copy-{n}"));
            copy(&project.store_root(), &own);
            let (next, placed, largest, work) = (&next, &placed, &largest, &work);
            scope.spawn(move || {
                while let Some((relative, change)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let path = own.join(relative);
                    let bytes = fs::read(&path).unwrap();
                    fs::write(&path, change.apply(&bytes)).unwrap();
                    let (found, peak) = peak_of_thread(|| findings(&own));
                    fs::write(&path, bytes).unwrap();
                    let relative = relative.to_str().unwrap();
                    assert!(!found.is_empty(), "{change:?} of {relative} passed");
                    assert!(name(&found, relative), "{change:?} of {relative}: {found:?}");
                    assert!(
                        peak <= 2 * good,
                        "{change:?} of {relative}: {peak} bytes, {good} of the good store"
                    );
                    if let Change::Flip(at) = change {
                        let near = found.iter().any(|(_, offset)| offset.is_some_and(|o| o <= *at as u64));
                        placed.fetch_add(usize::from(near), Ordering::Relaxed);
                    }
                    let mut largest = largest.lock().unwrap();
                    *largest = peak.max(*largest);
                }
                assert_eq!(findings(&own), [], "everything was put back");
            });
        }
    });
    let (placed, largest) = (placed.into_inner(), largest.into_inner().unwrap());
    println!(
        "{} files of {size} bytes: {size} flips ({placed} placed), {size} cuts, {} changes of records: all found; \
         at most {largest} bytes of memory, {good} of the good store",
        files.len(),
        work.len() - 2 * size,
    );
    assert!(placed * 100 >= size * 90, "{placed} of {size} flips were placed at or before the byte");
}
