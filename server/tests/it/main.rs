//! The router as callers meet it, over a small stand-in for the encoder and a real store.

mod access;
mod engine_limits;
mod learning;
mod openapi;
mod operations;
mod payloads;
mod problems;
mod support;
mod training;
