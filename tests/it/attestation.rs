//! Exports and attestations: whole or absent, held against folders, and agreed on with clients that nobody here wrote.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use bitproof_audit::{
    export, Attestation, AttestationError, ExportAs, ExportError, ExportReport, ExportRequest, MODEL_DIR,
};
use bitproof_core_ledger::dsse::PublicKey;
use bitproof_core_ledger::files::Files;
use bitproof_core_ledger::keys::{KeyFolder, KeyRole, ModelSigningKey, PrivateKey};
use bitproof_core_ledger::storage::sim::{Fault, Left, SimDisk};
use bitproof_core_ledger::storage::{Disk, EntryKind, Held, LockMode, Storage, StoredFile};
use bitproof_core_ledger::Store;
use bitproof_tests::Project;

/// A project with a run, and a folder for what is exported.
struct Scene {
    project: Project,
    model_key: ModelSigningKey,
    artifact_key: PrivateKey,
}

impl Scene {
    fn new() -> Self {
        let project = Project::new();
        project.run(&project.request(&[])).unwrap();
        let model_key = project.keys().create_model_signing().unwrap();
        let artifact_key = project.keys().load(KeyRole::Artifact).unwrap();
        Self { project, model_key, artifact_key }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.project.path().join(name)
    }

    fn export(&self, out: &str, how: ExportAs<'_>) -> Result<ExportReport, ExportError> {
        let out = self.path(out);
        export(&self.project.store(), &ExportRequest { run: "latest", stage: None, out: &out, how })
    }

    fn model(&self, out: &str) -> Result<ExportReport, ExportError> {
        self.export(out, ExportAs::ModelSigning(&self.model_key))
    }

    fn slsa(&self, out: &str) -> Result<ExportReport, ExportError> {
        self.export(out, ExportAs::Slsa(&self.artifact_key))
    }

    fn model_path(&self, out: &str) -> String {
        self.path(out).join(MODEL_DIR).display().to_string()
    }
}

/// Every file below a folder with its bytes.
fn tree(files: &Files, dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let found = files.files_below(dir).unwrap().into_iter();
    let read = |(name, kind): (String, EntryKind)| match kind {
        EntryKind::File(_) => {
            let bytes = files.read_bounded(&dir.join(&name), 1 << 24).unwrap();
            (name, bytes)
        }
        _ => panic!("{name} is no file"),
    };
    found.map(read).collect()
}

fn on_disk(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    tree(&Files::on_disk(), dir)
}

#[test]
fn an_export_is_a_function_of_the_run_and_leaves_the_store_alone() {
    let scene = Scene::new();
    let before = on_disk(&scene.project.store_root());
    let report = scene.model("one").unwrap();
    scene.model("two").unwrap();
    scene.slsa("three").unwrap();
    scene.slsa("four").unwrap();
    assert_eq!(on_disk(&scene.project.store_root()), before);
    let one = on_disk(&scene.path("one"));
    assert_eq!(one, on_disk(&scene.path("two")));
    assert_eq!(on_disk(&scene.path("three")), on_disk(&scene.path("four")));
    let names: Vec<&str> = one.keys().map(String::as_str).collect();
    let model = ["model/card.md", "model/model.safetensors", "model/model.safetensors.sig"];
    assert_eq!(names, [&["model-signing.pub.pem", "model.sig"][..], &model].concat());
    for file in &report.files {
        let stored = format!("runs/{}/artifacts/{}/{}", report.run, report.stage, file.name);
        assert_eq!(one[&format!("model/{}", file.name)], before[&stored], "{}", file.name);
    }
    let leftovers: Vec<_> =
        on_disk(scene.project.path()).into_keys().filter(|n| n.contains("export")).collect();
    assert_eq!(leftovers, Vec::<String>::new());
}

#[test]
fn nothing_is_overwritten_and_nothing_is_exported_that_cannot_be() {
    let scene = Scene::new();
    fs::create_dir(scene.path("there")).unwrap();
    assert!(matches!(scene.model("there"), Err(ExportError::Exists { .. })), "an empty folder");
    symlink("nowhere", scene.path("link")).unwrap();
    assert!(matches!(scene.model("link"), Err(ExportError::Exists { .. })), "a link to nothing");
    assert!(matches!(scene.model("no/where"), Err(ExportError::Nowhere { .. })));
    assert!(!scene.path("no").exists());
    let store = scene.project.store();
    let out = scene.path("out");
    let how = ExportAs::ModelSigning(&scene.model_key);
    let stage = |stage| export(&store, &ExportRequest { run: "latest", stage: Some(stage), out: &out, how });
    let unknown = stage("train").unwrap_err().to_string();
    assert!(unknown.starts_with("run small-1 has packages of package\n"), "{unknown}");
    let stranger = KeyFolder::new(scene.path("other/keys")).create(KeyRole::Artifact).unwrap();
    assert!(matches!(scene.export("out", ExportAs::Slsa(&stranger)), Err(ExportError::Stranger { .. })));
    let log = scene.project.keys().load(KeyRole::Log).unwrap();
    assert!(scene.export("out", ExportAs::Slsa(&log)).is_err());
    assert!(!out.exists());
    stage("package").unwrap();
}

#[test]
fn a_damaged_run_is_not_exported() {
    let scene = Scene::new();
    let evidence: Vec<String> = on_disk(&scene.project.store_root())
        .into_keys()
        .filter(|name| name.starts_with("runs/") || name.starts_with("audit/"))
        .collect();
    assert!(evidence.len() > 8, "{evidence:?}");
    for name in &evidence {
        let path = scene.project.store_root().join(name);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[good.len() / 2] ^= 1;
        fs::write(&path, &bad).unwrap();
        for refused in [scene.model("out"), scene.slsa("out")] {
            let refused = refused.unwrap_err();
            assert!(matches!(refused, ExportError::Damaged { .. }), "{name}: {refused}");
        }
        fs::write(&path, &good).unwrap();
    }
    let left = on_disk(scene.project.path()).into_keys().find(|name| name.contains("out"));
    assert_eq!(left, None);
    scene.model("out").unwrap();
}

/// The real file system, on which one file becomes another one after it was opened some times.
#[derive(Debug)]
struct Swapping {
    path: PathBuf,
    other: PathBuf,
    opens: Arc<AtomicUsize>,
    swapped_at: usize,
}

impl Storage for Swapping {
    fn open(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        let swapped = path == self.path && self.opens.fetch_add(1, Ordering::Relaxed) >= self.swapped_at;
        Disk.open(if swapped { &self.other } else { path })
    }
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        Disk.create_new(path)
    }
    fn open_or_create(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        Disk.open_or_create(path)
    }
    fn entry(&self, path: &Path) -> io::Result<EntryKind> {
        Disk.entry(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<(String, EntryKind)>> {
        Disk.list(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        Disk.create_dir_all(dir)
    }
    fn link_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.link_new(from, to)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.sync_dir(dir)
    }
    fn lock(&self, path: &Path, mode: LockMode, wait: bool) -> io::Result<Option<Held>> {
        Disk.lock(path, mode, wait)
    }
}

#[test]
fn a_file_that_is_swapped_between_check_and_use_is_not_exported() {
    let scene = Scene::new();
    let (model, slsa) = (ExportAs::ModelSigning(&scene.model_key), ExportAs::Slsa(&scene.artifact_key));
    for (name, how, of_same_size) in [
        ("artifacts/package/model.safetensors", model, true),
        ("artifacts/package/model.safetensors", model, false),
        ("artifacts/package/card.md", slsa, true),
        ("inventory.bin", model, true),
        ("manifest.json", slsa, true),
        ("evidence.json", slsa, true),
        ("evidence.json", slsa, false),
    ] {
        let path = scene.project.store_root().join("runs/small-1").join(name);
        let mut bytes = fs::read(&path).unwrap();
        match of_same_size {
            true => *bytes.last_mut().unwrap() ^= 1,
            false => bytes.push(b' '),
        }
        let other = scene.path("other");
        fs::write(&other, bytes).unwrap();
        let attempt = |swapped_at: usize| {
            let opens = Arc::new(AtomicUsize::new(0));
            let (path, other, counted) = (path.clone(), other.clone(), opens.clone());
            let files = Files::on(Swapping { path, other, opens: counted, swapped_at });
            let store = Store::open(&files, &scene.project.store_root()).unwrap();
            let out = scene.path("out");
            let exported = export(&store, &ExportRequest { run: "latest", stage: None, out: &out, how });
            assert_eq!(out.exists(), exported.is_ok());
            let _ = fs::remove_dir_all(&out);
            (exported, opens.load(Ordering::Relaxed))
        };
        let (exported, opens) = attempt(usize::MAX);
        exported.unwrap();
        assert!(opens >= 2, "{name} is checked and used");
        for swapped_at in 0..opens {
            let refused = attempt(swapped_at).0.unwrap_err();
            let used = swapped_at + 1 == opens;
            assert_eq!(
                matches!(refused, ExportError::Changed { .. }),
                used,
                "{name}, {swapped_at}: {refused}"
            );
        }
    }
}

#[test]
fn after_a_stop_at_any_operation_an_export_is_whole_or_absent() {
    let disk = SimDisk::new();
    let project = Project::new().on(Files::on(disk.clone()));
    Files::on(disk.clone()).create_dirs(project.path()).unwrap();
    project.run(&project.request(&[])).unwrap();
    let key = ModelSigningKey::from_bytes(&[1; 32]).unwrap();
    let (root, out) = (project.store_root(), project.path().join("out"));
    let attempt = |disk: &SimDisk| {
        let store = Store::open(&Files::on(disk.clone()), &root).unwrap();
        let how = ExportAs::ModelSigning(&key);
        export(&store, &ExportRequest { run: "latest", stage: None, out: &out, how })
    };
    let quiet = disk.after(Left::Kept);
    let first = quiet.operations();
    attempt(&quiet).unwrap();
    let whole = tree(&Files::on(quiet.clone()), &out);
    let (mut absent, mut complete) = (0, 0);
    for operation in first..quiet.operations() {
        for fault in [Fault::PowerOff, Fault::Error, Fault::DiskFull] {
            let failing = disk.after(Left::Kept).failing(operation, fault);
            let exported = attempt(&failing).is_ok();
            // A full disk stops only what needs room.
            assert!(failing.has_failed() || fault == Fault::DiskFull, "{fault:?} at operation {operation}");
            let left = if fault == Fault::PowerOff { failing.crashes() } else { vec![Left::Kept] };
            for left in left {
                let files = Files::on(failing.after(left));
                let what = format!("{fault:?} at operation {operation}, {left:?}");
                match files.entry(&out).unwrap() {
                    None => {
                        assert!(!exported, "{what}: it was said to be there");
                        absent += 1;
                    }
                    Some(_) => {
                        assert_eq!(tree(&files, &out), whole, "{what}");
                        complete += 1;
                    }
                }
            }
        }
    }
    println!(
        "export: operations {} to {}, {absent} times absent, {complete} times whole",
        first,
        quiet.operations() - 1
    );
    assert!(absent > 50 && complete > 0);
}

#[test]
fn a_folder_is_what_was_signed_or_the_first_difference_is_named() {
    let scene = Scene::new();
    scene.model("out").unwrap();
    let key = scene.model_key.public_key();
    let bundle = fs::read(scene.path("out/model.sig")).unwrap();
    let attestation = Attestation::read(&bundle, &key).unwrap();
    let folder = scene.path("out/model");
    let check = |own: Option<&str>| attestation.check_folder(&Files::on_disk(), &folder, own);
    let good = check(None).unwrap();
    assert_eq!((good.files, good.not_covered.len()), (3, 0));
    let said = |own| check(own).unwrap_err().to_string();

    let weights = folder.join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    for at in [0, bytes.len() / 2, bytes.len() - 1] {
        let mut bad = bytes.clone();
        bad[at] ^= 0x80;
        fs::write(&weights, bad).unwrap();
        assert!(matches!(check(None), Err(AttestationError::Content { .. })), "byte {at}");
    }
    fs::remove_file(&weights).unwrap();
    assert_eq!(said(None), "model.safetensors is listed, but the folder does not have it");
    fs::write(scene.path("elsewhere"), &bytes).unwrap();
    symlink(scene.path("elsewhere"), &weights).unwrap();
    assert_eq!(said(None), "model.safetensors is a link or a special file, which no statement covers");
    fs::remove_file(&weights).unwrap();
    let made = Command::new("mkfifo").arg(&weights).status().unwrap();
    assert!(made.success() && said(None).ends_with("which no statement covers"));
    fs::remove_file(&weights).unwrap();
    fs::write(&weights, &bytes).unwrap();

    fs::write(folder.join("model.sig"), &bundle).unwrap();
    assert_eq!(said(None), "model.sig is in the folder, but the statement does not list it");
    assert!(check(Some("model.sig")).unwrap().not_covered.contains("model.sig"));
    fs::create_dir(folder.join(".git")).unwrap();
    fs::write(folder.join(".git/config"), "x").unwrap();
    assert!(check(Some("model.sig")).unwrap().not_covered.contains(".git"));
    fs::create_dir(folder.join("sub")).unwrap();
    check(Some("model.sig")).expect("an empty folder has no content");
    fs::create_dir(folder.join("sub/.git")).unwrap();
    fs::write(folder.join("sub/.git/x"), "x").unwrap();
    assert!(said(Some("model.sig")).starts_with("sub/.git/x is in the folder"), "only at the top");
}

/// What an oracle prints, a line for each file; `None` where there is no environment for it.
fn oracle(script: &str, arguments: &[&str]) -> Option<Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let python = root.join("target/oracles/bin/python");
    if !python.exists() {
        println!("SKIPPED: no Python clients in target/oracles; scripts/oracles/setup installs them");
        return None;
    }
    let output = Command::new(python)
        .arg(root.join("scripts/oracles").join(script))
        .args(arguments)
        .env_clear()
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

/// Copies of a file, each with one byte of it changed.
fn flipped(file: &Path, into: &Path) -> Vec<String> {
    fs::create_dir(into).unwrap();
    let good = fs::read(file).unwrap();
    let step = good.len() / 24;
    let places = (0..good.len()).step_by(step.max(1));
    let write = |at: usize| {
        let mut bad = good.clone();
        bad[at] ^= 1;
        let path = into.join(at.to_string());
        fs::write(&path, bad).unwrap();
        path.display().to_string()
    };
    places.map(write).collect()
}

fn we_refuse(files: &[String], key: &PublicKey) {
    for file in files {
        let read = Attestation::read(&fs::read(file).unwrap(), key);
        assert!(read.is_err(), "{file}");
    }
}

#[test]
fn the_client_of_model_signing_accepts_ours_and_refuses_what_was_changed() {
    let scene = Scene::new();
    let report = scene.model("out").unwrap();
    let text = |name: &str| scene.path("out").join(name).display().to_string();
    let (signature, public, model) = (text("model.sig"), text(&report.public_key), scene.model_path("out"));
    let verify = |signatures: &[&str]| {
        oracle("models.py", &[&["verify", public.as_str(), model.as_str()], signatures].concat())
    };
    let Some(accepted) = verify(&[&signature]) else { return };
    assert_eq!(accepted, ["accepted"]);

    let bad = flipped(Path::new(&signature), &scene.path("flipped"));
    we_refuse(&bad, &scene.model_key.public_key());
    let names: Vec<&str> = bad.iter().map(String::as_str).collect();
    let said = verify(&names).unwrap();
    // That client does not look at every byte: names of fields that it does not need may change for it.
    let refused = said.iter().filter(|line| line.starts_with("refused")).count();
    println!("model-signing refuses {refused} of {} changed bundles, we refuse all", bad.len());
    assert!(bad.len() > 20 && refused * 10 >= bad.len() * 8, "{said:?}");

    let other = ModelSigningKey::from_bytes(&[9; 32]).unwrap().public_key().to_pem();
    fs::write(scene.path("other.pem"), other).unwrap();
    let other = scene.path("other.pem").display().to_string();
    let said = oracle("models.py", &["verify", &other, &model, &signature]).unwrap();
    assert!(said[0].starts_with("refused"), "{said:?}");
    fs::write(scene.path("out/model/card.md"), "another card").unwrap();
    assert!(verify(&[&signature]).unwrap()[0].starts_with("refused"));
    fs::remove_file(scene.path("out/model/card.md")).unwrap();
    assert!(verify(&[&signature]).unwrap()[0].starts_with("refused"));

    // The command that the reference names.
    scene.model("again").unwrap();
    let command = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/oracles/bin/model_signing");
    let model = scene.model_path("again");
    let run = |signature: &str| {
        let arguments = ["verify", "key", &model, "--signature", signature, "--public_key", &public];
        Command::new(&command).args(arguments).output().unwrap().status.success()
    };
    assert!(run(&signature) && !run(&bad[bad.len() / 2]));
}

#[test]
fn we_accept_what_the_client_of_model_signing_signed_with_both_values_of_s() {
    let scene = Scene::new();
    let model = scene.path("model");
    fs::create_dir_all(model.join("sub")).unwrap();
    for (name, content) in [("a.bin", "a"), ("sub/b", ""), ("sub-1", "c"), ("ä €", "d"), ("A", "e")] {
        fs::write(model.join(name), content).unwrap();
    }
    fs::create_dir(scene.path("signed")).unwrap();
    let path = |name: &str| scene.path(name).display().to_string();
    let private = scene.project.keys().model_signing_path().display().to_string();
    let Some(kinds) = oracle("models.py", &["sign", &private, &path("model"), &path("signed"), "12"]) else {
        return;
    };
    let high = kinds.iter().filter(|kind| *kind == "high").count();
    println!("model-signing signed {} times, {high} times with the larger s", kinds.len());
    assert!(kinds.len() >= 12 && (1..kinds.len()).contains(&high));
    let key = scene.model_key.public_key();
    for i in 0..kinds.len() {
        let file = scene.path("signed").join(format!("{i}.sig"));
        let attestation = Attestation::read(&fs::read(&file).unwrap(), &key).unwrap();
        assert_eq!(attestation.subject.as_deref(), Some("model"));
        assert_eq!(attestation.check_folder(&Files::on_disk(), &model, None).unwrap().files, 5);
    }
    let signed = scene.path("signed/0.sig");
    we_refuse(&flipped(&signed, &scene.path("flipped")), &key);
    let attestation = Attestation::read(&fs::read(&signed).unwrap(), &key).unwrap();
    fs::write(model.join("A"), "E").unwrap();
    assert!(attestation.check_folder(&Files::on_disk(), &model, None).is_err());
}

#[test]
fn securesystemslib_and_in_toto_accept_our_provenance_and_we_accept_theirs() {
    let scene = Scene::new();
    let report = scene.slsa("out").unwrap();
    let text = |name: &str| scene.path(name).display().to_string();
    let (envelope, public) = (text("out/provenance.dsse.json"), text("out/artifact.pub.pem"));
    let Some(said) = oracle("envelopes.py", &["verify", &public, &envelope]) else { return };
    assert_eq!(said, [format!("accepted {}", report.key)], "the key id is theirs");

    let key = scene.artifact_key.public_key();
    let bad = flipped(Path::new(&envelope), &scene.path("flipped"));
    we_refuse(&bad, &key);
    let names: Vec<&str> = bad.iter().map(String::as_str).collect();
    let said = oracle("envelopes.py", &[&["verify", public.as_str()], &names[..]].concat()).unwrap();
    let refused = said.iter().filter(|line| line.starts_with("refused")).count();
    println!("securesystemslib refuses {refused} of {} changed envelopes, we refuse all", bad.len());
    assert!(bad.len() > 20 && refused * 10 >= bad.len() * 8, "{said:?}");
    let other = scene.model_key.public_key().to_pem();
    fs::write(scene.path("other.pem"), other).unwrap();
    let said = oracle("envelopes.py", &["verify", &text("other.pem"), &envelope]).unwrap();
    assert!(said[0].starts_with("refused"), "{said:?}");

    // The other way: they sign a statement of their own making over the exported model.
    scene.model("model").unwrap();
    let ours = Attestation::read(&fs::read(&envelope).unwrap(), &key).unwrap();
    assert_eq!(ours.check_folder(&Files::on_disk(), &scene.path("model/model"), None).unwrap().files, 3);
    let subjects: Vec<String> = ours
        .files
        .iter()
        .map(|f| format!(r#"{{ "name": "{}", "digest": {{ "sha256": "{}" }} }}"#, f.name, f.sha256))
        .collect();
    let statement = format!(
        r#"{{ "_type": "https://in-toto.io/Statement/v1", "subject": [{}], "predicateType": "https://slsa.dev/provenance/v1",
             "predicate": {{ "buildDefinition": {{ "buildType": "https://example.org/build", "externalParameters": {{ "x": 1 }} }},
             "runDetails": {{ "builder": {{ "id": "https://example.org/builder" }},
             "metadata": {{ "invocationId": "7", "startedOn": "2026-11-24T10:00:00Z" }} }} }} }}"#,
        subjects.join(", ")
    );
    fs::write(scene.path("statement.json"), statement).unwrap();
    let private = scene.project.keys().path(KeyRole::Artifact).display().to_string();
    let arguments = ["sign", &private, &text("statement.json"), &text("theirs.json")];
    oracle("envelopes.py", &arguments).unwrap();
    let said = oracle("envelopes.py", &["verify", &public, &text("theirs.json")]).unwrap();
    assert_eq!(said, [format!("accepted {}", report.key)]);
    let theirs = Attestation::read(&fs::read(scene.path("theirs.json")).unwrap(), &key).unwrap();
    assert_eq!(theirs.claims.as_ref().map(|c| c.builder.as_str()), Some("https://example.org/builder"));
    assert_eq!(theirs.check_folder(&Files::on_disk(), &scene.path("model/model"), None).unwrap().files, 3);
    we_refuse(&flipped(&scene.path("theirs.json"), &scene.path("flipped-theirs")), &key);
}
