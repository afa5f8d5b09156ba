//! `run.json`: on what and where a run is done, which neither configuration nor checkpoint say.

use crate::Error;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Name of the record in a run's folder.
pub(crate) const FILE: &str = "run.json";

/// What is recorded when a run starts or goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunFacts {
    /// Version of this program.
    pub version: String,
    /// When the run started or last went on.
    pub started: String,
    /// Folders and archives of the training images, absolute.
    pub data: Vec<PathBuf>,
    /// Images that can be read.
    pub images: usize,
    /// Images that could not be read when the set was opened.
    pub unreadable: usize,
    /// The labelled set of `--monitor`.
    pub monitor: Option<PathBuf>,
    /// `cpu` or `cuda`.
    pub device: String,
    /// Operating system, architecture, and the processor's name where the system tells it.
    pub machine: String,
    /// Threads the machine runs at once.
    pub processors: usize,
}

impl RunFacts {
    /// Facts of this machine, program and moment; paths are made absolute, so that a report finds the images later.
    pub fn gather(
        data: &[PathBuf],
        monitor: Option<&Path>,
        (images, unreadable): (usize, usize),
        device: &str,
    ) -> Self {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: now(),
            data: data.iter().map(|path| absolute(path)).collect(),
            images,
            unreadable,
            monitor: monitor.map(absolute),
            device: device.to_owned(),
            machine: machine(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// Writes the record to a run's folder.
    pub fn write(&self, run: &Path) -> Result<(), Error> {
        let path = run.join(FILE);
        let io = |source| Error::Io { path: path.clone(), source };
        let json = serde_json::to_string_pretty(self).map_err(|error| io(error.into()))?;
        std::fs::write(&path, json + "\n").map_err(io)
    }

    /// Reads the record of a run's folder; `None` where there is none, or one of another version's form.
    pub fn read(run: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(run.join(FILE)).ok()?).ok()
    }
}

/// This moment, for people.
pub(super) fn now() -> String {
    httpdate::fmt_http_date(SystemTime::now())
}

fn machine() -> String {
    let system = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| system.clone(), |(_, name)| format!("{system}, {}", name.trim()))
}
