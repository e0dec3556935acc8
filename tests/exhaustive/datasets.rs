//! Every small change of small data files: each bit flipped, each file cut at each byte. No reader panics, and none takes more memory
//! than what it was given can hold.

use bitproof_telemetry::peak_of_thread;
use bitproof_tests::decoders::decoder;
use bitproof_tests::vectors::{vectors, Vector};

const READERS: [&str; 6] = ["dataset_part", "csv", "idx", "npy", "tensors", "text"];
/// What a byte may become, with the copies that are alive at once.
const PEAK_FOR_A_BYTE: u64 = 64;
/// What a reader takes for any file: most of it is what unpacks.
const PEAK_FOR_A_FILE: u64 = 96 << 10;

fn allowed(bytes: &[u8]) -> u64 {
    PEAK_FOR_A_FILE + PEAK_FOR_A_BYTE * bytes.len() as u64
}

#[test]
fn damaged_data_files_are_read_or_refused_within_their_own_size() {
    let mut cases = 0u64;
    let mut taken = 0u64;
    for Vector { decoder: name, name: vector, bytes } in vectors() {
        if !READERS.contains(&name) {
            continue;
        }
        let reader = decoder(name);
        let cuts = (0..bytes.len()).map(|end| bytes[..end].to_vec());
        let flips = (0..8 * bytes.len()).map(|bit| {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            other
        });
        // The largest number that fits in four bytes, wherever it stands: what a length field may claim.
        let claims = (0..bytes.len().saturating_sub(3)).map(|at| {
            let mut other = bytes.clone();
            other[at..at + 4].copy_from_slice(&[0x7f, 0xff, 0xff, 0x7f]);
            other
        });
        for (case, changed) in cuts.chain(flips).chain(claims).enumerate() {
            let (took, peak) = peak_of_thread(|| (reader.takes)(&changed));
            assert!(peak <= allowed(&changed), "{name}/{vector}, case {case}: {peak} bytes");
            cases += 1;
            taken += u64::from(took);
        }
    }
    println!("{cases} damaged data files, of which {taken} are taken");
    assert!(cases > 50_000 && taken > 0, "{cases} cases, {taken} taken");
    // The negative control: a reader that believes a length would be seen.
    let (_, peak) = peak_of_thread(|| vec![0u8; 1 << 20]);
    assert!(peak > allowed(&[0; 4096]));
}
