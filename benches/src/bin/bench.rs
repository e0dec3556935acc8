//! Prints one JSON line for each measurement. `cargo xtask bench` runs it and makes a table of it.

use std::io::{self, Write as _};
use std::process::ExitCode;

use bitproof_benches::{areas, Area, Budget, Harness};
use bitproof_telemetry::SystemMonotonic;

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1);
    let chosen: Vec<Area> =
        areas().into_iter().filter(|area| wanted.as_deref().is_none_or(|name| area.name == name)).collect();
    if chosen.is_empty() {
        let known: Vec<&str> = areas().iter().map(|area| area.name).collect();
        return fail(
            2,
            &format!("no area {:?}; there are: {}", wanted.unwrap_or_default(), known.join(", ")),
        );
    }
    let clock = SystemMonotonic::new();
    let harness = Harness::new(&clock, Budget::default());
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
