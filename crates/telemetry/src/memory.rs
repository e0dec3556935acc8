//! What the process takes of the machine's memory, as the kernel counts it. Linux only; `None` elsewhere.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::OnceLock;

/// `/proc/self/status` is at most a few KiB; the wanted lines are in the first two.
const STATUS_BYTES: usize = 4096;

/// The resident set now, in bytes (`VmRSS`).
pub fn rss_bytes() -> Option<u64> {
    status_kib(b"VmRSS:")
}

/// The largest resident set so far, in bytes (`VmHWM`).
pub fn peak_rss_bytes() -> Option<u64> {
    status_kib(b"VmHWM:")
}

fn status_kib(name: &[u8]) -> Option<u64> {
    static STATUS: OnceLock<Option<File>> = OnceLock::new();
    let file = STATUS.get_or_init(|| File::open("/proc/self/status").ok()).as_ref()?;
    let mut buffer = [0u8; STATUS_BYTES];
    let len = file.read_at(&mut buffer, 0).ok()?;
    kib_line(&buffer[..len], name)
}

/// The bytes that a line like `VmRSS:      1234 kB` states.
fn kib_line(status: &[u8], name: &[u8]) -> Option<u64> {
    let line = status.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(name))?;
    let digits = line.iter().skip_while(|b| b.is_ascii_whitespace()).take_while(|b| b.is_ascii_digit());
    let mut kib = None;
    for digit in digits {
        kib = Some(kib.unwrap_or(0u64).checked_mul(10)?.checked_add(u64::from(digit - b'0'))?);
    }
    kib?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_status_file() {
        let status = b"Name:\tx\nVmHWM:\t   20 kB\nVmRSS:\t   12 kB\n";
        assert_eq!(kib_line(status, b"VmRSS:"), Some(12 << 10));
        assert_eq!(kib_line(status, b"VmHWM:"), Some(20 << 10));
        assert_eq!(kib_line(status, b"VmSwap:"), None);
        assert_eq!(kib_line(b"VmRSS:\n", b"VmRSS:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn touched_memory_is_counted() {
        let before = rss_bytes().unwrap();
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = rss_bytes().unwrap();
        assert!(after >= before + (block.len() as u64) / 2, "{before} {after}");
        assert!(peak_rss_bytes().unwrap() >= after / 2);
    }
}
