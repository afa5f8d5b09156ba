//! A loaded encoder: crops in, unit vectors out.

use crate::Error;
use crate::image::{Preprocessor, RgbImage};
use std::borrow::Cow;
use std::path::Path;

/// Where to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// CUDA device 0 where this build and machine have one, otherwise the CPU.
    Auto,
    /// The CPU.
    Cpu,
}

/// What callers need to know of a loaded encoder.
#[derive(Clone, Debug)]
pub struct EncoderInfo {
    /// Name from `config.json` (`dozen.name`), else the folder's.
    pub name: String,
    /// Identity of the vectors: hash of weights, configuration and preprocessing. Vectors of different ids never meet.
    pub id: String,
    /// Length of an embedding.
    pub dimensions: usize,
    /// Side of the square crop in pixels.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Number of parameters.
    pub parameters: usize,
    /// `cpu` or `cuda:0`.
    pub device: String,
    /// Type of the arithmetic, `f32`.
    pub dtype: String,
}

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
    /// Reads a model folder.
    pub fn read(_dir: &Path) -> Result<Self, Error> {
        todo!()
    }

    /// The weights compiled into this crate.
    pub fn shipped() -> Self {
        todo!()
    }
}

/// A loaded encoder. `&self` methods may be called from any one thread at a time or several; they hold no lock.
pub struct Encoder {
    info: EncoderInfo,
    preprocessor: Preprocessor,
}

impl Encoder {
    /// Loads weights, checks every tensor's shape, moves them to the device.
    pub fn load(_files: &ModelFiles<'_>, _device: DeviceChoice) -> Result<Self, Error> {
        todo!()
    }

    /// Name, identity and sizes.
    pub fn info(&self) -> &EncoderInfo {
        &self.info
    }

    /// The preprocessing these weights expect.
    pub fn preprocessor(&self) -> &Preprocessor {
        &self.preprocessor
    }

    /// Embeds crops made by [`Preprocessor::crop`]: one unit vector (length `dimensions`) per crop, in order.
    ///
    /// `keep` in (0, 1] is the share of patches that are embedded (the patch budget); 1.0 embeds all.
    pub fn embed(&self, _crops: &[RgbImage], _keep: f32) -> Result<Vec<Vec<f32>>, Error> {
        todo!()
    }
}
