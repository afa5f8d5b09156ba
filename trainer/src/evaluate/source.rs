//! What can be evaluated, as a command line names it.

use super::FeatureSource;
use crate::Error;
use crate::config::Config;
use crate::export::{export, export_untrained};
use crate::run::Checkpoint;
use candle_core::Device;
use dozen_models::checkpoint::StoredDtype;
use dozen_models::{DeviceChoice, Encoder, ModelFiles};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A model, or what stands in for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    /// A model folder.
    Folder(PathBuf),
    /// A run's checkpoint: its target encoder.
    Checkpoint(PathBuf),
    /// The weights inside this program.
    Shipped,
    /// The network of an experiment before its first step.
    Untrained(PathBuf),
    /// No network.
    RawPixels,
}

impl FromStr for ModelSource {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match (text, text.strip_prefix("untrained:")) {
            ("shipped", _) => Self::Shipped,
            ("raw-pixels", _) => Self::RawPixels,
            (_, Some(config)) => Self::Untrained(config.into()),
            _ if Path::new(text).is_file() => Self::Checkpoint(text.into()),
            _ => Self::Folder(text.into()),
        })
    }
}

impl ModelSource {
    /// Loads it for embedding.
    pub fn load(&self, device: DeviceChoice) -> Result<FeatureSource, Error> {
        match self.files()? {
            Some(files) => Ok(FeatureSource::Encoder(Box::new(Encoder::load(&files, device)?))),
            None => Ok(FeatureSource::RawPixels),
        }
    }

    /// Its model folder; `None` for raw pixels. Whatever is no folder yet goes through one, so that nothing but the weights
    /// differs between two models.
    pub fn files(&self) -> Result<Option<ModelFiles<'static>>, Error> {
        let through_a_folder = |write: &dyn Fn(&Path) -> Result<(), Error>| {
            let dir = std::env::temp_dir().join(format!("dozen-train-model-{}", std::process::id()));
            let files = write(&dir).and_then(|()| Ok(ModelFiles::read(&dir)?));
            // What cannot be removed from the temporary folder is no reason to fail.
            let _ = std::fs::remove_dir_all(&dir);
            files.map(Some)
        };
        match self {
            Self::RawPixels => Ok(None),
            Self::Shipped => Ok(Some(ModelFiles::shipped())),
            Self::Folder(dir) => Ok(Some(ModelFiles::read(dir)?)),
            Self::Untrained(path) => {
                let config = Config::read(path, &[])?;
                through_a_folder(&|dir| export_untrained(&config, dir, "untrained"))
            }
            Self::Checkpoint(path) => {
                let checkpoint = Checkpoint::load(path, &Device::Cpu)?;
                let name = format!("{}, step {}", path.display(), checkpoint.progress.step);
                through_a_folder(&|dir| export(&checkpoint, dir, &name, StoredDtype::F32))
            }
        }
    }
}
