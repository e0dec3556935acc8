//! Logs, chains and objects, on a real disk.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, Read, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use bitproof_core_ledger::chain::Chain;
use bitproof_core_ledger::digest::{Content, Digest};
use bitproof_core_ledger::files::Files;
use bitproof_core_ledger::log::{self, Acknowledged, LogKind, LogWriter};
use bitproof_core_ledger::objects::{ObjectId, Objects};
use tempfile::TempDir;

use super::{emit_all, thread_counts, Emit};
use crate::harness::{Harness, Items, Unrepeatable};

/// Bytes of a record: its body and what chains it.
const RECORD_BYTES: usize = 200;
const LINK_BYTES: usize = 48;
const APPENDED: usize = 400_000;
/// Records that become durable with one sync.
const GROUP: usize = 8_000;
const VERIFIED: u64 = 1_000_000;
const OBJECT_BYTES: u64 = 1 << 30;

pub(super) fn run(harness: &Harness<'_>, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    let dir = scratch();
    append(harness, dir.path(), emit)?;
    verify(harness, dir.path(), emit)?;
    object(harness, dir.path(), emit)
}

/// A folder beside the program: where temporary files lie may be memory, in which a sync costs nothing.
pub(super) fn scratch() -> TempDir {
    let program = std::env::current_exe().expect("the program knows where it is");
    tempfile::tempdir_in(program.parent().unwrap_or(Path::new("."))).expect("the target folder is writable")
}

fn body(index: u64) -> [u8; RECORD_BYTES - LINK_BYTES] {
    let mut body = [0; RECORD_BYTES - LINK_BYTES];
    blake3::Hasher::new().update(&index.to_le_bytes()).finalize_xof().fill(&mut body);
    body
}

/// The chained records of a ledger, one after the other.
fn records(count: u64) -> Vec<Vec<u8>> {
    let mut chain = Chain::bound_to(&[0; 32]);
    (0..count).map(|index| chain.push(&body(index))).collect()
}

fn open(path: &Path) -> LogWriter {
    let opened = LogWriter::open(&Files::on_disk(), path, LogKind::LEDGER, Acknowledged::Unknown);
    opened.expect("the target folder is writable").0
}

fn append(harness: &Harness<'_>, dir: &Path, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    let records = records(APPENDED as u64);
    let (ours, theirs) = (dir.join("append"), dir.join("append-peer"));
    let work = || {
        let _ = fs::remove_file(&ours);
        let mut log = open(&ours);
        records.chunks(GROUP).for_each(|group| log.append(group).expect("the disk has room"));
    };
    let peer = || -> io::Result<()> {
        let mut file = File::create(&theirs)?;
        for group in records.chunks(GROUP) {
            file.write_all(&group.concat())?;
            file.sync_all()?;
        }
        Ok(())
    };
    let bytes = |(): &()| fs::read(&ours).expect("it was written");
    let items = Items { count: APPENDED as u64, of: "record" };
    emit(harness.measure_against(
        ("ledger/append", 1, items),
        work,
        bytes,
        "write and fsync of as many bytes, without frames",
        || peer().expect("the disk has room"),
    )?);
    Ok(())
}

fn verify(harness: &Harness<'_>, dir: &Path, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    let path = dir.join("verify");
    let records = records(VERIFIED);
    let mut log = open(&path);
    records.chunks(GROUP).for_each(|group| log.append(group).expect("the disk has room"));
    let files = Files::on_disk();
    let work = || {
        let mut chain = Chain::bound_to(&[0; 32]);
        let end =
            log::visit(&files, &path, LogKind::LEDGER, Acknowledged::Records(VERIFIED), |_, _, record| {
                chain.accept(record).expect("the chain is whole");
            });
        assert_eq!(end.expect("the file is whole").records, VERIFIED);
        chain.head()
    };
    let peer = || {
        for record in &records {
            black_box(blake3::hash(black_box(record)));
        }
    };
    let items = Items { count: VERIFIED, of: "record" };
    let measured = harness.measure_against(
        ("ledger/verify", 1, items),
        work,
        |head| head.as_bytes().to_vec(),
        "blake3: the same records, one by one, in memory",
        peer,
    )?;
    emit(measured);
    Ok(())
}

fn object(harness: &Harness<'_>, dir: &Path, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    let (folder, staging) = (dir.join("objects"), dir.join("tmp"));
    [&folder, &staging]
        .into_iter()
        .for_each(|dir| fs::create_dir(dir).expect("the target folder is writable"));
    let objects = |threads| Objects::new(Files::on_disk(), folder.clone(), staging.clone(), nonzero(threads));
    let id = ObjectId::of_reader(&mut Stream::default()).expect("a stream in memory does not fail").0;
    objects(1).put_reader(&id, &mut Stream::default()).expect("the disk has room");
    let path: PathBuf = objects(1).path(&id);
    let items = Items { count: OBJECT_BYTES, of: "byte" };
    let measure = |threads: usize| {
        let objects = objects(threads);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be had");
        let peer = || {
            pool.install(|| -> io::Result<Digest<Content>> {
                let mut hasher = blake3::Hasher::new();
                if threads == 1 {
                    hasher.update_mmap(&path)?;
                } else {
                    hasher.update_mmap_rayon(&path)?;
                }
                Ok(Digest::from_bytes(*hasher.finalize().as_bytes()))
            })
        };
        harness.measure_against(
            ("ledger/object-1GiB", threads, items),
            || objects.verify(&id).expect("the object is whole"),
            |len| len.to_le_bytes().to_vec(),
            "blake3: mapped and hashed, as b3sum does",
            || assert_eq!(peer().expect("the file is there"), id),
        )
    };
    emit_all(thread_counts().into_iter().map(measure), emit)
}

fn nonzero(threads: usize) -> NonZeroUsize {
    NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN)
}

/// Bytes that do not compress and are quickly made.
#[derive(Default)]
struct Stream {
    at: u64,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = (buffer.len() as u64).min(OBJECT_BYTES - self.at) as usize;
        for (i, byte) in buffer[..n].iter_mut().enumerate() {
            let position = self.at + i as u64;
            *byte = (position.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
        }
        self.at += n as u64;
        Ok(n)
    }
}
