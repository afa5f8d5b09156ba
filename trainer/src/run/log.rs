//! `log.jsonl`: a line of health metrics every few steps; and files of JSON lines in general.

use crate::Error;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::Write as _;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// Name of the log in a run's folder.
pub const FILE: &str = "log.jsonl";

/// One line. Means are over the steps since the line before; the rest is of the last step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogRecord {
    /// Steps taken.
    pub step: usize,
    /// Epochs passed, with the fraction.
    pub epoch: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Momentum of the target's moving average.
    pub momentum: f64,
    /// Mean total loss.
    pub loss: f64,
    /// Mean cross-entropy between targets and predictions.
    pub msn: f64,
    /// Mean of log K − H(mean prediction): 0 where all prototypes are used alike, log K where one is.
    pub me_max: f64,
    /// Mean entropy of single predictions.
    pub entropy: f64,
    /// Mean Kozachenko–Leonenko term; 0 where its weight is.
    #[serde(default)]
    pub koleo: f64,
    /// Different prototypes among the targets of the batch.
    pub distinct_prototypes: usize,
    /// Mean of the targets' largest probability.
    pub max_target: f64,
    /// Norm of the encoder's gradient before clipping.
    pub gradient_norm: f64,
    /// Norm of the first block's query-key-value gradient.
    pub first_qkv_gradient_norm: f64,
    /// Norm of the last block's query-key-value gradient.
    pub last_qkv_gradient_norm: f64,
    /// Images per second since the line before; checkpoints and evaluations do not count as time.
    pub images_per_second: f64,
    /// Share of that time that was spent waiting for data.
    pub data_wait: f64,
}

/// A file of one JSON object per line, open for more.
pub(super) struct JsonLines<T> {
    path: PathBuf,
    file: File,
    kind: PhantomData<T>,
}

impl<T: Serialize + DeserializeOwned> JsonLines<T> {
    /// Opens a file, dropping the lines that `keep` refuses: those of steps that a crash undid.
    pub(super) fn open(path: PathBuf, keep: impl Fn(&T) -> bool) -> Result<Self, Error> {
        let failed = |source| Error::Io { path: path.clone(), source };
        let old = if path.exists() { fs::read_to_string(&path).map_err(failed)? } else { String::new() };
        let mut kept = String::new();
        for line in old.lines() {
            if serde_json::from_str::<T>(line).is_ok_and(|record| keep(&record)) {
                kept.push_str(line);
                kept.push('\n');
            }
        }
        let mut file = File::create(&path).map_err(failed)?;
        file.write_all(kept.as_bytes()).map_err(failed)?;
        Ok(Self { path, file, kind: PhantomData })
    }

    /// Appends a line.
    pub(super) fn write(&mut self, record: &T) -> Result<(), Error> {
        let failed = |source| Error::Io { path: self.path.clone(), source };
        let mut line = serde_json::to_string(record).map_err(|error| failed(error.into()))?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(failed)
    }
}

/// The lines of a file that can be read: a crash may have cut the last one short. None where there is no file.
pub(crate) fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Error> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}
