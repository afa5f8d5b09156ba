//! The pre-training loop.

mod loader;

pub use loader::{Loader, ViewBatch};
