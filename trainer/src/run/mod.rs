//! A training run: batches in, steps, log lines and checkpoints out.

mod batch;
pub mod checkpoint;
mod device_images;
pub mod estimate;
mod loader;
pub mod log;
pub mod monitor;
pub mod ranks;
mod setup;
mod train;

pub use batch::{Pixels, ViewBatch, ViewMaker};
pub use checkpoint::{Checkpoint, Progress};
pub use loader::{Loader, Shard};
pub use log::LogRecord;
pub use monitor::{Accuracy, Monitor, MonitorRecord};
pub use train::{Event, Outcome, RunOptions, Start, pretrain};
