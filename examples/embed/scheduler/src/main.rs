//! Estimates π from samples, as closures in a DAG: `cargo run -p bitproof-embed-scheduler -- /tmp/pi`, twice. The first run
//! computes on four lanes; the second finds everything in its ledger. Both print the same root.

#![expect(clippy::print_stdout, reason = "a program that answers")]

use std::path::Path;

use anyhow::{Context as _, Result};
use bitproof_scheduler::jobs::{Done, Jobs};
use tracing_subscriber::fmt::format::FmtSpan;

const PARTS: [&str; 4] = ["part-0", "part-1", "part-2", "part-3"];

/// How many points of every fourth row of a grid lie in the quarter circle.
fn count(part: u64) -> u64 {
    let side = 2_000;
    (part..side).step_by(4).map(|y| (0..side).filter(|x| x * x + y * y < side * side).count() as u64).sum()
}

fn estimate(dir: &Path, workers: usize) -> Result<Done> {
    let mut jobs = Jobs::new("pi").lanes(4);
    for (part, name) in (0..).zip(PARTS) {
        jobs = jobs.add(name, &[], move |_| Ok(count(part).to_le_bytes().to_vec()));
    }
    jobs = jobs.add("sum", &PARTS, |parts| {
        let numbers = parts.iter().map(|part| part.as_slice().try_into().map(u64::from_le_bytes));
        Ok(numbers.sum::<Result<u64, _>>()?.to_le_bytes().to_vec())
    });
    Ok(jobs.run(dir, workers)?)
}

fn main() -> Result<()> {
    // Each attempt at a task is a span.
    tracing_subscriber::fmt().with_span_events(FmtSpan::CLOSE).init();
    let dir = std::env::args().nth(1).context("usage: bitproof-embed-scheduler DIR")?;
    let done = estimate(Path::new(&dir), 4)?;
    let inside = u64::from_le_bytes(done.output("sum")?.as_slice().try_into()?);
    println!("pi is about {:.4}\nroot {}", inside as f64 / 1e6, done.root());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_workers_gives_the_same_root_and_a_second_run_too() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let roots = [(&dirs[0], 1), (&dirs[1], 4), (&dirs[1], 2)].map(|(dir, workers)| {
            let done = estimate(dir.path(), workers).unwrap();
            let inside = u64::from_le_bytes(done.output("sum").unwrap().try_into().unwrap());
            assert_eq!(inside, (0..4).map(count).sum::<u64>());
            assert!((inside as f64 / 1e6 - std::f64::consts::PI).abs() < 0.01);
            done.root()
        });
        assert!(roots.iter().all(|root| *root == roots[0]));
    }
}
