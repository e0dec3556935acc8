//! BLAKE3 of a file on several threads.
//!
//! BLAKE3 is a binary tree over chunks of 1 KiB (section 2.1 of its paper): a subtree is hashed wherever there is time, and
//! only the joining of subtrees has an order. So the digest is that of one thread, whatever their number.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use blake3::hazmat::{merge_subtrees_non_root, merge_subtrees_root, ChainingValue, HasherExt as _, Mode};

use crate::digest::{Content, Digest};
use crate::storage::{ReadAt, Reading};

/// What a thread takes at once; a power of two.
const SUBTREE_BYTES: u64 = 1 << 20;
/// What is read at once: it stays in a processor's own cache until it is hashed.
const PIECE_BYTES: usize = 1 << 17;

/// The digest of everything in a file, with its length. Memory does not grow with the file.
///
/// # Errors
/// What the file says, and when its length changes meanwhile.
pub fn of_file(file: &dyn ReadAt, threads: NonZeroUsize) -> io::Result<(Digest<Content>, u64)> {
    let size = file.size()?;
    let subtrees = size.div_ceil(SUBTREE_BYTES);
    if threads.get() == 1 || subtrees < 2 {
        return Digest::of_reader(&mut Reading::new(file));
    }
    let next = AtomicU64::new(0);
    let joined = Mutex::new(Ok(Joined::default()));
    let work = || {
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= subtrees {
                break;
            }
            let start = index * SUBTREE_BYTES;
            let value = subtree(file, start, (size - start).min(SUBTREE_BYTES), &mut buffer);
            let mut joined = joined.lock().unwrap_or_else(PoisonError::into_inner);
            match (value, joined.as_mut()) {
                (Ok(value), Ok(joined)) => joined.take(index, value),
                (Err(error), Ok(_)) => *joined = Err(error),
                (_, Err(_)) => break,
            }
        }
    };
    std::thread::scope(|scope| {
        let helpers = (threads.get() as u64).min(subtrees) - 1;
        (0..helpers).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    if file.read_at(&mut [0], size)? > 0 {
        return Err(changed());
    }
    let joined = joined.into_inner().unwrap_or_else(PoisonError::into_inner)?;
    Ok((joined.root(), size))
}

fn subtree(file: &dyn ReadAt, start: u64, len: u64, buffer: &mut [u8]) -> io::Result<ChainingValue> {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(start);
    let mut done = 0;
    while done < len {
        let wanted = buffer.len().min((len - done) as usize);
        // Whole pieces only: the hasher is slower at pieces that do not begin and end with a chunk.
        let mut filled = 0;
        while filled < wanted {
            match file.read_at(&mut buffer[filled..wanted], start + done + filled as u64)? {
                0 => return Err(changed()),
                n => filled += n,
            }
        }
        hasher.update(&buffer[..wanted]);
        done += wanted as u64;
    }
    Ok(hasher.finalize_non_root())
}

fn changed() -> io::Error {
    io::Error::other("its length changed while it was read")
}

/// Subtrees joined as far as they are there.
#[derive(Default)]
struct Joined {
    /// Those that came before one to their left, by index.
    early: BTreeMap<u64, ChainingValue>,
    /// How many are on the stack or below it.
    count: u64,
    /// Roots of complete trees, largest first. The newest is not joined until another follows: it may be the root's child.
    stack: Vec<ChainingValue>,
}

impl Joined {
    fn take(&mut self, index: u64, value: ChainingValue) {
        self.early.insert(index, value);
        while let Some(value) = self.early.remove(&self.count) {
            while self.stack.len() > self.count.count_ones() as usize {
                self.join();
            }
            self.stack.push(value);
            self.count += 1;
        }
    }

    fn join(&mut self) {
        if let (Some(right), Some(left)) = (self.stack.pop(), self.stack.pop()) {
            self.stack.push(merge_subtrees_non_root(&left, &right, Mode::Hash));
        }
    }

    fn root(mut self) -> Digest<Content> {
        while self.stack.len() > 2 {
            self.join();
        }
        match self.stack[..] {
            [left, right] => Digest::from_bytes(*merge_subtrees_root(&left, &right, Mode::Hash).as_bytes()),
            _ => unreachable!("a file that is shared out has at least two subtrees"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::sim::SimDisk;
    use crate::storage::{Storage as _, StoredFile};
    use std::path::Path;

    fn file(len: usize) -> (Box<dyn StoredFile>, Vec<u8>) {
        let bytes: Vec<u8> = (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut file = SimDisk::new().create_new(Path::new("/f")).unwrap();
        file.append(&bytes).unwrap();
        (file, bytes)
    }

    #[test]
    fn the_number_of_threads_changes_no_digest() {
        let mib = SUBTREE_BYTES as usize;
        // Around the edges of pieces and subtrees, and the shapes of trees that are not complete.
        let mut lengths = vec![0, 1, 1024, PIECE_BYTES + 1, mib - 1, mib, mib + 1, mib + 1024, mib + 1025];
        lengths.extend((2..=9).flat_map(|n| [n * mib - 1, n * mib, n * mib + 1]));
        for len in lengths {
            let (file, bytes) = file(len);
            let expected = (Digest::of_bytes(&bytes), len as u64);
            for threads in [1, 2, 3, 7] {
                let got = of_file(&*file, NonZeroUsize::new(threads).unwrap()).unwrap();
                assert_eq!(got, expected, "{len} bytes on {threads} threads");
            }
        }
    }

    #[test]
    fn a_bit_anywhere_changes_the_digest() {
        let (whole, bytes) = file(3 * SUBTREE_BYTES as usize + 5);
        let two = NonZeroUsize::new(2).unwrap();
        let (expected, _) = of_file(&*whole, two).unwrap();
        for at in [0, SUBTREE_BYTES as usize, bytes.len() - 1] {
            let mut other = bytes.clone();
            other[at] ^= 1;
            let mut file = SimDisk::new().create_new(Path::new("/f")).unwrap();
            file.append(&other).unwrap();
            assert_ne!(of_file(&*file, two).unwrap().0, expected, "byte {at}");
        }
    }

    /// A file that is shorter or longer than it says.
    #[derive(Debug)]
    struct Lying {
        file: Box<dyn StoredFile>,
        size: u64,
    }

    impl ReadAt for Lying {
        fn size(&self) -> io::Result<u64> {
            Ok(self.size)
        }
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            self.file.read_at(buffer, offset)
        }
    }

    #[test]
    fn a_file_that_changes_its_length_is_an_error() {
        let three = NonZeroUsize::new(3).unwrap();
        for size in [4 * SUBTREE_BYTES - 1, 4 * SUBTREE_BYTES + 1, 9 * SUBTREE_BYTES] {
            let (file, _) = file(4 * SUBTREE_BYTES as usize);
            assert!(of_file(&Lying { file, size }, three).is_err(), "{size}");
        }
    }
}
