//! A run on one page: `report.html`, self-contained, for people.
//!
//! It is made from what the run's folder holds (`checkpoint.safetensors`, `log.jsonl`, `monitor.jsonl`, `run.json`) and,
//! where they can be found, the training images; so it can be made again at any time, by another machine too.

mod chart;
mod curves;
mod facts;
mod page;
mod pictures;
#[cfg(test)]
mod tests;
mod text;
mod warnings;

pub(crate) use facts::FILE as FACTS_FILE;
pub use facts::RunFacts;
pub use text::thousands;

use crate::Error;
use crate::data::ImageSet;
use crate::run::log::read_lines;
use crate::run::{Checkpoint, LogRecord, MonitorRecord, Progress, log, monitor};
use candle_core::Device;
use pictures::Pictures;
use std::path::{Path, PathBuf};

/// Name of the page in a run's folder.
pub const FILE: &str = "report.html";

/// Where the training images are.
pub enum Images<'a> {
    /// Here; so many of them, at most, are looked at.
    Set(&'a ImageSet, usize),
    /// Nowhere, for a reason that the report repeats.
    Missing(String),
}

/// What a report tells.
struct Story {
    progress: Progress,
    facts: Option<RunFacts>,
    log: Vec<LogRecord>,
    monitor: Vec<MonitorRecord>,
    /// Or why there are none.
    pictures: Result<Pictures, String>,
}

/// Writes the report of the run in `run` to `out`, in one piece or not at all, and returns the warnings it begins with.
///
/// # Errors
/// Where the folder holds no readable checkpoint, or the page cannot be written. Missing records are no errors.
pub fn write(run: &Path, images: &Images<'_>, device: &Device, out: &Path) -> Result<Vec<String>, Error> {
    let checkpoint = Checkpoint::load_latest(run, &Device::Cpu)?;
    let pictures = match images {
        Images::Set(set, most) => {
            pictures::look(&checkpoint, set, *most, device).map_err(|error| error.to_string())
        }
        Images::Missing(reason) => Err(reason.clone()),
    };
    let story = Story {
        progress: checkpoint.progress,
        facts: RunFacts::read(run),
        log: read_lines(&run.join(log::FILE))?,
        monitor: read_lines(&run.join(monitor::FILE))?,
        pictures,
    };
    let page = page::page(&story).into_string();
    let mut partial = out.to_owned().into_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    std::fs::write(&partial, page)
        .and_then(|()| std::fs::rename(&partial, out))
        .map_err(|source| Error::Io { path: out.to_owned(), source })?;
    Ok(warnings::warnings(&story))
}
