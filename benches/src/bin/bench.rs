//! Prints one JSON line for each measurement. `cargo xtask bench` runs it and makes a table of it.

use std::io::{self, Write as _};
use std::process::ExitCode;

use bitproof_benches::peers::Python;
use bitproof_benches::{areas, Area, Budget, Harness};
use bitproof_telemetry::SystemMonotonic;

fn main() -> ExitCode {
    let (options, wanted): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let ask_peers = options.iter().any(|option| option == "--peers");
    if let Some(option) = options.iter().find(|option| *option != "--peers") {
        return fail(2, &format!("no option {option}; there is --peers"));
    }
    let known: Vec<&str> = areas().iter().map(|area| area.name).collect();
    if let Some(name) = wanted.iter().find(|name| !known.contains(&name.as_str())) {
        return fail(2, &format!("no area {name:?}; there are: {}", known.join(", ")));
    }
    let chosen: Vec<Area> = areas()
        .into_iter()
        .filter(|area| wanted.is_empty() || wanted.iter().any(|name| area.name == name))
        .collect();
    let clock = SystemMonotonic::new();
    let mut harness = Harness::new(&clock, Budget::default());
    if ask_peers {
        let (found, absent) = Python::start();
        for name in absent {
            let _ = writeln!(io::stderr(), "SKIPPED: {name} is not installed (scripts/peers/setup)");
        }
        harness = harness.asking_peers(found);
    }
    for area in chosen {
        let mut written = Ok(());
        let measured = area.run(&harness, |measurement| {
            if written.is_ok() {
                written = writeln!(io::stdout(), "{}", measurement.to_json());
            }
        });
        if let Err(error) = measured {
            return fail(1, &error.to_string());
        }
        if let Err(error) = written {
            return fail(3, &format!("standard output: {error}"));
        }
    }
    ExitCode::SUCCESS
}

fn fail(code: u8, message: &str) -> ExitCode {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr(), "error: {message}");
    ExitCode::from(code)
}
