use std::fs;
use std::os::unix::fs::{symlink, MetadataExt as _};

use super::*;
use crate::storage::sim::{Fault, Left, SimDisk};

fn on_disk(dir: &Path) -> Objects {
    let staging = dir.join("tmp");
    fs::create_dir(&staging).unwrap();
    fs::create_dir(dir.join("objects")).unwrap();
    Objects::new(Files::on_disk(), dir.join("objects"), staging, NonZeroUsize::MIN)
}

#[test]
fn what_was_put_is_got_and_damage_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let objects = on_disk(dir.path());
    let id = objects.put(b"hello").unwrap();
    assert_eq!(objects.put(b"hello").unwrap(), id);
    assert_eq!(objects.get(&id).unwrap(), b"hello");
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);

    let absent = ObjectId::of_bytes(b"absent");
    assert!(matches!(objects.get(&absent), Err(ObjectError::Missing { .. })));
    fs::write(objects.path(&id), b"hellp").unwrap();
    assert!(matches!(objects.get(&id), Err(ObjectError::Damaged { len: 5, .. })));
    assert!(matches!(objects.put(b"hello"), Err(ObjectError::Damaged { .. })));
}

#[test]
fn a_stream_is_stored_as_what_it_is_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let objects = on_disk(dir.path());
    let objects = Objects { threads: NonZeroUsize::new(3).unwrap(), ..objects };
    let bytes: Vec<u8> = (0..5_000_001u32).map(|i| (i >> 3) as u8).collect();
    let id = ObjectId::of_bytes(&bytes);
    let other = ObjectId::of_bytes(b"other");
    let refused = objects.put_reader(&other, &mut bytes.as_slice());
    assert!(matches!(refused, Err(ObjectError::NotThat { len: 5_000_001, .. })), "{refused:?}");
    assert!(!objects.contains(&other) && !objects.contains(&id));
    objects.put_reader(&id, &mut bytes.as_slice()).unwrap();
    assert_eq!(objects.verify(&id).unwrap(), 5_000_001);
    assert_eq!(objects.get(&id).unwrap(), bytes);
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0, "nothing is left over");
    // What is there already is verified, and the source is not asked.
    objects.put_reader(&id, &mut Failing).unwrap();
    fs::write(objects.path(&id), &bytes[1..]).unwrap();
    assert!(matches!(objects.put_reader(&id, &mut Failing), Err(ObjectError::Damaged { .. })));
}

struct Failing;

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("the source fails"))
    }
}

#[test]
fn a_source_that_fails_stores_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let objects = on_disk(dir.path());
    let id = ObjectId::of_bytes(b"x");
    let error = objects.put_reader(&id, &mut b"x".chain(Failing)).unwrap_err();
    assert!(error.to_string().contains("the source fails"), "{error}");
    assert!(!objects.contains(&id));
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn links_and_folders_are_no_objects() {
    let dir = tempfile::tempdir().unwrap();
    let objects = on_disk(dir.path());
    let id = objects.put(b"hello").unwrap();
    let path = objects.path(&id);
    let elsewhere = dir.path().join("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    symlink(&elsewhere, &path).unwrap();
    let refused = |objects: &Objects| {
        assert!(objects.get(&id).is_err() && objects.verify(&id).is_err() && !objects.contains(&id));
        assert!(objects.put(b"hello").is_err());
    };
    refused(&objects);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused(&objects);
    fs::remove_dir(&path).unwrap();
    fs::rename(&elsewhere, &path).unwrap();
    assert_eq!(objects.get(&id).unwrap(), b"hello");
}

#[test]
fn a_group_is_read_before_it_is_settled_and_goes_when_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let objects = on_disk(dir.path());
    let staged =
        || [b"one".as_slice(), b"two", b"", b"one"].map(|mut bytes| objects.stage(&mut bytes).unwrap());
    let left = || fs::read_dir(dir.path().join("tmp")).unwrap().count();
    for staged in staged() {
        let bytes = fs::read(staged.path()).unwrap();
        assert_eq!((ObjectId::of_bytes(&bytes), bytes.len() as u64), (*staged.id(), staged.len()));
        assert!(!objects.contains(staged.id()));
    }
    assert_eq!(left(), 0, "what is dropped is gone");
    let group = staged();
    assert_eq!(left(), 4);
    objects.settle(&group).unwrap();
    assert_eq!(left(), 4, "they may still be read there");
    drop(group);
    assert_eq!(left(), 0);
    for bytes in [b"one".as_slice(), b"two", b""] {
        assert_eq!(objects.get(&ObjectId::of_bytes(bytes)).unwrap(), bytes);
        assert_eq!(
            objects.put_stream(&mut { bytes }).unwrap(),
            (ObjectId::of_bytes(bytes), bytes.len() as u64)
        );
    }
    objects.settle([]).unwrap();
    fs::write(objects.path(&ObjectId::of_bytes(b"two")), b"twp").unwrap();
    assert!(matches!(objects.settle(&staged()), Err(ObjectError::Damaged { .. })));
    assert_eq!(left(), 0);
}

#[test]
fn a_copy_is_hashed_where_it_lies_and_shares_no_inode() {
    let dir = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..300_001u32).map(|i| (i >> 3) as u8).collect();
    let sim = Files::on(SimDisk::new());
    sim.create_dirs(Path::new("/s/tmp")).unwrap();
    let sim = Objects::new(sim, "/s/objects".into(), "/s/tmp".into(), NonZeroUsize::MIN);
    for (i, objects) in [on_disk(dir.path()), sim].into_iter().enumerate() {
        let id = objects.put(&bytes).unwrap();
        let copy = dir.path().join(format!("copy-{i}"));
        assert_eq!(objects.copy_to(&id, &copy).unwrap(), 300_001);
        assert_eq!(fs::read(&copy).unwrap(), bytes);
        assert!(objects.copy_to(&id, &copy).is_err(), "it exists");
        assert_eq!(fs::read(&copy).unwrap(), bytes, "and is not touched");
        assert_eq!(fs::metadata(&copy).unwrap().nlink(), 1);
        let link = dir.path().join(format!("link-{i}"));
        symlink(dir.path().join("elsewhere"), &link).unwrap();
        assert!(objects.copy_to(&id, &link).is_err() && !dir.path().join("elsewhere").exists());
        let absent = dir.path().join("absent");
        let refused = objects.copy_to(&ObjectId::of_bytes(b"absent"), &absent);
        assert!(matches!(refused, Err(ObjectError::Missing { .. })) && !absent.exists());
    }
    let objects = Objects::new(
        Files::on_disk(),
        dir.path().join("objects"),
        dir.path().join("tmp"),
        NonZeroUsize::new(2).unwrap(),
    );
    let id = ObjectId::of_bytes(&bytes);
    fs::write(objects.path(&id), &bytes[1..]).unwrap();
    let bad = dir.path().join("bad");
    let refused = objects.copy_to(&id, &bad);
    assert!(matches!(refused, Err(ObjectError::Damaged { len: 300_000, .. })), "{refused:?}");
    assert!(!bad.exists());
}

fn on_sim(disk: &SimDisk) -> Objects {
    let root = Path::new("/store");
    Objects::new(Files::on(disk.clone()), root.join("objects"), root.join("tmp"), NonZeroUsize::MIN)
}

fn empty_sim() -> SimDisk {
    let disk = SimDisk::new();
    let files = Files::on(disk.clone());
    for folder in ["/store/objects", "/store/tmp"] {
        files.create_dirs(Path::new(folder)).unwrap();
    }
    disk
}

/// Whatever the disk holds after a stop: an object is whole or absent, and whole when that was said.
#[test]
fn a_stop_at_any_operation_of_a_put_leaves_it_whole_or_absent() {
    // More than is written at once.
    let bytes: Vec<u8> = (0..1_050_000u32).map(|i| (i % 251) as u8 + 1).collect();
    let disks = stopped_everywhere(&empty_sim, &[&bytes], |objects| {
        objects.put_reader(&ObjectId::of_bytes(&bytes), &mut bytes.as_slice())
    });
    assert!(disks > 40, "{disks} disks");
}

#[test]
fn a_stop_at_any_operation_of_a_group_leaves_each_object_whole_or_absent() {
    // The first two share a folder, one is there already, and one comes twice.
    let folder = |bytes: &[u8]| ObjectId::of_bytes(bytes).to_string()[..2].to_owned();
    let second = (0u32..).map(u32::to_le_bytes).find(|bytes| folder(bytes) == folder(b"first")).unwrap();
    let group: [&[u8]; 5] = [b"first", &second, &[7; 1200], b"there", b"first"];
    let there = || {
        let disk = empty_sim();
        on_sim(&disk).put(b"there").unwrap();
        disk
    };
    let disks = stopped_everywhere(&there, &group, |objects| {
        let staged: Result<Vec<_>, _> = group.iter().map(|bytes| objects.stage(&mut { *bytes })).collect();
        objects.settle(&staged?)
    });
    assert!(disks > 150, "{disks} disks");
}

/// Stops `store`, which makes these contents objects, in each way at each operation, and looks at every disk that may be left.
/// Returns how many there were.
fn stopped_everywhere(
    before: &dyn Fn() -> SimDisk,
    contents: &[&[u8]],
    store: impl Fn(&Objects) -> Result<(), ObjectError>,
) -> usize {
    let whole = before();
    let first = whole.operations();
    store(&on_sim(&whole)).unwrap();
    let mut disks = 0;
    for operation in first..=whole.operations() {
        for fault in [Fault::PowerOff, Fault::Error, Fault::DiskFull] {
            let disk = before().failing(operation, fault);
            let done = store(&on_sim(&disk)).is_ok();
            let crashes = if fault == Fault::PowerOff { disk.crashes() } else { vec![Left::Kept] };
            // Every sector of a megabyte is more than a test needs: the first, the last and some between.
            let last = crashes.len() - 1;
            let chosen = crashes.iter().enumerate().filter(|(i, _)| i % 601 == 0 || *i < 9 || *i + 3 > last);
            for (_, left) in chosen {
                let disk = disk.after(*left);
                let objects = on_sim(&disk);
                let what = format!("{fault:?} at operation {operation}, {left:?}");
                for bytes in contents {
                    match objects.verify(&ObjectId::of_bytes(bytes)) {
                        Ok(len) => assert_eq!(len, bytes.len() as u64, "{what}"),
                        Err(ObjectError::Missing { .. }) => assert!(!done, "{what}: it was acknowledged"),
                        Err(error) => panic!("{what}: {error}"),
                    }
                }
                store(&objects).unwrap_or_else(|e| panic!("{what}: {e}"));
                disks += 1;
            }
        }
    }
    let lying = before().failing(first, Fault::Lies);
    store(&on_sim(&lying)).unwrap();
    let after = on_sim(&lying.after(Left::Dropped)).verify(&ObjectId::of_bytes(contents[0]));
    assert!(matches!(after, Err(ObjectError::Missing { .. })), "a disk that lies is seen to lose it");
    disks
}

#[test]
fn a_group_syncs_each_file_and_each_folder_once() {
    let disk = empty_sim();
    let objects = on_sim(&disk);
    let group: Vec<StagedObject> =
        (0u32..100).map(|i| objects.stage(&mut i.to_le_bytes().as_slice()).unwrap()).collect();
    let folders = objects.folders(group.iter().map(StagedObject::id)).len() as u64;
    let before = disk.operations();
    objects.settle(&group).unwrap();
    // Each file is synced and linked; each folder is made and synced, and the one above is synced.
    assert_eq!(disk.operations() - before, 2 * 100 + 2 * folders + 1);
}
