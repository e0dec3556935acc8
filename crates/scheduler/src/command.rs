//! Commands: programs that are not ours, as tasks.

mod spec;

pub use spec::{CodeFile, CommandInput, CommandOutput, CommandSpec, Isolation, ReplayMode};
