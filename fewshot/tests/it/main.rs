//! The crate through its public face: against scikit-learn, and against models too simple to be wrong.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod advice;
mod head_properties;
mod heads;
mod honest;
mod index;
mod logistic;
