//! The binary as a user meets it.

mod process;
mod project;
mod reference;
