//! A training run: batches in, steps, log lines and checkpoints out.

pub mod checkpoint;
mod loader;
mod log;
mod setup;
mod train;

pub use checkpoint::{Checkpoint, Progress};
pub use loader::{Loader, ViewBatch};
pub use log::LogRecord;
pub use train::{Event, Outcome, RunOptions, Start, pretrain};
