use clap::CommandFactory as _;
use clap_complete::{generate, Shell};

use crate::args::Cli;
use crate::exit::{Exit, Failure};
use crate::output;

pub(super) fn execute(shell: Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "bitproof", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
