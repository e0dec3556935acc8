//! One file a verb.

use crate::args::Command;
use crate::context::App;
use crate::exit::{Exit, Failure};

mod attestation;
mod audit;
mod bisect;
mod compare;
mod completions;
mod exec;
mod export;
mod gate;
mod gc;
mod init;
mod key;
mod plan;
mod replay;
mod run;
mod runs;
mod show;
mod steps;
mod verify;

/// Runs a command.
pub(crate) fn dispatch(app: &App, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Init(args) => init::execute(app, &args),
        Command::Plan(args) => plan::execute(app, &args),
        Command::Exec(args) => exec::execute(app, &args),
        Command::Run(args) => run::execute(app, &args),
        Command::Replay(args) => replay::execute(app, &args),
        Command::Bisect(args) => bisect::execute(app, &args),
        Command::Verify(args) => match &args.attestation.attestation {
            Some(file) => attestation::execute(app, file, &args.attestation),
            None => verify::execute(app, &args),
        },
        Command::Export(args) => export::execute(app, &args),
        Command::Runs => runs::execute(app),
        Command::Show(args) => show::execute(app, &args),
        Command::Compare(args) => compare::execute(app, &args),
        Command::Gate(args) => gate::execute(app, &args),
        Command::Audit(args) => audit::execute(app, &args),
        Command::Gc(args) => gc::execute(app, &args),
        Command::Key(args) => key::execute(app, &args),
        Command::Completions { shell } => completions::execute(shell),
    }
}
