//! Learning from few labels on vectors: pure functions and small structures, no HTTP, no tensors, no async, no files.

pub mod error;
pub mod heads;
pub mod index;
mod vector;

pub use error::Error;
pub use vector::unit;

/// The caller's stable key of a class (a row id, say); names live elsewhere.
pub type ClassKey = u64;
