//! A training run: batches in, steps, log lines and checkpoints out.

pub mod checkpoint;
pub mod estimate;
mod loader;
pub mod log;
pub mod monitor;
mod setup;
mod train;

pub use checkpoint::{Checkpoint, Progress};
pub use loader::{Loader, ViewBatch};
pub use log::LogRecord;
pub use monitor::{Accuracy, Monitor, MonitorRecord};
pub use train::{Event, Outcome, RunOptions, Start, pretrain};
