//! What each tier keeps from a command, and what the tier below does not.

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;

use bitproof_scheduler::command::{reach, Isolation, Reached, Tool};
use bitproof_scheduler::ledger::Failure;

use crate::stage::{available, every_tier, Stage};

const CONFINED: [Isolation; 2] = [Isolation::Landlock, Isolation::Strict];

#[test]
fn an_undeclared_file_cannot_be_read() {
    let stage = |tier| {
        let stage = Stage::sh("true").isolated(tier).output("x", "x");
        let secret = stage.write("secret", "secret");
        let mut stage = stage;
        stage.spec.argv[2] = format!("cat {} > x", secret.display());
        stage
    };
    assert_eq!(stage(Isolation::None).text(), "secret", "without isolation it can");
    for tier in available(&CONFINED) {
        let (how, message) = stage(tier).failure();
        assert_eq!(how, Failure::Exited(1), "{message}");
        assert!(message.contains("secret: ") && message.contains("  hint: it "), "{tier}: {message}");
        assert!(message.contains("add the file to code or inputs"), "{message}");
    }
}

#[test]
fn no_way_around_leads_to_an_undeclared_file() {
    for tier in available(&CONFINED) {
        let scripts = [
            "cat /proc/self/root$SECRET",
            "cat /proc/$PPID/root$SECRET",
            // In a sandbox the first process is its own.
            "[ $PWD != /bitproof ] && cat /proc/1/environ",
            "ln -s $SECRET l; cat l",
            "ln $SECRET l; cat l",
            "cat inputs/../../../secret",
            "cat /etc/shadow",
            "ls /root",
            "cat <&7",
            "mknod d b $(stat -c '0x%t 0x%T' /dev/vda || echo 1 1); head -c 1 d",
        ];
        for script in scripts {
            let mut stage =
                Stage::sh(&format!("{script} >&2 && exit 0; exit 9")).isolated(tier).input("i", "");
            let secret = stage.write("secret", "secret");
            fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
            stage.spec.env.insert("SECRET".into(), Some(secret.to_str().unwrap().to_owned()));
            let (how, message) = stage.failure();
            assert_eq!(how, Failure::Exited(9), "{tier}: {script}: {message}");
            assert!(!message.contains("| secret"), "{tier}: {script}: {message}");
        }
    }
}

#[test]
fn no_open_file_of_ours_is_inherited() {
    for tier in every_tier() {
        let stage = Stage::sh("ls -l /proc/self/fd | sed 1d | wc -l > x").isolated(tier).output("x", "x");
        let ours = fs::File::open("/etc/passwd").unwrap();
        rustix::io::fcntl_setfd(&ours, rustix::io::FdFlags::empty()).unwrap();
        assert!(ours.as_raw_fd() > 2);
        // The standard ones, and the folder that is listed.
        assert_eq!(stage.text().trim(), "4", "{tier}");
    }
}

#[test]
fn nothing_outside_can_be_written() {
    let stage = |tier| {
        let mut stage = Stage::sh("true").isolated(tier);
        let target = stage.write("target", "before");
        stage.spec.argv[2] = format!(
            "echo after > {0} && exit 0; rm -f {0} 2>&1; mv {0} x 2>&1; truncate -s 0 {0}; exit 9",
            target.display()
        );
        (stage, target)
    };
    let (open, target) = stage(Isolation::None);
    open.run().unwrap();
    assert_eq!(fs::read_to_string(target).unwrap(), "after\n", "without isolation it can");
    for tier in available(&CONFINED) {
        let (stage, target) = stage(tier);
        assert_eq!(stage.failure().0, Failure::Exited(9), "{tier}");
        assert_eq!(fs::read_to_string(target).unwrap(), "before", "{tier}");
        for script in ["echo > /usr/x", "echo > /etc/x", "mkdir /x", "echo > /dev/shm/x; [ -d /bitproof ]"] {
            let script = format!("{script} && [ ! -d /bitproof ] && exit 0; exit 9");
            assert_eq!(Stage::sh(&script).isolated(tier).failure().0, Failure::Exited(9), "{tier}: {script}");
        }
        Stage::sh("echo > /dev/null; echo > $TMPDIR/x; head -c 1 /dev/urandom > $HOME/y")
            .isolated(tier)
            .run()
            .unwrap();
    }
}

#[test]
fn no_tcp_connection_can_be_made() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}");
    let stage = |tier| Stage::new(&["bash", "-c", &script]).isolated(tier);
    stage(Isolation::None).run().expect("without isolation it can");
    for tier in available(&CONFINED) {
        if matches!(reach(tier), Ok(Reached::Landlock { abi: ..4 })) {
            println!("SKIPPED: this kernel's Landlock knows no TCP");
            continue;
        }
        let (how, message) = stage(tier).failure();
        assert_eq!(how, Failure::Exited(1), "{tier}: {message}");
    }
}

#[test]
fn it_cannot_end_what_supervises_it() {
    for tier in available(&CONFINED) {
        if matches!(reach(tier), Ok(Reached::Landlock { abi: ..6 })) {
            println!("SKIPPED: this kernel's Landlock knows no signals");
            continue;
        }
        let stage =
            Stage::sh("kill -9 $PPID 2>&1; kill -9 -1 2>&1; echo alive > x").isolated(tier).output("x", "x");
        // In a namespace it is bubblewrap's first process that it may hit, and it ends with that.
        match stage.run() {
            Ok(_) => (),
            Err(error) => assert_eq!((tier, error.failure()), (Isolation::Strict, None), "{error}"),
        }
    }
}

#[test]
fn the_strict_sandbox_is_alike_everywhere() {
    for tier in available(&[Isolation::Strict]) {
        let stage = Stage::sh("pwd > x; echo $TMPDIR $HOME >> x; hostname >> x; ls / >> x; ls /tmp >> x; ls /proc | grep -c '^[0-9]' >> x")
            .isolated(tier)
            .output("x", "x");
        let text = stage.text();
        assert!(text.starts_with("/bitproof\n/tmp /tmp\nbitproof\n"), "{text}");
        assert!(!text.contains("root") && !text.contains("home"), "{text}");
    }
}

#[test]
fn a_virtual_environment_is_all_that_python_needs() {
    for tier in every_tier() {
        let script = "import sys, json, hashlib; open('x', 'w').write(sys.prefix)";
        let mut stage = Stage::new(&["python", "-c", script]).isolated(tier).output("x", "x");
        let venv = fs::canonicalize(stage.dir.path()).unwrap().join("venv");
        let python =
            std::process::Command::new("python3").args(["-m", "venv", "--without-pip"]).arg(&venv).status();
        if !python.is_ok_and(|status| status.success()) {
            println!("SKIPPED: no python3 that makes virtual environments");
            return;
        }
        stage.tools.push(Tool { name: "python".into(), path: venv.clone() });
        assert_eq!(stage.text(), venv.to_str().unwrap(), "{tier}");
        stage.spec.argv[2] = "import multiprocessing as m; m.Lock(); open('x', 'w')".into();
        let locked = stage.run();
        if tier == Isolation::Landlock {
            let message = locked.unwrap_err().to_string();
            assert!(
                message.contains("shared memory (multiprocessing) needs isolation = \"strict\""),
                "{message}"
            );
        } else {
            locked.unwrap();
        }
    }
}

#[test]
fn what_was_reached_is_observed() {
    let reached = |tier| Stage::sh("true").isolated(tier).run().unwrap().observed.isolation;
    assert_eq!(reached(Isolation::None), Reached::None);
    for tier in available(&CONFINED) {
        assert_eq!(reached(tier), reach(tier).unwrap());
        assert_ne!(reached(tier), Reached::None);
    }
    let best = reach(Isolation::Landlock).unwrap_or(Reached::None);
    assert_eq!(reached(Isolation::Best), best);
}
