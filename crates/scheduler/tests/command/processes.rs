//! How a command ends, and that nothing of it goes on.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use bitproof_scheduler::command::{Cause, Exit, Isolation, KEPT_BYTES};
use bitproof_scheduler::dispatch::TaskError;
use bitproof_scheduler::ledger::Failure;

use crate::stage::{available, every_tier, Stage};

/// Only a failing test waits so long.
const FOREVER: Duration = Duration::from_secs(60);

/// A pipe with a name: whoever holds its other end open is alive.
struct Alive {
    path: PathBuf,
    closed: mpsc::Receiver<String>,
}

impl Alive {
    fn new(folder: &Path, name: &str) -> Self {
        let path = folder.join(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        let (sender, closed) = mpsc::channel();
        let reader = path.clone();
        std::thread::spawn(move || {
            let mut text = String::new();
            File::open(reader).unwrap().read_to_string(&mut text).unwrap();
            sender.send(text)
        });
        Self { path, closed }
    }

    /// What was written to it, when nobody holds it any more.
    fn wait(self) -> String {
        self.closed.recv_timeout(FOREVER).expect("something that holds the pipe is still alive")
    }
}

#[test]
fn codes_and_signals_are_its_own_or_not() {
    for tier in every_tier() {
        let stage = |script: &str| Stage::sh(script).isolated(tier);
        for code in [1, 2, 3, 127, 255] {
            let (how, message) = stage(&format!("echo why >&2; exit {code}")).failure();
            assert_eq!(how, Failure::Exited(code), "{tier}");
            let said =
                format!("sh ended with exit code {code}\n  | why\n  hint: more of what it printed is in ");
            assert!(message.starts_with(&said), "{tier}: {message}");
        }
        let own = [("ABRT", 6), ("BUS", 7), ("FPE", 8), ("ILL", 4), ("SEGV", 11)];
        for (name, number) in own {
            let (how, message) = stage(&format!("kill -{name} $$")).failure();
            assert_eq!(how, Failure::Signalled(number), "{tier}: {message}");
            assert!(message.starts_with(&format!("sh ended by SIG{name}; it printed nothing")), "{message}");
        }
        for name in ["KILL", "TERM"] {
            let message = stage(&format!("kill -{name} $$")).fault();
            assert!(
                message.starts_with(&format!("sh was ended by SIG{name} from outside")),
                "{tier}: {message}"
            );
        }
    }
}

#[test]
fn the_dispatcher_learns_which_failure_is_recorded() {
    let error = |script: &str| TaskError::from(Stage::sh(script).run().unwrap_err());
    assert!(matches!(error("exit 3"), TaskError::Failed { how: Failure::Exited(3), .. }));
    assert!(matches!(error("kill -9 $$"), TaskError::Infrastructure { .. }));
}

#[test]
fn a_first_line_that_names_no_interpreter_is_a_fault() {
    for tier in every_tier() {
        let message = Stage::new(&["./run.sh"]).isolated(tier).code("run.sh", "#!/no/such\n").fault();
        assert!(message.contains("cannot be") && message.contains("o such file"), "{tier}: {message}");
    }
}

#[test]
fn a_daemon_does_not_outlive_its_stage() {
    {
        let stage = Stage::sh("true");
        let alive = Alive::new(stage.dir.path(), "alive");
        let daemon =
            "setsid sh -c '(trap \"\" TERM HUP INT; echo daemon; sleep 1000; echo late) & exec sleep 1000' &";
        let script = format!("exec 9>{}; ({daemon}) >&9 2>&9; echo main >&9", alive.path.display());
        let stage = Stage { spec: Stage::sh(&script).spec, ..stage };
        let observed = stage.run().unwrap().observed;
        assert_eq!(observed.exit, Exit::Code(0));
        assert!(alive.wait().contains("main"));
    }
    for tier in every_tier() {
        // Whoever reads what it prints would wait for the daemon.
        let stage = Stage::sh("(setsid sh -c 'sleep 1000 & sleep 1000' &); echo done").isolated(tier);
        assert_eq!(stage.run().unwrap().observed.stdout.head(), b"done\n", "{tier}");
    }
}

#[test]
fn a_timeout_ends_what_ignores_it() {
    for tier in every_tier() {
        let mut stage =
            Stage::sh("trap '' TERM HUP INT; echo began; while true; do sleep 1000; done").isolated(tier);
        stage.spec.timeout_ns = Some(300_000_000);
        let error = stage.run().unwrap_err();
        assert!(matches!(error.cause, Cause::TimedOut { .. }), "{tier}: {error}");
        assert_eq!(error.failure(), None);
        // Bubblewrap heeds the first signal, and everything in it ends.
        let signal = if tier == Isolation::Strict { 15 } else { 9 };
        assert_eq!(error.observed.as_ref().unwrap().exit, Exit::Signal(signal), "{tier}");
        assert!(
            error.to_string().starts_with("sh was stopped after its timeout of 300ms\n  hint: "),
            "{error}"
        );
    }
}

#[test]
fn what_is_told_to_end_may_clean_up() {
    for tier in available(&[Isolation::None, Isolation::Landlock]) {
        let mut stage =
            Stage::sh("trap 'echo cleaned; exit 0' TERM; while true; do sleep 0.01; done").isolated(tier);
        stage.spec.timeout_ns = Some(300_000_000);
        let observed = stage.run().unwrap_err().observed.unwrap();
        assert_eq!((observed.stdout.head(), observed.exit), (&b"cleaned\n"[..], Exit::Code(0)), "{tier}");
    }
}

#[test]
fn a_cancel_stops_it_before_or_while_it_runs() {
    for tier in every_tier() {
        let stage = Stage::sh("sleep 1000").isolated(tier);
        stage.cancel.cancel();
        assert!(matches!(stage.run().unwrap_err().cause, Cause::Cancelled { .. }), "{tier}");
    }
    let stage = Stage::sh("true");
    let alive = Alive::new(stage.dir.path(), "alive");
    let script = format!("exec 9>{}; (setsid sleep 1000 &); sleep 1000", alive.path.display());
    let stage = Stage { spec: Stage::sh(&script).spec, ..stage };
    let cancel = stage.cancel.clone();
    let pipe = alive.path.clone();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| stage.run().unwrap_err());
        // It has begun when it has opened the pipe; so does this thread, and closes it.
        drop(File::options().write(true).open(pipe));
        cancel.cancel();
        assert!(matches!(running.join().unwrap().cause, Cause::Cancelled { .. }));
    });
    alive.wait();
}

fn prints(mebibytes: usize) {
    for tier in every_tier() {
        let script = format!("echo first; head -c {}M /dev/zero; echo last; echo aside >&2", mebibytes);
        let observed = Stage::sh(&script).isolated(tier).run().unwrap().observed;
        assert!(observed.stdout.head().starts_with(b"first\n\0"));
        assert!(observed.stdout.tail().ends_with(b"\0last\n"));
        assert_eq!((observed.stdout.head().len(), observed.stdout.tail().len()), (KEPT_BYTES, KEPT_BYTES));
        let printed = mebibytes * (1 << 20) + "first\nlast\n".len();
        assert_eq!(observed.stdout.dropped(), (printed - 2 * KEPT_BYTES) as u64);
        assert_eq!(observed.stderr.head(), b"aside\n");
    }
}

#[test]
fn much_output_is_cut_in_the_middle() {
    prints(64);
}

#[test]
#[ignore = "a few seconds: cargo test -p bitproof-scheduler --test command -- --ignored a_gibibyte"]
fn a_gibibyte_of_output_is_cut_in_the_middle() {
    prints(1024);
}

#[test]
fn a_parent_that_is_killed_leaves_nothing_running() {
    let dir = tempfile::tempdir().unwrap();
    let (alive, began) = (Alive::new(dir.path(), "alive"), Alive::new(dir.path(), "began"));
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::a_parent_to_be_killed", "--ignored"])
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(began.wait(), "daemon");
    parent.kill().unwrap();
    parent.wait().unwrap();
    alive.wait();
}

#[test]
#[ignore = "started by another: cargo test -p bitproof-scheduler --test command a_parent_that_is_killed"]
fn a_parent_to_be_killed() {
    let here = fs::canonicalize(".").unwrap();
    let script = format!(
        "exec 9>{0}/alive; (setsid sh -c 'trap \"\" TERM HUP; printf daemon > {0}/began; sleep 1000' &); sleep 1000",
        here.display()
    );
    let _ = Stage::sh(&script).run();
}
