use std::ffi::OsStr;
use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{symlink, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use tempfile::TempDir;

use super::*;
use crate::files::Files;
use crate::objects::{ObjectError, ObjectId, Objects};

/// A folder with these files; a name with a `*` is executable.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = dir.path().join(name.trim_end_matches('*'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        let mode = if name.ends_with('*') { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    dir
}

fn packed(dir: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    Folder::open(dir).unwrap().reader().read_to_end(&mut bytes).unwrap();
    bytes
}

fn small() -> TempDir {
    folder(&[("b/run*", b"#!/bin/sh\n"), ("b/empty", b""), ("a", b"abc"), ("z/y/x/w", &[7; 300])])
}

fn threads(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

#[test]
fn a_folder_is_packed_and_unpacked() {
    let dir = small();
    let bytes = packed(dir.path());
    let listed = listing(&mut bytes.as_slice()).unwrap();
    let named: Vec<_> = listed.iter().map(|f| (f.path.as_str(), f.executable, f.bytes)).collect();
    let expected = [("a", false, 3), ("b/empty", false, 0), ("b/run", true, 10), ("z/y/x/w", false, 300)];
    assert_eq!(named, expected);
    let contents = [b"abc".as_slice(), b"#!/bin/sh\n", &[7; 300]].concat();
    assert_eq!(bytes, [encode_listing(&listed).unwrap(), contents].concat());

    let out = dir.path().join("out");
    assert_eq!(unpack(&mut bytes.as_slice(), &out).unwrap(), listed);
    assert_eq!(packed(&out), bytes);
    assert!(unpack(&mut bytes.as_slice(), &out).is_err(), "it exists");
    assert_eq!(packed(&out), bytes, "and is not touched");
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(packed(empty.path()), b"BPFOLD1\0\0\0\0\0");
}

#[test]
fn one_folder_has_one_encoding() {
    let (one, other) = (small(), small());
    let a = other.path().join("a");
    fs::create_dir_all(other.path().join("empty/folders")).unwrap();
    File::options().write(true).open(&a).unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    fs::set_permissions(&a, fs::Permissions::from_mode(0o466)).unwrap();
    fs::set_permissions(other.path().join("z"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(packed(one.path()), packed(other.path()));
    // Each thing that is part of it is another encoding.
    fs::set_permissions(&a, fs::Permissions::from_mode(0o755)).unwrap();
    assert_ne!(packed(one.path()), packed(other.path()));
    fs::set_permissions(&a, fs::Permissions::from_mode(0o644)).unwrap();
    fs::rename(&a, other.path().join("aa")).unwrap();
    assert_ne!(packed(one.path()), packed(other.path()));
}

#[test]
fn its_digest_is_that_of_its_bytes_on_any_number_of_threads() {
    let big: Vec<u8> = (0..2_500_000u32).map(|i| (i >> 5) as u8).collect();
    let names: Vec<String> = (0..500).map(|i| format!("many/{:02}/{i}", i % 16)).collect();
    let mut files: Vec<(&str, &[u8])> =
        names.iter().enumerate().map(|(i, name)| (name.as_str(), &big[..i * 3])).collect();
    files.extend([("big", big.as_slice()), ("zero", b"")]);
    let dir = folder(&files);
    let bytes = packed(dir.path());
    let expected = (ObjectId::of_bytes(&bytes), bytes.len() as u64);
    let folder = Folder::open(dir.path()).unwrap();
    for n in [1, 2, 5] {
        assert_eq!(folder.digest(threads(n)).unwrap(), expected, "{n} threads");
    }
    // At any place, in pieces of any length.
    for (at, len) in [(0, 1), (3, 10), (12_000, 5_000), (bytes.len() - 7, 100), (bytes.len(), 1)] {
        let mut piece = vec![0; len];
        let n = crate::storage::ReadAt::read_at(&folder, &mut piece, at as u64).unwrap();
        assert_eq!(piece[..n], bytes[at..(at + len).min(bytes.len())]);
    }
}

#[test]
fn what_is_no_file_and_no_folder_is_refused_by_name() {
    let refused = |put: &dyn Fn(&Path)| {
        let dir = small();
        put(&dir.path().join("b"));
        Folder::open(dir.path()).unwrap_err()
    };
    let link = refused(&|b| symlink("run", b.join("link")).unwrap());
    assert!(
        matches!(&link, FolderError::NotPlain { path, kind: "a link" } if path.ends_with("b/link")),
        "{link}"
    );
    let pipe = refused(&|b| {
        assert!(Command::new("mkfifo").arg(b.join("pipe")).status().unwrap().success());
    });
    assert!(
        matches!(&pipe, FolderError::NotPlain { path, kind: "a pipe" } if path.ends_with("b/pipe")),
        "{pipe}"
    );
    let socket = refused(&|b| drop(UnixListener::bind(b.join("socket")).unwrap()));
    assert!(matches!(&socket, FolderError::NotPlain { kind: "a socket", .. }), "{socket}");
    // Apple's file system has no name that is not UTF-8.
    let foreign = cfg!(target_os = "linux").then_some(b"\xff".as_slice());
    for name in [b"a\\b".as_slice(), b"a\nb"].into_iter().chain(foreign) {
        let named = refused(&|b| fs::write(b.join(OsStr::from_bytes(name)), b"").unwrap());
        assert!(
            matches!(&named, FolderError::Name { path } if path.parent().unwrap().ends_with("b")),
            "{named}"
        );
    }
    let dir = small();
    symlink("b", dir.path().join("c")).unwrap();
    for top in ["c", "c/", "a"] {
        let refused = Folder::open(&dir.path().join(top)).unwrap_err();
        assert!(matches!(refused, FolderError::NotPlain { .. }), "{top}: {refused}");
    }
    assert!(Folder::open(&dir.path().join("b/")).is_ok());
    assert!(matches!(Folder::open(&dir.path().join("absent")), Err(FolderError::File(_))));
    let mut deep = dir.path().to_owned();
    (0..=FOLDER_DEPTH).for_each(|_| deep.push("d"));
    fs::create_dir_all(&deep).unwrap();
    fs::remove_file(dir.path().join("c")).unwrap();
    assert!(matches!(Folder::open(dir.path()), Err(FolderError::Limit { .. })));
    fs::remove_dir(&deep).unwrap();
    fs::write(deep.parent().unwrap().join("file"), b"").unwrap();
    assert!(Folder::open(dir.path()).is_ok());
}

#[test]
fn a_change_after_the_listing_is_found_and_no_link_is_followed() {
    let outside = folder(&[("w", &[7; 300])]);
    type Change<'a> = (&'a str, &'a dyn Fn(&Path));
    let changes: [Change<'_>; 6] = [
        ("a", &|dir| fs::write(dir.join("a"), b"abcd").unwrap()),
        ("a", &|dir| fs::remove_file(dir.join("a")).unwrap()),
        ("a", &|dir| {
            fs::rename(dir.join("a"), dir.join("old")).unwrap();
            fs::write(dir.join("a"), b"abc").unwrap();
        }),
        ("z/y/x/w", &|dir| {
            fs::remove_file(dir.join("z/y/x/w")).unwrap();
            symlink(outside.path().join("w"), dir.join("z/y/x/w")).unwrap();
        }),
        ("z/y/x/w", &|dir| {
            fs::remove_dir_all(dir.join("z/y/x")).unwrap();
            symlink(outside.path(), dir.join("z/y/x")).unwrap();
        }),
        ("z/y/x/w", &|dir| {
            fs::remove_dir_all(dir.join("z/y")).unwrap();
            fs::write(dir.join("z/y"), b"").unwrap();
        }),
    ];
    for (i, (name, change)) in changes.iter().enumerate() {
        let dir = small();
        let folder = Folder::open(dir.path()).unwrap();
        folder.digest(threads(1)).unwrap();
        change(dir.path());
        let refused = folder.digest(threads(1)).unwrap_err();
        assert!(matches!(&refused, FolderError::Changed { path } if path.ends_with(name)), "{i}: {refused}");
        let read = folder.reader().read_to_end(&mut Vec::new()).unwrap_err();
        assert!(read.to_string().contains(name), "{i}: {read}");
    }
    // What is swapped as a whole is read as it was opened.
    let dir = small();
    let (whole, moved) = (dir.path().join("z"), dir.path().join("moved"));
    let folder = Folder::open(&whole).unwrap();
    let before = folder.digest(threads(1)).unwrap();
    fs::rename(&whole, &moved).unwrap();
    symlink(outside.path(), &whole).unwrap();
    assert_eq!(folder.digest(threads(1)).unwrap(), before);
}

/// What is taken is the one encoding of what it holds.
fn taken(bytes: &[u8]) -> bool {
    let mut contents = Vec::new();
    let read = read(&mut { bytes }, |_, file| {
        file.read_to_end(&mut contents).map(drop).map_err(FolderError::Source)
    });
    read.is_ok_and(|files| {
        assert_eq!([encode_listing(&files).unwrap(), contents].concat(), bytes);
        true
    })
}

#[test]
fn every_prefix_is_refused_and_what_is_taken_has_one_encoding() {
    let bytes = packed(small().path());
    assert!(taken(&bytes));
    for len in 0..bytes.len() {
        assert!(!taken(&bytes[..len]), "{len} bytes");
    }
    assert!(!taken(&[&bytes[..], b"\0"].concat()));
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut other = bytes.clone();
            other[at] ^= 1 << bit;
            taken(&other);
        }
    }
}

#[test]
fn paths_that_lead_elsewhere_and_lengths_that_cannot_be_are_refused() {
    let raw = |files: &[(&str, u64)]| {
        let mut bytes = [MAGIC.as_slice(), &(files.len() as u32).to_le_bytes()].concat();
        for (path, len) in files {
            bytes.extend((path.len() as u16).to_le_bytes());
            bytes.extend(path.as_bytes());
            bytes.push(0);
            bytes.extend(len.to_le_bytes());
        }
        bytes
    };
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    let refused = |files: &[(&str, u64)]| {
        let refused = unpack(&mut raw(files).as_slice(), &out).unwrap_err();
        assert!(!out.exists() && fs::read_dir(parent.path()).unwrap().count() == 0, "{refused}");
        refused
    };
    for path in ["../a", "/a", "a/../../b", "a//b", "./a", "a/", "", "a\\b", "a\0"] {
        assert!(matches!(refused(&[(path, 0)]), FolderError::Path { .. }), "{path:?}");
    }
    assert!(matches!(refused(&[("b", 0), ("a", 0)]), FolderError::Path { .. }));
    assert!(matches!(refused(&[("a", 0), ("a", 0)]), FolderError::Path { .. }));
    let inside = refused(&[("a", 0), ("a-b", 0), ("a-b.c", 0), ("a/b", 0)]);
    assert!(matches!(&inside, FolderError::Inside { file, .. } if file == "a"), "{inside}");
    let inside = refused(&[("x", 0), ("x/y/z", 0)]);
    assert!(matches!(&inside, FolderError::Inside { file, .. } if file == "x"), "{inside}");
    assert!(taken(&raw(&[("a-b", 0), ("a.b", 0), ("a/b", 0), ("ab", 0)])));
    assert!(
        matches!(refused(&[("a", 1 << 40)]), FolderError::Truncated { missing, .. } if missing == 1 << 40)
    );
    assert!(matches!(refused(&[("a", u64::MAX)]), FolderError::Limit { what: "bytes", .. }));
    assert!(matches!(refused(&[("a", 1 << 62), ("b", 1)]), FolderError::Limit { what: "bytes", .. }));
    assert!(matches!(refused(&[("a/".repeat(200).as_str(), 0)]), FolderError::Path { .. }));
    let deep = "a/".repeat(FOLDER_DEPTH + 1) + "a";
    assert!(matches!(refused(&[(&deep, 0)]), FolderError::Limit { .. }));
    assert!(taken(&raw(&[(&deep[2..], 0)])));
    let huge = [MAGIC.as_slice(), &u32::MAX.to_le_bytes()].concat();
    assert!(matches!(listing(&mut huge.as_slice()), Err(FolderError::Malformed { offset: 8, .. })));
    let long = raw(&[("a".repeat(FOLDER_PATH_BYTES + 1).as_str(), 0)]);
    assert!(matches!(listing(&mut long.as_slice()), Err(FolderError::Malformed { offset: 12, .. })));
}

#[test]
fn a_folder_is_an_object_and_a_damaged_one_is_not_unpacked() {
    let (dir, store) = (small(), tempfile::tempdir().unwrap());
    for folder in ["objects", "tmp"] {
        fs::create_dir(store.path().join(folder)).unwrap();
    }
    let at = |name: &str| store.path().join(name);
    let objects = Objects::new(Files::on_disk(), at("objects"), at("tmp"), threads(2));
    let folder = Folder::open(dir.path()).unwrap();
    let (id, len) = objects.put_stream(&mut folder.reader()).unwrap();
    assert_eq!(folder.digest(threads(2)).unwrap(), (id, len));
    assert_eq!(objects.unpack_to(&id, &at("out")).unwrap(), folder.files());
    assert_eq!(packed(&at("out")), objects.get(&id).unwrap());
    let there = objects.unpack_to(&id, &at("out")).unwrap_err();
    assert!(matches!(there, ObjectError::Folder { source: FolderError::File(_), .. }), "{there}");
    assert_eq!(packed(&at("out")), objects.get(&id).unwrap());

    let good = fs::read(objects.path(&id)).unwrap();
    for at_byte in (0..good.len()).step_by(19) {
        let mut bad = good.clone();
        bad[at_byte] ^= 1;
        fs::write(objects.path(&id), &bad).unwrap();
        let refused = objects.unpack_to(&id, &at("bad")).unwrap_err();
        assert!(matches!(refused, ObjectError::Damaged { .. }), "byte {at_byte}: {refused}");
        assert!(!at("bad").exists());
    }
    let file = objects.put(b"no folder").unwrap();
    let refused = objects.unpack_to(&file, &at("bad")).unwrap_err();
    assert!(
        matches!(refused, ObjectError::Folder { source: FolderError::Malformed { .. }, .. }),
        "{refused}"
    );
}
