//! The description of a ViT, in the words of Hugging Face's `config.json`.

use serde::{Deserialize, Serialize};

/// Any width, depth, heads, patch and image size. Field names are those of `config.json` (`ViTMSNConfig`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VitConfig {
    /// Width D.
    pub hidden_size: usize,
    /// Depth L.
    pub num_hidden_layers: usize,
    /// Heads.
    pub num_attention_heads: usize,
    /// Hidden width of the MLP, usually 4·D.
    pub intermediate_size: usize,
    /// Patch side in pixels.
    pub patch_size: usize,
    /// Image side the position embeddings are defined for.
    pub image_size: usize,
    /// Always 3.
    pub num_channels: usize,
    /// 1e-6.
    pub layer_norm_eps: f64,
}

impl VitConfig {
    /// Patches per side at the native image size.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }
}
