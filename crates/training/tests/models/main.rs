//! Every model against definitions that share nothing with the tape: plain loops in f64 with finite differences, and PyTorch's values.

mod cases;
mod evaluation;
mod generation;
mod goldens;
mod gradients;
mod reference;
mod sharing;
mod specifications;
