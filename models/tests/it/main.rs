//! Integration tests of the crate, one binary.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod families;
mod image;
mod vit;
