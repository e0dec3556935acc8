//! A disk in memory that loses power after a given write or sync, and shows what may be left then.
//!
//! The model is that of POSIX at its weakest: what was written to a file is lost unless the file was synced, and a name
//! is lost unless its folder was, in any combination. A rename is atomic. [`SimDisk::crashes`] lists what a disk may
//! hold after a stop: nothing that was not synced, all of it, names without contents, and the file that was
//! written last torn at each boundary of a sector.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{EntryKind, Held, LockMode, ReadAt, Storage, StoredFile};

/// What a disk writes at once.
pub const SECTOR_BYTES: usize = 512;

/// What happens at an operation that changes the disk. They are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The power fails before it: it and everything after it fails.
    PowerOff,
    /// It fails for want of space, and so does everything after it that needs some.
    DiskFull,
    /// It alone fails. A sync that fails has lost what it was to make durable.
    Error,
    /// From here on syncs report success and do nothing, as a disk with a false cache does.
    Lies,
}

/// What is left of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    Dropped,
    /// All of it.
    Kept,
    /// Names, and lengths of zero where contents were not synced.
    Names,
    /// All of it, but of the file that was written last only what lies before this sector.
    Torn(usize),
    /// All of it, but of the file that was written last this sector and all after it are zero.
    Zeroed(usize),
    /// All of it, but of the file that was written last this one sector is zero.
    Hole(usize),
}

type Id = usize;

#[derive(Debug, Clone)]
enum Node {
    File { durable: Vec<u8>, live: Vec<u8> },
    Folder { durable: BTreeMap<String, Id>, live: BTreeMap<String, Id> },
}

/// A change of names that no sync has made durable yet.
#[derive(Debug, Clone)]
enum Naming {
    Add { folder: Id, name: String, id: Id },
    Remove { folder: Id, name: String },
    Move { from: Id, old: String, to: Id, new: String, id: Id },
}

#[derive(Debug, Clone, Default)]
struct State {
    nodes: Vec<Node>,
    namings: Vec<Naming>,
    /// The file that was written last.
    last_written: Option<Id>,
    operations: u64,
    fault: Option<(u64, Fault)>,
    faulted: Option<Fault>,
    exclusive: BTreeSet<PathBuf>,
    shared: BTreeMap<PathBuf, usize>,
}

const ROOT: Id = 0;

/// A disk in memory.
#[derive(Debug, Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        let root = Node::Folder { durable: BTreeMap::new(), live: BTreeMap::new() };
        let state = State { nodes: vec![root], ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// The same disk, on which one operation will fail.
    #[must_use]
    pub fn failing(self, operation: u64, fault: Fault) -> Self {
        self.lock_state().fault = Some((operation, fault));
        self
    }

    /// How many operations have changed the disk, or tried to.
    pub fn operations(&self) -> u64 {
        self.lock_state().operations
    }

    /// Whether the fault has come.
    pub fn has_failed(&self) -> bool {
        self.lock_state().faulted.is_some()
    }

    /// What the disk may hold when the power fails now.
    pub fn crashes(&self) -> Vec<Left> {
        let state = self.lock_state();
        let mut left = vec![Left::Dropped, Left::Kept, Left::Names];
        if let Some(Node::File { durable, live }) = state.last_written.map(|id| &state.nodes[id]) {
            if durable != live {
                let common = durable.iter().zip(live).take_while(|(a, b)| a == b).count();
                for sector in common.div_ceil(SECTOR_BYTES)..live.len().div_ceil(SECTOR_BYTES) {
                    left.extend([Left::Torn(sector), Left::Zeroed(sector), Left::Hole(sector)]);
                }
            }
        }
        left
    }

    /// The disk after the power has failed and come back.
    #[must_use]
    pub fn after(&self, left: Left) -> Self {
        let state = self.lock_state();
        let mut nodes = state.nodes.clone();
        for (id, node) in nodes.iter_mut().enumerate() {
            match node {
                Node::Folder { durable, live } => match left {
                    Left::Dropped => live.clone_from(durable),
                    _ => durable.clone_from(live),
                },
                Node::File { durable, live } => {
                    let last = state.last_written == Some(id);
                    let changed = live != durable;
                    let from = |sector: usize| (sector * SECTOR_BYTES).min(live.len());
                    let (start, end) = match left {
                        Left::Dropped | Left::Names if changed => {
                            live.clone_from(durable);
                            (0, 0)
                        }
                        Left::Torn(sector) if last && changed => {
                            live.truncate(from(sector));
                            (0, 0)
                        }
                        Left::Zeroed(sector) if last && changed => (from(sector), live.len()),
                        Left::Hole(sector) if last && changed => (from(sector), from(sector + 1)),
                        _ => (0, 0),
                    };
                    live[start..end].fill(0);
                    durable.clone_from(live);
                }
            }
        }
        let state = State { nodes, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation that changes the disk, and fails it when its time has come.
    fn change(&self, needs_space: bool) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock_state();
        let operation = state.operations;
        state.operations += 1;
        let now = match (state.faulted, state.fault) {
            (Some(Fault::PowerOff), _) => Some(Fault::PowerOff),
            (Some(Fault::DiskFull), _) if needs_space => Some(Fault::DiskFull),
            (None, Some((at, Fault::DiskFull))) if operation >= at && needs_space => Some(Fault::DiskFull),
            (None, Some((at, fault))) if operation == at && fault != Fault::DiskFull => Some(fault),
            _ => None,
        };
        let Some(fault) = now else { return Ok(state) };
        state.faulted = Some(fault);
        if fault == Fault::Lies {
            return Ok(state);
        }
        Err(match fault {
            Fault::DiskFull => io::Error::from(io::ErrorKind::StorageFull),
            Fault::PowerOff | Fault::Error | Fault::Lies => {
                io::Error::other(format!("simulated fault at operation {operation}"))
            }
        })
    }

    fn look(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.lock_state();
        if state.faulted == Some(Fault::PowerOff) {
            return Err(io::Error::other("the power is off"));
        }
        Ok(state)
    }
}

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

fn parts(path: &Path) -> Vec<String> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    });
    names.collect()
}

impl State {
    fn find(&self, path: &Path) -> io::Result<Id> {
        parts(path).iter().try_fold(ROOT, |folder, name| match &self.nodes[folder] {
            Node::Folder { live, .. } => live.get(name).copied().ok_or_else(not_found),
            Node::File { .. } => Err(io::Error::from(io::ErrorKind::NotADirectory)),
        })
    }

    fn parent(&self, path: &Path) -> io::Result<(Id, String)> {
        let mut names = parts(path);
        let name = names.pop().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let folder = self.find(&names.iter().collect::<PathBuf>())?;
        match self.nodes[folder] {
            Node::Folder { .. } => Ok((folder, name)),
            Node::File { .. } => Err(io::Error::from(io::ErrorKind::NotADirectory)),
        }
    }

    fn names(&mut self, folder: Id) -> &mut BTreeMap<String, Id> {
        match &mut self.nodes[folder] {
            Node::Folder { live, .. } => live,
            Node::File { .. } => unreachable!("a parent is a folder"),
        }
    }

    fn add(&mut self, folder: Id, name: String, id: Id) {
        self.names(folder).insert(name.clone(), id);
        self.namings.push(Naming::Add { folder, name, id });
    }

    fn make(&mut self, folder: Id, name: String, node: Node) -> Id {
        let id = self.nodes.len();
        self.nodes.push(node);
        self.add(folder, name, id);
        id
    }

    fn kind(&self, id: Id) -> EntryKind {
        match &self.nodes[id] {
            Node::File { live, .. } => EntryKind::File(live.len() as u64),
            Node::Folder { .. } => EntryKind::Folder,
        }
    }

    fn durable_names(&mut self, folder: Id) -> &mut BTreeMap<String, Id> {
        match &mut self.nodes[folder] {
            Node::Folder { durable, .. } => durable,
            Node::File { .. } => unreachable!("names lie in folders"),
        }
    }

    fn sync_names(&mut self, folder: Id) {
        for naming in std::mem::take(&mut self.namings) {
            let touches = match &naming {
                Naming::Add { folder: f, .. } | Naming::Remove { folder: f, .. } => *f == folder,
                Naming::Move { from, to, .. } => *from == folder || *to == folder,
            };
            if !touches {
                self.namings.push(naming);
                continue;
            }
            match naming {
                Naming::Add { folder, name, id } => drop(self.durable_names(folder).insert(name, id)),
                Naming::Remove { folder, name } => drop(self.durable_names(folder).remove(&name)),
                Naming::Move { from, old, to, new, id } => {
                    self.durable_names(from).remove(&old);
                    self.durable_names(to).insert(new, id);
                }
            }
        }
    }
}

const EMPTY_FILE: Node = Node::File { durable: Vec::new(), live: Vec::new() };

impl SimDisk {
    fn handle(&self, id: Id) -> Box<dyn StoredFile> {
        Box::new(SimFile { disk: self.clone(), id })
    }
}

impl Storage for SimDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        let state = self.look()?;
        let id = state.find(path)?;
        match state.kind(id) {
            EntryKind::File(_) => Ok(self.handle(id)),
            _ => Err(super::not_regular()),
        }
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        let mut state = self.change(true)?;
        let (folder, name) = state.parent(path)?;
        if state.names(folder).contains_key(&name) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let id = state.make(folder, name, EMPTY_FILE);
        Ok(self.handle(id))
    }

    fn open_or_create(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        match self.open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.create_new(path),
            opened => opened,
        }
    }

    fn entry(&self, path: &Path) -> io::Result<EntryKind> {
        let state = self.look()?;
        let id = state.find(path)?;
        Ok(state.kind(id))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, EntryKind)>> {
        let state = self.look()?;
        match &state.nodes[state.find(dir)?] {
            Node::Folder { live, .. } => {
                Ok(live.iter().map(|(name, id)| (name.clone(), state.kind(*id))).collect())
            }
            Node::File { .. } => Err(io::Error::from(io::ErrorKind::NotADirectory)),
        }
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut made = PathBuf::new();
        for name in parts(dir) {
            made.push(&name);
            let found = self.look()?.find(&made);
            if found.is_err() {
                let mut state = self.change(true)?;
                let (folder, name) = state.parent(&made)?;
                state.make(folder, name, Node::Folder { durable: BTreeMap::new(), live: BTreeMap::new() });
            }
        }
        Ok(())
    }

    fn link_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.change(true)?;
        let id = state.find(from)?;
        let (folder, name) = state.parent(to)?;
        if state.names(folder).contains_key(&name) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        state.add(folder, name, id);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.change(true)?;
        let id = state.find(from)?;
        let ((from, old), (to, new)) = (state.parent(from)?, state.parent(to)?);
        state.names(from).remove(&old);
        state.names(to).insert(new.clone(), id);
        state.namings.push(Naming::Move { from, old, to, new, id });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.change(false)?;
        state.find(path)?;
        let (folder, name) = state.parent(path)?;
        state.names(folder).remove(&name);
        state.namings.push(Naming::Remove { folder, name });
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.change(false)?;
        let folder = state.find(dir)?;
        if state.faulted != Some(Fault::Lies) {
            state.sync_names(folder);
        }
        Ok(())
    }

    fn lock(&self, path: &Path, mode: LockMode, _wait: bool) -> io::Result<Option<Held>> {
        let mut state = self.look()?;
        let shared = state.shared.get(path).copied().unwrap_or(0);
        if state.exclusive.contains(path) || (mode == LockMode::Exclusive && shared > 0) {
            return Ok(None);
        }
        match mode {
            LockMode::Exclusive => drop(state.exclusive.insert(path.to_owned())),
            LockMode::Shared => *state.shared.entry(path.to_owned()).or_default() += 1,
        }
        Ok(Some(Box::new(SimLock { disk: self.clone(), path: path.to_owned(), mode })))
    }
}

struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    mode: LockMode,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.lock_state();
        match self.mode {
            LockMode::Exclusive => drop(state.exclusive.remove(&self.path)),
            LockMode::Shared => {
                if let Some(count) = state.shared.get_mut(&self.path) {
                    *count -= 1;
                }
            }
        }
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    id: Id,
}

impl ReadAt for SimFile {
    fn size(&self) -> io::Result<u64> {
        match self.disk.look()?.kind(self.id) {
            EntryKind::File(len) => Ok(len),
            _ => Err(super::not_regular()),
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.look()?;
        let Node::File { live, .. } = &state.nodes[self.id] else { return Err(super::not_regular()) };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(live.len());
        let n = buffer.len().min(live.len() - start);
        buffer[..n].copy_from_slice(&live[start..start + n]);
        Ok(n)
    }
}

impl StoredFile for SimFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.change(true)?;
        state.last_written = Some(self.id);
        if let Node::File { live, .. } = &mut state.nodes[self.id] {
            live.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.disk.change(false)?;
        state.last_written = Some(self.id);
        if let Node::File { live, .. } = &mut state.nodes[self.id] {
            live.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let failed = self.disk.change(false).err();
        let mut state = self.disk.lock_state();
        let (powered, lies) = (state.faulted != Some(Fault::PowerOff), state.faulted == Some(Fault::Lies));
        if let Node::File { durable, live } = &mut state.nodes[self.id] {
            match failed {
                None if lies => {}
                None => durable.clone_from(live),
                // The system forgets what it could not write: a later sync does not bring it back.
                Some(_) if powered => live.clone_from(durable),
                Some(_) => {}
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
        let file = disk.open(Path::new(path)).ok()?;
        super::super::Reading::new(&*file).to_end(1 << 20).ok()
    }

    #[test]
    fn what_was_synced_stays_and_the_rest_may_be_lost_in_parts() {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/d")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let mut file = disk.create_new(Path::new("/d/f")).unwrap();
        file.append(&[1; 700]).unwrap();
        assert_eq!(content(&disk.after(Left::Dropped), "/d/f"), None, "no name was synced");
        assert_eq!(content(&disk.after(Left::Names), "/d/f").unwrap(), b"");
        assert_eq!(content(&disk.after(Left::Kept), "/d/f").unwrap(), [1; 700]);
        file.sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        assert_eq!(content(&disk.after(Left::Dropped), "/d/f").unwrap(), [1; 700]);
        file.append(&[2; 900]).unwrap();
        let sectors = |make: fn(usize) -> Left| [2, 3].map(make);
        let expected = [Left::Dropped, Left::Kept, Left::Names];
        let torn: Vec<Left> =
            [2usize, 3].iter().flat_map(|&s| [Left::Torn(s), Left::Zeroed(s), Left::Hole(s)]).collect();
        assert_eq!(disk.crashes(), [expected.as_slice(), &torn].concat());
        for left in sectors(Left::Torn) {
            let Left::Torn(sector) = left else { unreachable!() };
            assert_eq!(content(&disk.after(left), "/d/f").unwrap().len(), sector * SECTOR_BYTES);
        }
        let hole = content(&disk.after(Left::Hole(2)), "/d/f").unwrap();
        assert_eq!((hole[1023], hole[1024], hole[1535], hole[1536]), (2, 0, 0, 2));
    }

    #[test]
    fn faults_come_when_they_are_due() {
        let disk = SimDisk::new().failing(1, Fault::PowerOff);
        let mut file = disk.create_new(Path::new("/f")).unwrap();
        assert!(file.append(b"x").is_err() && disk.has_failed());
        assert!(disk.entry(Path::new("/f")).is_err(), "the power is off");
        let disk = SimDisk::new().failing(2, Fault::Error);
        let mut file = disk.create_new(Path::new("/f")).unwrap();
        file.append(b"x").unwrap();
        assert!(file.sync().is_err());
        file.sync().unwrap();
        assert_eq!(content(&disk, "/f").unwrap(), b"", "a failed sync has lost it");
        let disk = SimDisk::new().failing(1, Fault::DiskFull);
        let mut file = disk.create_new(Path::new("/f")).unwrap();
        assert_eq!(file.append(b"x").unwrap_err().kind(), io::ErrorKind::StorageFull);
        file.sync().unwrap();
        assert!(file.append(b"y").is_err());
    }

    #[test]
    fn a_rename_is_atomic() {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/a")).unwrap();
        disk.create_dir_all(Path::new("/b")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let mut file = disk.create_new(Path::new("/a/f")).unwrap();
        file.append(b"x").unwrap();
        file.sync().unwrap();
        disk.sync_dir(Path::new("/a")).unwrap();
        disk.rename(Path::new("/a/f"), Path::new("/b/g")).unwrap();
        let dropped = disk.after(Left::Dropped);
        assert!(content(&dropped, "/a/f").is_some() && content(&dropped, "/b/g").is_none());
        disk.sync_dir(Path::new("/b")).unwrap();
        let dropped = disk.after(Left::Dropped);
        assert!(content(&dropped, "/a/f").is_none() && content(&dropped, "/b/g").is_some());
    }
}
