//! Weights in and out: key maps for Hugging Face, facebook `.pth` and timm.
//!
//! Inside the project parameters carry the facebook/timm names; [`load`] maps any supported checkpoint to them.

use crate::Error;
use crate::vit::VitConfig;
use candle_core::{Device, Tensor};
use std::collections::HashMap;
use std::path::Path;

/// Reads a trunk from `.safetensors`, `.bin`, `.pth` or `.pth.tar`: Hugging Face names (bare or `vit.`), facebook
/// `target_encoder` (`module.` stripped, `fc.*` ignored) or timm names. Returns canonical names, f32.
pub fn load(_path: &Path, _device: &Device) -> Result<HashMap<String, Tensor>, Error> {
    todo!()
}

/// The same from the bytes of a safetensors file.
pub fn load_safetensors(_bytes: &[u8], _device: &Device) -> Result<HashMap<String, Tensor>, Error> {
    todo!()
}

/// Type the exported weights are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredDtype {
    /// 4 bytes.
    F32,
    /// 2 bytes, 8 bits of mantissa.
    Bf16,
    /// 2 bytes, 11 bits of mantissa.
    F16,
}

/// Writes a model folder that `transformers.ViTMSNModel.from_pretrained` loads: `model.safetensors` (bare Hugging Face
/// names), `config.json`, `preprocessor_config.json`.
pub fn export(
    _dir: &Path,
    _name: &str,
    _config: &VitConfig,
    _preprocessor: &crate::image::Preprocessor,
    _parameters: &HashMap<String, Tensor>,
    _dtype: StoredDtype,
) -> Result<(), Error> {
    todo!()
}
