//! The real programs, driven over HTTP and from the command line.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its own functions too")]

mod bad_input;
mod budget;
mod concurrency;
mod demo;
mod durability;
mod pool;
mod readme;
mod train_and_serve;
mod whole_loop;
