//! Writes the golden vectors anew, after a format changed on purpose: `cargo xtask vectors --write`.
#![expect(clippy::print_stdout, reason = "it says what it wrote")]

use std::fs;
use std::io;

use bitproof_tests::vectors::{folder, vectors};

fn main() -> io::Result<()> {
    let all = vectors();
    if folder().exists() {
        fs::remove_dir_all(folder())?;
    }
    for vector in &all {
        let path = vector.path();
        fs::create_dir_all(path.parent().expect("it lies in the folder of its decoder"))?;
        fs::write(path, &vector.bytes)?;
    }
    let taken = all.iter().filter(|vector| vector.taken()).count();
    println!("{} vectors: {taken} that are taken, {} that are refused", all.len(), all.len() - taken);
    Ok(())
}
