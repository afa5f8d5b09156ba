//! From a training checkpoint to a model folder.

use crate::Error;
use crate::config::Config;
use crate::msn::{Msn, Ranks};
use crate::run::Checkpoint;
use candle_core::{DType, Device, Tensor};
use dozen_models::checkpoint::{StoredDtype, export as write_folder};
use std::collections::HashMap;
use std::path::Path;

/// Writes the target encoder's trunk, the part that is kept (arXiv 2204.07141, §3), with its configuration and
/// preprocessing.
pub fn export(checkpoint: &Checkpoint, dir: &Path, name: &str, dtype: StoredDtype) -> Result<(), Error> {
    let mut trunk = checkpoint.group("target");
    trunk.retain(|parameter, _| !parameter.starts_with("fc."));
    write(&checkpoint.progress.config, &trunk, dir, name, dtype)
}

/// Writes the trunk as it is before the first step: what training must improve on.
pub fn export_untrained(config: &Config, dir: &Path, name: &str) -> Result<(), Error> {
    let msn = Msn::new(config.msn(), config.run.seed, DType::F32, &Device::Cpu, &Ranks::alone())?;
    write(config, &msn.target_trunk(), dir, name, StoredDtype::F32)
}

fn write(
    config: &Config,
    trunk: &HashMap<String, Tensor>,
    dir: &Path,
    name: &str,
    dtype: StoredDtype,
) -> Result<(), Error> {
    std::fs::create_dir_all(dir).map_err(|source| Error::Io { path: dir.to_owned(), source })?;
    Ok(write_folder(dir, name, &config.vit(), &config.preprocessor(), trunk, dtype)?)
}
