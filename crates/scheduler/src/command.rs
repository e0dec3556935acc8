//! Commands: programs that are not ours, as tasks.

mod spec;

pub use spec::{CodeFile, CommandOutput, CommandSpec, Isolation, ReplayMode};
