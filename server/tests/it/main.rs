//! The router as callers meet it, over a small stand-in for the encoder and a real store.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy exempts test functions, not the functions they share; here everything is a test"
)]

mod access;
mod engine_limits;
mod honesty;
mod learning;
mod openapi;
mod operations;
mod payloads;
mod pool;
mod problems;
mod support;
mod training;
