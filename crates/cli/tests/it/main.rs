//! The binary as a user meets it.

mod audit;
mod process;
mod project;
mod reference;
