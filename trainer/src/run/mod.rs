//! A training run: batches in, steps, log lines and checkpoints out.

pub mod checkpoint;
mod loader;
mod log;
pub mod ranks;
mod setup;
mod train;

pub use checkpoint::{Checkpoint, Progress};
pub use loader::{Loader, Shard, ViewBatch};
pub use log::LogRecord;
pub use train::{Event, Outcome, RunOptions, Start, pretrain};
