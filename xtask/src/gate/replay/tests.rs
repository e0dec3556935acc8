//! The gate is tried on a small shell script in place of the binary, honest or broken in one way.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::*;
use tempfile::TempDir;

/// Its traces depend on the pipeline and the settings alone. `BREAK` is replaced by one lie.
const HONEST: &str = r#"#!/bin/sh
set -eu
verb=$1
settings= workers=1
while [ $# -gt 0 ]; do
    case $1 in
        --store) store=$2; shift ;;
        --set) settings="$settings $2"; shift ;;
        --workers) workers=$2; shift ;;
    esac
    shift
done
trace=$(printf '%s' "$settings" | cksum | tr -d ' ')
replayed=x
exit_on_damage=1
BREAK
folder=$store/runs/it-1
case $verb in
    run)
        mkdir -p "$folder/artifacts/package"
        printf '%s' "$trace" | tee "$folder/manifest.json" > "$folder/artifacts/package/model.safetensors"
        printf 'ledger' > "$folder/ledger.log"
        printf '{"run":"it-1","plan_digest":"p%s","ledger_root":"l%s","result_root":"r%s"' "$trace" "$trace" "$trace"
        printf ',"tasks":{"failed":0,"skipped":0},"metrics":{"accuracy":0.5}}\n' ;;
    replay)
        printf '{"outcome":"identical","ledger_root_recorded":"x","ledger_root_replayed":"%s"}\n' "$replayed" ;;
    verify)
        if [ "$(cat "$folder/ledger.log")" = ledger ]; then
            printf '{"ok":true,"findings":[]}\n'
        else
            printf '{"ok":false,"findings":["ledger.log"]}\n'
            exit $exit_on_damage
        fi ;;
esac
"#;

/// A process that another test starts while a script is being written holds the script open for writing, and then it
/// cannot be executed.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

struct Stand {
    folder: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Stand {
    fn new() -> Stand {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("example/data")).unwrap();
        fs::write(folder.path().join("example/bitproof.toml"), "").unwrap();
        fs::write(folder.path().join("example/data/file"), "1").unwrap();
        Stand { folder, _alone: alone }
    }

    fn binary(&self, name: &str, lie: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, HONEST.replace("BREAK", lie)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// The names of the checks that fail when the release build tells this lie.
    fn failures(&self, lie: &str) -> Vec<String> {
        let binaries = Binaries { release: self.binary("release", lie), debug: self.binary("debug", "") };
        let checks = check(&binaries, &self.folder.path().join("example")).unwrap();
        checks.into_iter().filter(|check| check.outcome == Outcome::Fail).map(|check| check.name).collect()
    }
}

#[test]
fn an_honest_binary_passes() {
    let none: [&str; 0] = [];
    assert_eq!(Stand::new().failures(""), none);
}

#[test]
fn each_lie_fails_its_check() {
    let stand = Stand::new();
    let cases = [
        ("if [ $workers = 8 ]; then trace=8; fi", "8 workers, against 1 worker"),
        ("if [ -n \"${TZ:-}\" ]; then trace=$TZ; fi", "other folder, user, TZ, LANG, HOME, against 1 worker"),
        (
            "if [ \"${BITPROOF_ISA:-}\" = scalar ]; then trace=s; fi",
            "BITPROOF_ISA=scalar, against the default",
        ),
        ("settings=${settings%learning_rate*}; trace=$settings", "debug build, against release"),
        ("case $settings in *epochs*) trace=s ;; esac", "control: another learning rate"),
        ("replayed=y", "replay latest"),
        ("if [ $verb = verify ]; then printf '{\"ok\":false}'; exit 1; fi", "verify latest"),
        (
            "if [ $verb = verify ]; then printf '{\"ok\":false}'; exit 1; fi",
            "control: one bit of the ledger is changed",
        ),
        ("exit_on_damage=0", "control: one bit of the ledger is changed"),
    ];
    for (lie, check) in cases {
        let failures = stand.failures(lie);
        assert!(failures.iter().any(|name| name == check), "{lie}: {failures:?}");
    }
}

#[test]
fn a_run_that_fails_fails_the_gate() {
    let stand = Stand::new();
    let cases = [
        ("exit 1", "1 worker"),
        ("if [ $verb = run ]; then echo nonsense; exit 0; fi", "1 worker"),
        ("kill -9 $$", "1 worker"),
        ("if [ $workers = 8 ]; then exit 2; fi", "8 workers, against 1 worker"),
        ("case $settings in *epochs*) exit 1 ;; esac", "a short training"),
        ("case $settings in *rate*) exit 1 ;; esac", "control: another learning rate"),
    ];
    for (lie, check) in cases {
        assert_eq!(stand.failures(lie), [check], "{lie}");
    }
}

#[test]
fn a_machine_that_cannot_run_it_gives_no_verdict() {
    let stand = Stand::new();
    for lie in ["exit 3", "if [ $workers = 8 ]; then exit 3; fi"] {
        let binaries = Binaries { release: stand.binary("release", lie), debug: stand.binary("debug", "") };
        assert!(check(&binaries, &stand.folder.path().join("example")).is_err(), "{lie}");
    }
}

#[test]
fn every_trace_is_compared() {
    let traces = Traces {
        plan_digest: "p".to_owned(),
        ledger_root: "l".to_owned(),
        result_root: "r".to_owned(),
        metrics: serde_json::json!({ "accuracy": 0.5 }),
        manifest: vec![1],
        model: vec![2],
    };
    assert!(equal(String::new(), &traces, &Ok(traces.clone())).outcome == Outcome::Pass);
    assert!(unequal(String::new(), &traces, &Ok(traces.clone())).outcome == Outcome::Fail);
    let other = |change: fn(&mut Traces)| {
        let mut other = traces.clone();
        change(&mut other);
        assert!(equal(String::new(), &traces, &Ok(other.clone())).outcome == Outcome::Fail);
        traces.differences(&other)
    };
    assert_eq!(other(|t| t.plan_digest.push('x')), ["plan digest"]);
    assert_eq!(other(|t| t.ledger_root.push('x')), ["ledger root"]);
    assert_eq!(other(|t| t.result_root.push('x')), ["result root"]);
    assert_eq!(other(|t| t.metrics = serde_json::json!({ "accuracy": 0.5000000000000001 })), ["metrics"]);
    assert_eq!(other(|t| t.manifest.push(0)), ["manifest.json"]);
    assert_eq!(other(|t| t.model[0] ^= 1), ["model.safetensors"]);
}

#[test]
fn processors() {
    assert_eq!(first_processor("Name: x\nCpus_allowed_list:\t4-7,9\n"), "4");
    assert_eq!(first_processor("Cpus_allowed_list:\t2,3\n"), "2");
}
