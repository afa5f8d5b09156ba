//! The files of a model folder.

use crate::Error;
use crate::checkpoint::{self, CONFIG_FILE, PREPROCESSOR_FILE, WEIGHTS_FILE};
use candle_core::Device;
use std::borrow::Cow;
use std::path::Path;

/// What hub folders of before safetensors call their weights.
const PYTORCH_FILE: &str = "pytorch_model.bin";

/// The three files of a model folder, read but not interpreted.
pub struct ModelFiles<'a> {
    /// Name to fall back on.
    pub name: String,
    /// `model.safetensors`.
    pub weights: Cow<'a, [u8]>,
    /// `config.json`.
    pub config: Cow<'a, str>,
    /// `preprocessor_config.json`.
    pub preprocessor: Cow<'a, str>,
}

impl ModelFiles<'static> {
    /// Reads a model folder. Where it holds `pytorch_model.bin` in place of `model.safetensors`, that is converted in
    /// memory.
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let text = |file: &str| {
            let path = dir.join(file);
            std::fs::read_to_string(&path).map(Cow::Owned).map_err(|source| Error::Io { path, source })
        };
        let name =
            dir.canonicalize().ok().and_then(|dir| Some(dir.file_name()?.to_string_lossy().into_owned()));
        Ok(Self {
            config: text(CONFIG_FILE)?,
            preprocessor: text(PREPROCESSOR_FILE)?,
            weights: Cow::Owned(read_weights(dir)?),
            name: name.unwrap_or_else(|| "encoder".to_owned()),
        })
    }

    /// The weights compiled into this crate.
    pub fn shipped() -> Self {
        Self {
            name: "default".to_owned(),
            weights: Cow::Borrowed(include_bytes!("../../weights/default/model.safetensors")),
            config: Cow::Borrowed(include_str!("../../weights/default/config.json")),
            preprocessor: Cow::Borrowed(include_str!("../../weights/default/preprocessor_config.json")),
        }
    }
}

fn read_weights(dir: &Path) -> Result<Vec<u8>, Error> {
    let (path, pytorch) = (dir.join(WEIGHTS_FILE), dir.join(PYTORCH_FILE));
    if !path.exists() && pytorch.exists() {
        return checkpoint::canonical_safetensors(checkpoint::load(&pytorch, &Device::Cpu)?);
    }
    std::fs::read(&path).map_err(|source| Error::Io { path, source })
}
