//! The state of a run as one safetensors file.
//!
//! Tensors come in groups `anchor.*`, `target.*`, `prototypes`, `opt.m.*` and `opt.v.*`; the metadata says how far the
//! run is and with which configuration. All randomness is a function of (seed, step), so the step is the whole state of
//! the generators. A file is written under another name, flushed and renamed; the one before it is kept.

use crate::Error;
use crate::config::Config;
use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Name of the newest checkpoint in a run's folder.
pub const FILE: &str = "checkpoint.safetensors";
/// Name of the one before.
pub const PREVIOUS_FILE: &str = "checkpoint.previous.safetensors";
/// Name of one that is being written.
const PARTIAL_FILE: &str = "checkpoint.safetensors.partial";
/// Key of the metadata that holds [`Progress`] as JSON.
const METADATA_KEY: &str = "dozen_train";
/// Version of the layout, and of the keys of the configuration in it.
const FORMAT: u32 = 2;

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Version of the layout.
    format: u32,
    /// Steps taken.
    pub step: usize,
    /// Steps per epoch.
    pub steps_per_epoch: usize,
    /// Images in the training set.
    pub images: usize,
    /// What the run was started with.
    pub config: Config,
}

/// What every version's metadata has.
#[derive(Deserialize)]
struct Versioned {
    format: u32,
}

impl Progress {
    /// After `step` steps.
    pub fn new(step: usize, steps_per_epoch: usize, images: usize, config: Config) -> Self {
        Self { format: FORMAT, step, steps_per_epoch, images, config }
    }
}

/// Tensors and progress.
pub struct Checkpoint {
    /// By name, with the group as prefix.
    pub tensors: HashMap<String, Tensor>,
    /// How far the run is.
    pub progress: Progress,
}

impl Checkpoint {
    /// Writes to `dir`, replacing the newest checkpoint only when the new one is safely on disk.
    pub fn save(&self, dir: &Path) -> Result<(), Error> {
        let (newest, partial) = (dir.join(FILE), dir.join(PARTIAL_FILE));
        let progress =
            serde_json::to_string(&self.progress).map_err(|error| Error::checkpoint(&newest, &error))?;
        let metadata = HashMap::from([(METADATA_KEY.to_owned(), progress)]);
        // Copied to the CPU here, where failing is an error; the serialiser could only panic.
        let on_cpu: Vec<(&String, Tensor)> = self
            .tensors
            .iter()
            .map(|(name, tensor)| Ok((name, tensor.to_device(&Device::Cpu)?)))
            .collect::<Result<_, candle_core::Error>>()?;
        let written = safetensors::serialize_to_file(on_cpu, Some(metadata), &partial)
            .map_err(|error| error.to_string())
            .and_then(|()| {
                File::open(&partial).and_then(|file| file.sync_all()).map_err(|error| error.to_string())
            });
        if let Err(reason) = written {
            // Whether or not it can be removed, the reason is what the caller needs.
            let _ = fs::remove_file(&partial);
            let reason = format!(
                "{reason}; make room there, or go on with --resume in a copy of the folder elsewhere"
            );
            return Err(Error::checkpoint(&partial, &reason));
        }
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { path, source }
        };
        if newest.exists() {
            fs::rename(&newest, dir.join(PREVIOUS_FILE)).map_err(io(&newest))?;
        }
        fs::rename(&partial, &newest).map_err(io(&partial))?;
        // The renames are on disk only when the folder is.
        File::open(dir).and_then(|folder| folder.sync_all()).map_err(io(dir))
    }

    /// Reads one file.
    pub fn load(path: &Path, device: &Device) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        let (_, header) =
            SafeTensors::read_metadata(&bytes).map_err(|error| Error::checkpoint(path, &error))?;
        let progress = header.metadata().as_ref().and_then(|metadata| metadata.get(METADATA_KEY));
        let progress =
            progress.ok_or_else(|| Error::checkpoint(path, &"it is not a checkpoint of dozen-train"))?;
        // The rest of another format's metadata need not be what this one expects.
        let Versioned { format } =
            serde_json::from_str(progress).map_err(|error| Error::checkpoint(path, &error))?;
        if format != FORMAT {
            let reason = format!(
                "its format is {format}, this version reads {FORMAT}; export it, or end its run, with the version that wrote it"
            );
            return Err(Error::checkpoint(path, &reason));
        }
        let progress: Progress =
            serde_json::from_str(progress).map_err(|error| Error::checkpoint(path, &error))?;
        let tensors = candle_core::safetensors::load_buffer(&bytes, device)
            .map_err(|error| Error::checkpoint(path, &error))?;
        Ok(Self { tensors, progress })
    }

    /// Reads the newest checkpoint of a run's folder, or the one before where the newest is missing or damaged.
    pub fn load_latest(dir: &Path, device: &Device) -> Result<Self, Error> {
        let newest = Self::load(&dir.join(FILE), device);
        newest.or_else(|error| Self::load(&dir.join(PREVIOUS_FILE), device).map_err(|_| error))
    }

    /// The tensors of one group, without its prefix.
    pub fn group(&self, prefix: &str) -> HashMap<String, Tensor> {
        let strip = |(name, tensor): (&String, &Tensor)| {
            Some((name.strip_prefix(prefix)?.strip_prefix('.')?.to_owned(), tensor.clone()))
        };
        self.tensors.iter().filter_map(strip).collect()
    }
}

/// Whether a folder holds a checkpoint.
pub fn exists_in(dir: &Path) -> bool {
    [FILE, PREVIOUS_FILE].iter().any(|file| dir.join(file).exists())
}

/// What there is in a folder of the files that a run writes, but for the record of its configuration; nothing where
/// there is neither checkpoint nor log, which alone tell that the rest is a run's.
pub(super) fn run_files(dir: &Path) -> Vec<PathBuf> {
    let there = |names: &[&str]| -> Vec<PathBuf> {
        names.iter().map(|file| dir.join(file)).filter(|path| path.exists()).collect()
    };
    let mut found = there(&[FILE, PREVIOUS_FILE, PARTIAL_FILE, super::log::FILE]);
    if !found.is_empty() {
        found.extend(there(&[
            crate::data::UNREADABLE_FILE,
            super::monitor::FILE,
            crate::report::FILE,
            crate::report::FACTS_FILE,
        ]));
    }
    found
}
