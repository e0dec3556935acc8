use std::fs;

use super::segment::HEADER_BYTES;
use super::*;
use crate::storage::sim::{Fault, Left, SimDisk};

fn on_disk() -> Files {
    Files::on_disk()
}

/// Three records in one group, one in another.
fn sample() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (mut writer, old) =
        LogWriter::open(&on_disk(), &path, LogKind::LEDGER, Acknowledged::Unknown).unwrap();
    assert!(old.is_empty());
    writer.append(&[b"one".as_slice(), b"", b"three"]).unwrap();
    writer.append(&[b"four"]).unwrap();
    fs::read(&path).unwrap()
}

fn payloads(records: &[Record]) -> Vec<&[u8]> {
    records.iter().map(|r| r.payload.as_slice()).collect()
}

#[test]
fn every_prefix_is_a_clean_prefix_of_the_records_and_a_torn_tail() {
    let bytes = sample();
    let whole = parse(&bytes, LogKind::LEDGER).unwrap();
    assert_eq!(payloads(&whole.records), [b"one".as_slice(), b"", b"three", b"four"]);
    for end in 0..bytes.len() {
        let cut = parse(&bytes[..end], LogKind::LEDGER).unwrap();
        assert_eq!(cut.records, whole.records[..cut.records.len()]);
        let kept = cut.records.last().map_or(HEADER_BYTES, |r| r.offset as usize + 12 + r.payload.len());
        let kept = if end < HEADER_BYTES { 0 } else { kept };
        assert_eq!(cut.torn_bytes as usize, end - kept);
    }
}

#[test]
fn a_flipped_bit_is_damage_before_the_last_group_and_never_goes_unnoticed() {
    let bytes = sample();
    let last_group = parse(&bytes, LogKind::LEDGER).unwrap().records[3].offset as usize;
    for i in 0..bytes.len() {
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[i] ^= 1 << bit;
            match parse(&bad, LogKind::LEDGER) {
                Err((offset, _)) => assert!(offset <= i as u64),
                Ok(c) => assert!(i >= last_group && c.records.len() == 3 && c.torn_bytes > 0, "byte {i}"),
            }
        }
    }
    assert_eq!(parse(&bytes, LogKind::AUDIT).unwrap_err().0, 0);
}

#[test]
fn a_torn_tail_is_cut_and_writing_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let bytes = sample();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let (mut writer, old) =
        LogWriter::open(&on_disk(), &path, LogKind::LEDGER, Acknowledged::Unknown).unwrap();
    assert_eq!(old.len(), 3);
    writer.append(&[b"again"]).unwrap();
    let contents = read(&on_disk(), &path, LogKind::LEDGER, Acknowledged::Unknown).unwrap();
    assert_eq!(payloads(&contents.records), [b"one".as_slice(), b"", b"three", b"again"]);
    assert_eq!(contents.torn_bytes, 0);
}

#[test]
fn damage_before_the_tail_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut bytes = sample();
    bytes[HEADER_BYTES + 13] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let opened = LogWriter::open(&on_disk(), &path, LogKind::LEDGER, Acknowledged::Unknown);
    assert!(matches!(opened, Err(LogError::Damaged { offset: 32, .. })));
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_long_log_goes_on_in_segments() {
    let disk = SimDisk::new();
    let files = Files::on(disk.clone());
    let path = Path::new("/log");
    let (mut writer, _) = LogWriter::open(&files, path, LogKind::AUDIT, Acknowledged::Unknown).unwrap();
    let large = vec![7u8; RECORD_BYTES];
    let per_segment = SEGMENT_BYTES as usize / RECORD_BYTES;
    let group = vec![&large; per_segment / 2];
    for _ in 0..5 {
        writer.append(&group).unwrap();
    }
    let (_, records) = LogWriter::open(&files, path, LogKind::AUDIT, Acknowledged::Unknown).unwrap();
    assert_eq!((records.len(), records.last().unwrap().segment), (per_segment / 2 * 5, 2));
    let too_much = writer.append(&vec![&large; per_segment]);
    assert!(matches!(too_much, Err(LogError::GroupTooLarge { .. })));
    assert!(matches!(writer.append(&[vec![0; RECORD_BYTES + 1]]), Err(LogError::TooLarge { .. })));

    let swapped = Files::on(disk.after(Left::Kept));
    swapped.rename(Path::new("/log.2"), Path::new("/log.1")).unwrap();
    assert!(matches!(
        read(&swapped, path, LogKind::AUDIT, Acknowledged::Unknown),
        Err(LogError::Damaged { offset: 0, .. })
    ));
    let mut torn = disk.after(Left::Kept);
    let mut middle = crate::storage::Storage::open(&torn, Path::new("/log.1")).unwrap();
    middle.truncate(100).unwrap();
    let files = Files::on(std::mem::take(&mut torn));
    assert!(matches!(
        read(&files, path, LogKind::AUDIT, Acknowledged::Unknown),
        Err(LogError::Damaged { offset: 32, .. })
    ));
}

/// Groups of records of many lengths, and how many of them were acknowledged on a disk that fails.
fn write_until_it_fails(disk: &SimDisk, groups: &[Vec<Vec<u8>>]) -> usize {
    let files = Files::on(disk.clone());
    let Ok((mut writer, _)) =
        LogWriter::open(&files, Path::new("/log"), LogKind::AUDIT, Acknowledged::Unknown)
    else {
        return 0;
    };
    for (acknowledged, group) in groups.iter().enumerate() {
        if writer.append(group).is_err() {
            assert!(
                matches!(writer.append(group), Err(LogError::Failed { .. })),
                "a failed log stays failed"
            );
            return acknowledged;
        }
    }
    groups.len()
}

#[test]
fn whatever_a_crash_leaves_what_was_acknowledged_is_read_and_writing_goes_on() {
    let record = |i: usize| vec![i as u8 + 1; [0, 3, 40, 509, 700, 1300][i % 6]];
    let groups: Vec<Vec<Vec<u8>>> =
        (0..16).map(|g| (0..=g % 4).map(|r| record(3 * g + r)).collect()).collect();
    let all: Vec<Vec<u8>> = groups.concat();
    let clean = SimDisk::new();
    assert_eq!(write_until_it_fails(&clean, &groups), groups.len());
    let mut tried = 0;
    for operation in 0..=clean.operations() {
        for fault in [Fault::PowerOff, Fault::Error, Fault::DiskFull] {
            let disk = SimDisk::new().failing(operation, fault);
            let acknowledged = groups[..write_until_it_fails(&disk, &groups)].concat().len();
            for left in disk.crashes() {
                tried += 1;
                let again = Files::on(disk.after(left));
                let known = Acknowledged::Records(acknowledged as u64);
                let (mut writer, records) = LogWriter::open(&again, Path::new("/log"), LogKind::AUDIT, known)
                    .unwrap_or_else(|e| {
                        panic!("operation {operation}, {fault:?}, {left:?}: {e}");
                    });
                let read: Vec<Vec<u8>> = records.into_iter().map(|r| r.payload).collect();
                assert!(
                    read.len() >= acknowledged,
                    "operation {operation}, {fault:?}, {left:?}: lost a record"
                );
                assert_eq!(read, all[..read.len()], "operation {operation}, {fault:?}, {left:?}");
                writer.append(&[b"on"]).unwrap();
            }
        }
    }
    assert!(tried > 300, "{tried} crashes were tried");
}

#[test]
fn records_of_every_size_are_shown_one_by_one_as_they_are_parsed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (mut writer, _) = LogWriter::open(&on_disk(), &path, LogKind::LEDGER, Acknowledged::Unknown).unwrap();
    let window = 1 << 18;
    let sizes = [
        0,
        1,
        window - 45,
        window - 44,
        window - 43,
        window,
        7,
        RECORD_BYTES - 1,
        RECORD_BYTES,
        0,
        window * 2,
    ];
    let records: Vec<Vec<u8>> = (1u8..).zip(sizes).map(|(i, len)| vec![i; len]).collect();
    writer.append(&records).unwrap();
    let bytes = fs::read(&path).unwrap();
    let mut shown = Vec::new();
    let visit = |shown: &mut Vec<(u64, Vec<u8>)>| {
        super::visit(&on_disk(), &path, LogKind::LEDGER, Acknowledged::Unknown, |_, offset, payload| {
            shown.push((offset, payload.to_vec()));
        })
    };
    let end = visit(&mut shown).unwrap();
    assert_eq!((end.offset, end.torn_bytes, end.records), (bytes.len() as u64, 0, records.len() as u64));
    assert!(shown.iter().map(|(_, payload)| payload).eq(&records));
    // A cut anywhere shows what parsing shows, each once.
    for (i, (offset, payload)) in shown.clone().into_iter().enumerate() {
        for cut in [offset, offset + 5, offset + 12, offset + 12 + payload.len() as u64 / 2] {
            fs::write(&path, &bytes[..cut as usize]).unwrap();
            let mut again = Vec::new();
            let end = visit(&mut again).unwrap();
            let parsed = parse(&bytes[..cut as usize], LogKind::LEDGER).unwrap();
            let whole = if payload.is_empty() && cut == offset + 12 { i + 1 } else { i };
            assert_eq!((again.len(), end.torn_bytes), (whole, parsed.torn_bytes), "cut at {cut}");
            assert_eq!(again, shown[..whole]);
        }
    }
}
