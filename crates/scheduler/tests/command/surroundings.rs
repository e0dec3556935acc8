//! What a command finds around it: its folder, its environment, its tools.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;

use bitproof_core_ledger::folder::Folder;
use bitproof_scheduler::command::{Source, Tool};
use bitproof_scheduler::ParamValue;

use crate::stage::{every_tier, Stage};

#[test]
fn it_finds_its_code_and_inputs_and_nothing_else() {
    for tier in every_tier() {
        let mut stage = Stage::sh("find . -type f -perm -u+x | sort > {out:x}; find . | sort >> {out:x}; cat inputs/data src/a.txt >> {out:x}")
            .isolated(tier)
            .code("src/a.txt", "code")
            .code("run.sh", "#!/bin/sh\n")
            .input("data", "data\n")
            .folder("images", &[("a/1", "one"), ("b.sh", "two")])
            .output("x", "made/here/x");
        stage.spec.inputs[1].path = "where/it/was".into();
        let files = "./run.sh ./where/it/was/b.sh . ./inputs ./inputs/data ./made ./made/here ./made/here/x ./run.sh ./src \
                     ./src/a.txt ./where ./where/it ./where/it/was ./where/it/was/a ./where/it/was/a/1 ./where/it/was/b.sh";
        let expected = format!("{}\ndata\ncode", files.split_whitespace().collect::<Vec<_>>().join("\n"));
        assert_eq!(stage.text(), expected, "{tier}");
    }
}

#[test]
fn its_environment_is_scrubbed() {
    for tier in every_tier() {
        let mut stage = Stage::sh("env | sort > {out:x}; umask >> {out:x}; ls -A $HOME $TMPDIR >> {out:x}")
            .isolated(tier)
            .output("x", "x");
        stage.spec.env =
            [("SET", Some("a b".to_owned())), ("NOT_SET", None), ("OMP_NUM_THREADS", Some("1".to_owned()))]
                .map(|(name, value)| (name.to_owned(), value))
                .into();
        let text = stage.text();
        let mut lines: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let own = |lines: &mut BTreeMap<&str, &str>, name| lines.remove(name).unwrap_or_default().to_owned();
        assert_eq!(own(&mut lines, "HOME"), own(&mut lines, "TMPDIR"));
        // The shell's own.
        let _ = (
            own(&mut lines, "PWD"),
            own(&mut lines, "OLDPWD"),
            own(&mut lines, "_"),
            own(&mut lines, "SHLVL"),
        );
        let expected = [
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("TZ", "UTC"),
            ("LC_ALL", "C.UTF-8"),
            ("LANG", "C.UTF-8"),
            ("SOURCE_DATE_EPOCH", "315532800"),
            ("PYTHONHASHSEED", "0"),
            ("PYTHONDONTWRITEBYTECODE", "1"),
            ("PYTHONNOUSERSITE", "1"),
            ("BITPROOF_SEED", "7"),
            ("BITPROOF_TASK", "stage"),
            ("OMP_NUM_THREADS", "1"),
            ("MKL_NUM_THREADS", "2"),
            ("OPENBLAS_NUM_THREADS", "2"),
            ("NUMEXPR_NUM_THREADS", "2"),
            ("RAYON_NUM_THREADS", "2"),
            ("SET", "a b"),
        ];
        assert_eq!(lines, BTreeMap::from(expected), "{tier}");
        assert!(text.contains("\n0022\n"), "{text}");
    }
}

#[test]
fn placeholders_are_replaced() {
    let mut stage = Stage::new(&[
        "sh",
        "-c",
        "echo \"$@\" > x",
        "sh",
        "{in:data}",
        "{out:x}",
        "{with:rate}",
        "{seed}",
        "{{}}",
    ])
    .input("data", "")
    .output("x", "x");
    stage.params.insert("rate".into(), ParamValue::float(0.5));
    assert_eq!(stage.text(), "inputs/data x 0.5 7 {}\n");
    stage.params.clear();
    let (_, message) = stage.failure();
    assert!(message.contains("argument 6, byte 0: there is no parameter \"rate\""), "{message}");
}

#[test]
fn its_tools_come_first_and_are_found_by_name() {
    for tier in every_tier() {
        let mut stage = Stage::new(&["greet", "{out:x}"]).isolated(tier).output("x", "x");
        let tool = stage
            .write("elsewhere/bin/greet", "#!/bin/sh\necho \"$(basename \"$0\")\" > \"$1\"\nls >> \"$1\"\n");
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        let message = stage.fault();
        assert!(
            message.starts_with("greet was not found in /usr/local/bin:/usr/bin:/bin\n  hint: "),
            "{message}"
        );
        stage.tools.push(Tool { name: "greet".into(), path: tool.clone() });
        assert_eq!(stage.text(), "greet\nx\n", "{tier}");
        // As it is found, not as it was.
        stage.write("elsewhere/bin/sh", "#!/bin/false\n");
        assert_eq!(stage.text(), "greet\nx\n", "{tier}: what is not executable is no program");
    }
}

#[test]
fn its_own_code_can_be_its_program() {
    for tier in every_tier() {
        let stage = Stage::new(&["./run.sh", "{out:x}"])
            .isolated(tier)
            .code("run.sh", "#!/bin/sh\necho $0 > $1\n")
            .output("x", "x");
        assert_eq!(stage.text(), "./run.sh\n", "{tier}");
    }
    let message = Stage::new(&["./run.txt"]).code("run.txt", "#!/bin/sh\n").fault();
    assert!(message.contains("chmod +x"), "{message}");
    let message = Stage::new(&["./missing"]).fault();
    assert!(message.contains("declare it in code"), "{message}");
}

#[test]
fn what_changed_since_it_was_planned_is_refused_by_name() {
    let stage =
        Stage::sh("true").code("a.py", "1").input("data", "x").folder("images", &[("a", "1"), ("b/c", "2")]);
    stage.run().unwrap();
    let changes = [("a.py", "a.py"), ("data", "data"), ("images/a", "images"), ("images/b/c", "images")];
    for (path, named) in changes {
        let path = stage.dir.path().join(path);
        let good = fs::read(&path).unwrap();
        fs::write(&path, "other").unwrap();
        let message = stage.fault();
        let expected = format!("{named} is not what the plan names: expected ");
        assert!(message.starts_with(&expected), "{message}");
        fs::remove_file(&path).unwrap();
        stage.fault();
        fs::write(&path, good).unwrap();
    }
    stage.run().unwrap();
    stage.write("images/extra", "");
    let message = stage.fault();
    assert!(message.starts_with("images is not what the plan names: expected "), "{message}");
}

#[test]
fn a_folder_may_come_as_the_object_that_it_is_packed_into() {
    let mut stage =
        Stage::sh("cat {in:images}/b/c > x").folder("images", &[("a", "1"), ("b/c", "2")]).output("x", "x");
    let Source::Folder { path, .. } = &mut stage.inputs[0] else { unreachable!("it is one") };
    let mut packed = Vec::new();
    Folder::open(path).unwrap().reader().read_to_end(&mut packed).unwrap();
    *path = path.with_extension("packed");
    fs::write(&*path, &packed).unwrap();
    let object = path.clone();
    assert_eq!(stage.text(), "2");
    *packed.last_mut().unwrap() ^= 1;
    fs::write(&object, &packed).unwrap();
    assert!(stage.fault().starts_with("images is not what the plan names: expected "));
    packed.pop();
    fs::write(&object, &packed).unwrap();
    let message = stage.fault();
    assert!(
        message.starts_with("images cannot be copied: the packed folder ends 1 bytes before"),
        "{message}"
    );
}

#[test]
fn what_no_plan_may_declare_is_refused() {
    let refused = |stage: Stage, expected: &str| {
        let (_, message) = stage.failure();
        assert!(message.contains(expected), "{message}");
    };
    for path in ["../x", "/x", "a//b", "a/./b", "a/../b", "", ".", "a\nb", "a\0", "a\\b"] {
        refused(Stage::sh("true").output("x", path), "is not a path below the working folder");
    }
    refused(Stage::sh("true").output("x", &"d/".repeat(200)), "is not a path below");
    refused(Stage::sh("true").output("x", "a").output("y", "a"), "declared twice");
    refused(Stage::sh("true").output("x", "a/").output("y", "a/b"), "lies in something else");
    refused(Stage::sh("true").output("y", "a/b").output("x", "a/"), "declared twice, or holds");
    refused(Stage::sh("true").code("src/a", "").output("x", "src/"), "declared twice, or holds");
    refused(Stage::sh("true").output("x", "inputs/a").input("a", ""), "declared twice");
    let mut stage = Stage::sh("true").input("a", "");
    stage.spec.inputs[0].path = "../a".into();
    refused(stage, "is not a path below the working folder");
    let mut stage = Stage::sh("true");
    stage.spec.env.insert("A=B".into(), Some(String::new()));
    refused(stage, "is not one that an environment can hold");
    refused(Stage::new(&[]), "has no program");
    refused(Stage::new(&["sh", "a\0b"]), "has a zero byte");
}
