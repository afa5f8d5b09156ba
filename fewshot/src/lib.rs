//! Learning from few labels on vectors: pure functions and small structures, no HTTP, no tensors, no async, no files.

pub mod calibrate;
pub mod conformal;
pub mod error;
mod examples;
pub mod heads;
pub mod hygiene;
pub mod index;
mod matrix;
mod means;
pub mod measures;
mod pool;
mod progress;
pub mod promotion;
pub mod readiness;
mod reliability;
pub mod select;
pub mod statistics;
pub mod training;
pub mod unknown;
mod vector;

pub use error::Error;
pub use examples::Examples;
pub use pool::{Pool, evenly_spaced};
pub use progress::Progress;
pub use reliability::Reliability;
pub use vector::unit;

/// The caller's stable key of a class (a row id, say); names live elsewhere.
pub type ClassKey = u64;
