//! Weights in and out: key maps for Hugging Face, facebook `.pth` and timm.
//!
//! Inside the project parameters carry the facebook/timm names; [`load`] maps any supported checkpoint to them.

mod config;
mod export;
mod infer;
mod layout;
mod read;
#[cfg(test)]
mod tests;

pub use config::{Feature, ModelConfig};
pub use export::{StoredDtype, export};
pub use infer::infer_config;
pub use read::{load, load_safetensors};

pub(crate) use export::canonical_safetensors;

/// The weights of a model folder.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// Its description.
pub const CONFIG_FILE: &str = "config.json";
/// Its preprocessing.
pub const PREPROCESSOR_FILE: &str = "preprocessor_config.json";
