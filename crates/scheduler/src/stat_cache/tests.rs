use std::cell::Cell;
use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt as _};
use std::time::SystemTime;

use tempfile::TempDir;

use super::moment::FOREIGN_NS;
use super::*;

struct Scene {
    dir: TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        Self { dir }
    }

    fn cache_path(&self) -> PathBuf {
        self.dir.path().join("cache/stat")
    }

    fn cache(&self) -> StatCache {
        StatCache::open(&Files::on_disk(), &self.cache_path(), NonZeroUsize::new(2).unwrap())
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.data().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Returns when the file system's clock has gone on.
    fn tick(&self, cache: &StatCache) {
        let now = || cache.kept.as_ref().unwrap().clock.now().unwrap().ns;
        let before = now();
        while now() <= before {}
    }
}

fn of(bytes: &[u8]) -> (ObjectId, u64) {
    (ObjectId::of_bytes(bytes), bytes.len() as u64)
}

fn hashed(cache: &StatCache) -> u64 {
    cache.counts().hashed
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

fn set_modified(path: &Path, time: SystemTime) {
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn an_unchanged_file_is_hashed_once_and_every_change_is_seen() {
    let scene = Scene::new();
    let path = scene.write("f", b"one");
    let cache = scene.cache();
    scene.tick(&cache);
    assert_eq!(cache.digest_file(&path).unwrap(), of(b"one"));
    assert_eq!(cache.digest_file(&path).unwrap(), of(b"one"));
    assert_eq!(cache.counts(), StatCounts { known: 1, hashed: 1 });
    cache.save().unwrap();

    type Change<'a> = (&'a str, &'a [u8], &'a dyn Fn());
    let changes: [Change<'_>; 4] = [
        ("touched", b"one", &|| set_modified(&path, SystemTime::UNIX_EPOCH)),
        ("another mode", b"one", &|| {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }),
        ("written, its time set back", b"two", &|| {
            let time = modified(&path);
            fs::write(&path, b"two").unwrap();
            set_modified(&path, time);
        }),
        ("replaced by one of the same length and time", b"six", &|| {
            let other = scene.write("other", b"six");
            set_modified(&other, modified(&path));
            fs::rename(&other, &path).unwrap();
        }),
    ];
    for (what, bytes, change) in changes {
        let cache = scene.cache();
        let before = cache.digest_file(&path).unwrap();
        assert_eq!(hashed(&cache), 0, "before it is {what}, {before:?} is known");
        scene.tick(&cache);
        change();
        scene.tick(&cache);
        assert_eq!(cache.digest_file(&path).unwrap(), of(bytes), "{what}");
        assert_eq!(hashed(&cache), 1, "{what}");
        cache.save().unwrap();
    }
}

#[test]
fn a_file_that_is_as_new_as_the_moment_is_hashed_again() {
    let scene = Scene::new();
    let path = scene.write("f", b"one");
    let cache = scene.cache();
    let stat = FileStat::of(&path).unwrap();
    let at = |device, ns| Moment { device, ns }.is_after(&stat);
    assert!(!at(stat.device, stat.newest_ns()), "it may change within the granule");
    assert!(at(stat.device, stat.newest_ns() + 1));
    assert!(!at(stat.device + 1, stat.newest_ns() + FOREIGN_NS), "another clock");
    assert!(at(stat.device + 1, stat.newest_ns() + FOREIGN_NS + 1));
    // A file from the future is never old enough.
    set_modified(&path, modified(&path) + std::time::Duration::from_secs(1000));
    scene.tick(&cache);
    for times in 1..=3 {
        assert_eq!(cache.digest_file(&path).unwrap(), of(b"one"));
        assert_eq!(hashed(&cache), times);
    }
    set_modified(&path, SystemTime::UNIX_EPOCH);
    scene.tick(&cache);
    cache.digest_file(&path).unwrap();
    cache.digest_file(&path).unwrap();
    assert_eq!(hashed(&cache), 4, "an old one is hashed once more");
}

#[test]
fn a_change_of_the_same_length_right_after_is_never_missed() {
    let scene = Scene::new();
    let cache = scene.cache();
    let path = scene.write("f", b"0000");
    for i in 0..2000u32 {
        let bytes = i.to_le_bytes();
        let time = modified(&path);
        fs::File::options()
            .write(true)
            .open(&path)
            .and_then(|mut f| io::Write::write_all(&mut f, &bytes))
            .unwrap();
        if i % 2 == 0 {
            set_modified(&path, time);
        }
        assert_eq!(cache.digest_file(&path).unwrap(), of(&bytes), "change {i}");
    }
}

#[test]
fn a_folder_is_hashed_once_and_every_change_is_seen() {
    let scene = Scene::new();
    let script = scene.write("b/run", b"#!/bin/sh\n");
    scene.write("a", b"abc");
    let digest = |cache: &StatCache| cache.digest_folder(&scene.data()).unwrap();
    let cache = scene.cache();
    scene.tick(&cache);
    let first = digest(&cache);
    assert_eq!(digest(&cache), first);
    assert_eq!(cache.counts(), StatCounts { known: 1, hashed: 1 });
    cache.save().unwrap();
    let changes: [(&str, bool, &dyn Fn()); 6] = [
        ("an empty folder is made", true, &|| fs::create_dir(scene.data().join("e")).unwrap()),
        ("a file is made", false, &|| drop(scene.write("c", b""))),
        ("a file is renamed", false, &|| fs::rename(scene.data().join("c"), scene.data().join("d")).unwrap()),
        ("a file is removed", true, &|| fs::remove_file(scene.data().join("d")).unwrap()),
        ("a file is made executable", false, &|| {
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        }),
        ("a file is written", false, &|| drop(scene.write("a", b"abd"))),
    ];
    for (what, same, change) in changes {
        change();
        let cache = scene.cache();
        scene.tick(&cache);
        let fresh = Folder::open(&scene.data()).unwrap().digest(NonZeroUsize::MIN).unwrap();
        assert_eq!(digest(&cache), fresh, "{what}");
        assert_eq!(fresh == first, same, "{what}");
        assert_eq!(hashed(&cache), u64::from(!same), "{what}");
    }
    symlink("a", scene.data().join("link")).unwrap();
    assert!(matches!(scene.cache().digest_folder(&scene.data()), Err(FolderError::NotPlain { .. })));
}

#[test]
fn a_damaged_file_is_an_empty_cache() {
    let scene = Scene::new();
    let path = scene.write("f", b"one");
    let cache = scene.cache();
    scene.tick(&cache);
    cache.digest_file(&path).unwrap();
    cache.save().unwrap();
    let good = fs::read(scene.cache_path()).unwrap();
    let hashed_with = |bytes: &[u8]| {
        fs::remove_file(scene.cache_path()).unwrap();
        fs::write(scene.cache_path(), bytes).unwrap();
        let cache = scene.cache();
        assert_eq!(cache.digest_file(&path).unwrap(), of(b"one"));
        hashed(&cache)
    };
    assert_eq!(hashed_with(&good), 0, "an undamaged one is used");
    for at in 0..good.len() {
        assert_eq!(hashed_with(&good[..at]), 1, "{at} bytes of it");
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert_eq!(hashed_with(&bad), 1, "byte {at}");
    }
    assert_eq!(hashed_with(&[&good[..], b"\0"].concat()), 1);
    // Of another version, though its digest is right.
    let mut other = good[DIGEST_BYTES..].to_vec();
    other[0] += 1;
    let digest = Digest::<Content>::of_bytes(&other);
    assert_eq!(hashed_with(&[digest.as_bytes(), &other[..]].concat()), 1);
    fs::remove_file(scene.cache_path()).unwrap();
    fs::create_dir(scene.cache_path()).unwrap();
    let cache = scene.cache();
    assert_eq!(cache.digest_file(&path).unwrap(), of(b"one"));
    assert!(cache.save().is_err());
    assert_eq!(fs::read_dir(scene.cache_path().with_file_name("tmp")).unwrap().count(), 0);
}

#[test]
fn what_changes_while_it_is_read_is_read_again_and_not_for_ever() {
    let scene = Scene::new();
    let path = scene.write("f", b"0");
    let cache = scene.cache();
    let reads = Cell::new(0);
    let digest = |changes: usize| {
        reads.set(0);
        let hash = |_: &FileStat| {
            let bytes = fs::read(&path).unwrap();
            reads.set(reads.get() + 1);
            if reads.get() <= changes {
                fs::write(&path, [&bytes[..], b"1"].concat()).unwrap();
            }
            Ok(of(&bytes))
        };
        cache.digest(
            || FileStat::of(&path),
            hash,
            || FileError::at("read", &path)(io::Error::other("unstable")),
        )
    };
    assert_eq!(digest(0).unwrap(), of(b"0"));
    fs::write(&path, b"00").unwrap();
    assert_eq!(digest(2).unwrap(), of(b"0011"));
    assert_eq!(reads.get(), 3);
    fs::write(&path, b"000").unwrap();
    let error = digest(usize::MAX).unwrap_err();
    assert!(error.to_string().ends_with("unstable"), "{error}");
    assert_eq!(reads.get(), ATTEMPTS);
    assert!(matches!(cache.digest_file(&scene.data().join("absent")), Err(e) if e.is_not_found()));
    symlink("f", scene.data().join("link")).unwrap();
    assert!(cache.digest_file(&scene.data().join("link")).is_err());
}

#[test]
fn what_was_used_least_recently_goes_first() {
    let key = |i: u64| Digest::of_bytes(&i.to_le_bytes());
    let entry = |used| Entry { digest: ObjectId::of_bytes(b""), bytes: 0, used };
    let mut entries: BTreeMap<_, _> = (0..10).map(|i| (key(i), entry(i % 5))).collect();
    drop_oldest(&mut entries, 10);
    assert_eq!(entries.len(), 10);
    drop_oldest(&mut entries, 4);
    let left: Vec<bool> = (0..10).map(|i| entries.contains_key(&key(i))).collect();
    assert_eq!(left, (0..10).map(|i| i % 5 >= 3).collect::<Vec<_>>());
    // The largest cache is still read.
    let scene = Scene::new();
    let cache = scene.cache();
    {
        let mut state = cache.lock();
        state.saved.entries = (0..MAX_ENTRIES as u64 + 5).map(|i| (key(i), entry(i))).collect();
        state.grown = true;
    }
    cache.save().unwrap();
    assert_eq!(scene.cache().lock().saved.entries.len(), MAX_ENTRIES);
}

#[test]
fn processes_that_save_at_once_leave_a_whole_file_and_a_disabled_one_leaves_none() {
    let scene = Scene::new();
    let names: Vec<PathBuf> = (0..4).map(|i| scene.write(&format!("{i}"), &[i])).collect();
    let disabled = StatCache::disabled(NonZeroUsize::MIN);
    for times in 1..=2 {
        assert_eq!(disabled.digest_file(&names[0]).unwrap(), of(&[0]));
        assert_eq!(hashed(&disabled), times);
    }
    disabled.save().unwrap();
    assert!(!scene.cache_path().parent().unwrap().exists());
    std::thread::scope(|scope| {
        for name in &names {
            scope.spawn(|| {
                for _ in 0..20 {
                    let cache = scene.cache();
                    scene.tick(&cache);
                    cache.digest_file(name).unwrap();
                    cache.save().unwrap();
                }
            });
        }
    });
    let cache = scene.cache();
    assert!(!cache.lock().saved.entries.is_empty());
    for (name, i) in names.iter().zip(0u8..) {
        assert_eq!(cache.digest_file(name).unwrap(), of(&[i]));
    }
    assert_eq!(fs::read_dir(scene.cache_path().with_file_name("tmp")).unwrap().count(), 0);
}
