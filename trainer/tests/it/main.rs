//! Training runs end to end, in the library and through the real binary.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its own functions too")]

mod cli;
mod data;
mod evaluate;
mod interrupted;
mod micro;
mod progress;
mod resume;
mod target;
