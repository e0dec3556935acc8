//! The tools of a command: what of this machine it finds on its path and may read, and what is really there.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use bincode::Encode;
use bitproof_core_ledger::digest::{Digest, ToolsKind};
use bitproof_core_ledger::objects::ObjectId;

/// Where a program is looked for that no tool has.
pub const SYSTEM_PATH: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];
/// Bytes of a `pyvenv.cfg`.
const VENV_CONFIG_BYTES: u64 = 1 << 16;
/// Links from one to the next, as the kernel counts them.
const LINKS: usize = 40;

/// A tool of a stage, as it lies on this machine.
///
/// It is a program; or a virtual environment of Python; or another folder with a `bin`, as conda makes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// Its name in the pipeline file.
    pub name: String,
    /// Where it is: absolute.
    pub path: PathBuf,
}

/// A tool that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolError {
    /// It cannot be read.
    #[error("tool {tool}: cannot read {}: {source}\n  hint: --tool {tool}=PATH says where it is on this machine", path.display())]
    Read {
        /// Its name.
        tool: String,
        /// What was read.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is neither a program nor a folder with programs.
    #[error("tool {tool}: {} is neither a program nor a folder with a bin\n  hint: name an executable file, or the folder of a virtual environment", path.display())]
    Neither {
        /// Its name.
        tool: String,
        /// Where it is.
        path: PathBuf,
    },
    /// Its folder cannot be one of a search path.
    #[error("tool {tool}: {} cannot be on a search path\n  hint: use an absolute path without a colon", path.display())]
    Path {
        /// Its name.
        tool: String,
        /// The folder.
        path: PathBuf,
    },
}

/// What a command's tools are on this machine, for the key of the cache: another interpreter or package gives another digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Over the program's content; for each tool its content or, for a virtual environment, its configuration, interpreter, libpython, and
    /// the names and `RECORD` of its packages. Installed files that were edited since are not seen.
    pub digest: Digest<ToolsKind>,
    /// Where the program was found; `None` for one of the stage's own code, and where there is none.
    pub program: Option<PathBuf>,
}

/// Looks at the tools of a command that runs `program`.
///
/// # Errors
/// [`ToolError`]. That there is no such program is none: the command says so when it runs.
pub fn observe(tools: &[Tool], program: &str) -> Result<Observation, ToolError> {
    #[derive(Encode)]
    struct Observed {
        program: Option<ObjectId>,
        tools: Vec<ObservedTool>,
    }
    let path = Toolbox::new(tools)?.find(program);
    let content = |path: &PathBuf| {
        content(path).map_err(|source| ToolError::Read {
            tool: program.to_owned(),
            path: path.clone(),
            source,
        })
    };
    let observed = Observed {
        program: path.as_ref().map(content).transpose()?,
        tools: tools.iter().map(ObservedTool::look_at).collect::<Result<_, _>>()?,
    };
    Ok(Observation { digest: Digest::of(&observed), program: path })
}

/// The tools of one command, resolved.
#[derive(Debug, Default)]
pub(super) struct Toolbox {
    /// What comes first on its search path.
    folders: Vec<PathBuf>,
    /// What it may read and execute, besides the system: as it is named, and as it is without links.
    reads: BTreeSet<PathBuf>,
    venv: Option<PathBuf>,
}

impl Toolbox {
    pub(super) fn new(tools: &[Tool]) -> Result<Self, ToolError> {
        let mut toolbox = Self::default();
        tools.iter().try_for_each(|tool| toolbox.add(tool))?;
        Ok(toolbox)
    }

    fn add(&mut self, tool: &Tool) -> Result<(), ToolError> {
        let refused =
            |path: &Path, source| ToolError::Read { tool: tool.name.clone(), path: path.into(), source };
        let metadata = fs::metadata(&tool.path).map_err(|e| refused(&tool.path, e))?;
        let neither = || ToolError::Neither { tool: tool.name.clone(), path: tool.path.clone() };
        let folder = if metadata.is_dir() {
            let bin = tool.path.join("bin");
            if !bin.is_dir() {
                return Err(neither());
            }
            self.may_read(&tool.path);
            if let Some(config) = venv_config(&tool.path).map_err(|e| refused(&tool.path, e))? {
                self.venv.get_or_insert_with(|| tool.path.clone());
                if let Some(home) = home(&config) {
                    self.may_read_program(&home.join("python3"));
                }
            }
            interpreter(&tool.path).iter().for_each(|python| self.may_read_program(python));
            bin
        } else if is_program(&tool.path) {
            self.may_read_program(&tool.path);
            tool.path.parent().unwrap_or(&tool.path).to_owned()
        } else {
            return Err(neither());
        };
        if !folder.is_absolute() || folder.as_os_str().as_bytes().contains(&b':') {
            return Err(ToolError::Path { tool: tool.name.clone(), path: folder });
        }
        self.folders.push(folder);
        Ok(())
    }

    /// A program and every link on the way to it, each with what is installed around it.
    fn may_read_program(&mut self, program: &Path) {
        for hop in hops(program) {
            match prefix(&hop) {
                Some(prefix) => self.may_read(prefix),
                None if hop.is_file() => self.may_read(&hop),
                None => (),
            }
        }
    }

    fn may_read(&mut self, path: &Path) {
        if path.components().all(|part| part != Component::ParentDir) {
            self.reads.insert(path.to_owned());
        }
        self.reads.extend(fs::canonicalize(path));
    }

    /// What it may read and execute, besides the system.
    #[cfg(target_os = "linux")]
    pub(super) fn reads(&self) -> &BTreeSet<PathBuf> {
        &self.reads
    }

    /// The first virtual environment of Python among them.
    pub(super) fn venv(&self) -> Option<&Path> {
        self.venv.as_deref()
    }

    /// The value of `PATH`.
    pub(super) fn search_path(&self) -> OsString {
        let folders: Vec<_> = self.search().map(|folder| folder.as_os_str().to_owned()).collect();
        folders.join(":".as_ref())
    }

    fn search(&self) -> impl Iterator<Item = &Path> {
        self.folders.iter().map(PathBuf::as_path).chain(SYSTEM_PATH.iter().map(Path::new))
    }

    /// Where a program is that is named without its folder.
    pub(super) fn find(&self, program: &str) -> Option<PathBuf> {
        if program.is_empty() || program.contains('/') {
            return None;
        }
        self.search().map(|folder| folder.join(program)).find(|path| is_program(path))
    }
}

#[derive(Encode)]
struct ObservedTool {
    name: String,
    /// Of the program, or of the interpreter in the folder.
    program: Option<ObjectId>,
    config: Option<ObjectId>,
    libraries: Vec<(String, ObjectId)>,
    packages: Vec<(String, Option<ObjectId>)>,
}

impl ObservedTool {
    fn look_at(tool: &Tool) -> Result<Self, ToolError> {
        let read = |path: &Path| -> Result<ObjectId, ToolError> {
            content(path).map_err(|source| ToolError::Read {
                tool: tool.name.clone(),
                path: path.into(),
                source,
            })
        };
        let mut seen = Self {
            name: tool.name.clone(),
            program: None,
            config: None,
            libraries: vec![],
            packages: vec![],
        };
        if !tool.path.is_dir() {
            seen.program = Some(read(&tool.path)?);
            return Ok(seen);
        }
        let config = venv_config(&tool.path).map_err(|source| ToolError::Read {
            tool: tool.name.clone(),
            path: tool.path.clone(),
            source,
        })?;
        let mut sites = vec![tool.path.clone()];
        if let Some(python) = interpreter(&tool.path) {
            seen.program = Some(read(&python)?);
            let real = fs::canonicalize(&python).unwrap_or(python);
            if let Some(base) = prefix(&real) {
                for (name, path) in entries(&base.join("lib"), |name| name.starts_with("libpython")) {
                    if path.is_file() {
                        seen.libraries.push((name, read(&path)?));
                    }
                }
                let shares = |line: &str| line.replace(' ', "") == "include-system-site-packages=true";
                if config.as_deref().is_some_and(|config| config.lines().any(shares)) {
                    sites.push(base.to_owned());
                }
            }
        }
        seen.config = config.map(|config| ObjectId::of_bytes(config.as_bytes()));
        for site in sites {
            for (_, python) in entries(&site.join("lib"), |name| name.starts_with("python")) {
                for (name, info) in
                    entries(&python.join("site-packages"), |name| name.ends_with(".dist-info"))
                {
                    let record = info.join("RECORD");
                    let record = record.is_file().then(|| read(&record)).transpose()?;
                    seen.packages.push((name, record));
                }
            }
            let conda = entries(&site.join("conda-meta"), |name| name.ends_with(".json"));
            seen.packages.extend(conda.into_iter().map(|(name, _)| (name, None)));
        }
        Ok(seen)
    }
}

/// The entries of a folder whose names are wanted, sorted; none where there is no folder.
fn entries(folder: &Path, wanted: impl Fn(&str) -> bool) -> Vec<(String, PathBuf)> {
    let listed = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut entries: Vec<_> = listed
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .filter(|(name, _)| wanted(name))
        .collect();
    entries.sort();
    entries
}

fn content(path: &Path) -> io::Result<ObjectId> {
    ObjectId::of_reader(&mut File::open(path)?).map(|(id, _)| id)
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn interpreter(folder: &Path) -> Option<PathBuf> {
    ["bin/python", "bin/python3"].map(|name| folder.join(name)).into_iter().find(|path| is_program(path))
}

/// The text of a folder's `pyvenv.cfg`, if it has one.
fn venv_config(folder: &Path) -> io::Result<Option<String>> {
    match File::open(folder.join("pyvenv.cfg")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => {
            let mut text = String::new();
            file?.take(VENV_CONFIG_BYTES).read_to_string(&mut text)?;
            Ok(Some(text))
        }
    }
}

/// The folder of the interpreter that a virtual environment was made with.
fn home(config: &str) -> Option<PathBuf> {
    let pairs = config.lines().filter_map(|line| line.split_once('='));
    pairs.into_iter().find(|(key, _)| key.trim() == "home").map(|(_, value)| PathBuf::from(value.trim()))
}

/// A path and every path that a link at its end leads to, the last one also without links on its way.
fn hops(path: &Path) -> Vec<PathBuf> {
    let mut hops = vec![path.to_owned()];
    while let Some(target) =
        hops.last().filter(|_| hops.len() <= LINKS).and_then(|hop| fs::read_link(hop).ok())
    {
        let folder = hops.last().and_then(|hop| hop.parent()).unwrap_or(Path::new("/"));
        // Relative targets start at the folder as it really is.
        let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        hops.push(folder.join(target));
    }
    hops.extend(fs::canonicalize(path));
    hops
}

/// What a program is installed in: `X` for `X/bin/program`, if `X` has a `lib`. Without one `X` may be somebody's home.
fn prefix(program: &Path) -> Option<&Path> {
    let bin = program.parent().filter(|bin| bin.file_name().is_some_and(|name| name == "bin"))?;
    bin.parent().filter(|prefix| prefix.parent().is_some() && prefix.join("lib").is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn program(path: &Path, text: &str) {
        write(path, text);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A virtual environment whose interpreter is two links away, in a prefix of its own.
    fn venv(root: &Path) -> Tool {
        program(&root.join("python-3.11.7/bin/python3.11"), "interpreter");
        write(&root.join("python-3.11.7/lib/libpython3.11.so.1.0"), "library");
        symlink("python-3.11.7", root.join("python")).unwrap();
        symlink("python3.11", root.join("python-3.11.7/bin/python3")).unwrap();
        let venv = root.join("venv");
        let home = root.join("python/bin");
        write(&venv.join("pyvenv.cfg"), &format!("home = {}\nversion = 3.11.7\n", home.display()));
        fs::create_dir(venv.join("bin")).unwrap();
        symlink(home.join("python3"), venv.join("bin/python")).unwrap();
        write(
            &venv.join("lib/python3.11/site-packages/numpy-2.0.dist-info/RECORD"),
            "numpy/a.py,sha256=x,1\n",
        );
        Tool { name: "python".into(), path: venv }
    }

    #[test]
    fn a_virtual_environment_brings_what_it_was_made_with_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let tool = venv(&root);
        let toolbox = Toolbox::new(std::slice::from_ref(&tool)).unwrap();
        let expected = ["python", "python-3.11.7", "venv"].map(|name| root.join(name));
        assert_eq!(toolbox.reads, BTreeSet::from(expected));
        assert_eq!(toolbox.venv(), Some(tool.path.as_path()));
        assert_eq!(toolbox.find("python"), Some(tool.path.join("bin/python")));
        assert_eq!(toolbox.find("sh"), Some("/usr/bin/sh".into()).filter(|p: &PathBuf| p.exists()));
        let path = toolbox.search_path().into_string().unwrap();
        assert_eq!(path, format!("{}/bin:/usr/local/bin:/usr/bin:/bin", tool.path.display()));
    }

    #[test]
    fn a_program_brings_its_prefix_only_where_it_has_one() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let tool = Tool { name: "t".into(), path: root.join("bin/tool") };
        program(&tool.path, "t");
        write(&root.join("secret"), "s");
        let reads = |tool: &Tool| Toolbox::new(std::slice::from_ref(tool)).unwrap().reads;
        assert_eq!(reads(&tool), [tool.path.clone()].into(), "a folder with a bin may be a home");
        fs::create_dir(root.join("lib")).unwrap();
        assert_eq!(reads(&tool), [root.clone()].into());
        assert_eq!(prefix(Path::new("/bin/sh")), None, "never the root");
    }

    #[test]
    fn another_interpreter_library_package_or_configuration_is_another_digest() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let tool = venv(&root);
        let look = || observe(std::slice::from_ref(&tool), "python").unwrap();
        let mut digests = vec![look().digest];
        assert_eq!(look().digest, digests[0]);
        assert_eq!(look().program, Some(tool.path.join("bin/python")));
        let packages = tool.path.join("lib/python3.11/site-packages");
        let changes: [(&str, &dyn Fn()); 6] = [
            ("interpreter", &|| program(&root.join("python-3.11.7/bin/python3.11"), "upgraded")),
            ("libpython", &|| write(&root.join("python-3.11.7/lib/libpython3.11.so.1.0"), "other")),
            ("pyvenv.cfg", &|| write(&tool.path.join("pyvenv.cfg"), "home = /usr/bin\n")),
            ("record", &|| write(&packages.join("numpy-2.0.dist-info/RECORD"), "numpy/a.py,sha256=y,1\n")),
            ("new package", &|| write(&packages.join("torch-2.1.dist-info/METADATA"), "")),
            ("version", &|| {
                fs::rename(packages.join("numpy-2.0.dist-info"), packages.join("numpy-2.1.dist-info"))
                    .unwrap();
            }),
        ];
        for (what, change) in changes {
            change();
            let digest = look().digest;
            assert!(!digests.contains(&digest), "{what}");
            digests.push(digest);
        }
        write(&packages.join("unrelated.txt"), "x");
        assert_eq!(look().digest, digests[6]);
        assert_ne!(observe(std::slice::from_ref(&tool), "sh").unwrap().digest, digests[6], "another program");
    }

    #[test]
    fn what_is_no_tool_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let refused =
            |path: PathBuf| Toolbox::new(&[Tool { name: "t".into(), path }]).unwrap_err().to_string();
        assert!(refused(dir.path().join("missing")).contains("--tool t=PATH"));
        assert!(refused(dir.path().into()).contains("neither"), "a folder without a bin");
        write(&dir.path().join("text"), "x");
        assert!(refused(dir.path().join("text")).contains("neither"), "not executable");
        program(&dir.path().join("a:b/tool"), "x");
        assert!(refused(dir.path().join("a:b/tool")).contains("colon"));
    }
}
