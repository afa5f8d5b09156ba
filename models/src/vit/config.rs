//! The description of a ViT, in the words of Hugging Face's `config.json`.

use crate::Error;
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
    #[serde(default = "three")]
    pub num_channels: usize,
    /// 1e-6.
    #[serde(default = "one_millionth")]
    pub layer_norm_eps: f64,
}

fn three() -> usize {
    3
}

fn one_millionth() -> f64 {
    1e-6
}

impl VitConfig {
    /// Patches per side at the native image size.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Refuses sizes that are zero or do not divide.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |reason: String| Err(Error::Config { file: "config.json".into(), reason });
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("patch_size", self.patch_size),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return refuse(format!("`{name}` must not be 0"));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let (width, heads) = (self.hidden_size, self.num_attention_heads);
            return refuse(format!(
                "`hidden_size` {width} is not divisible by `num_attention_heads` {heads}"
            ));
        }
        if self.image_size < self.patch_size {
            return refuse(format!(
                "`image_size` {} is smaller than a patch of {}",
                self.image_size, self.patch_size
            ));
        }
        if self.num_channels != 3 {
            return refuse(format!("`num_channels` is {}, only 3 is supported", self.num_channels));
        }
        if !(self.layer_norm_eps > 0.0 && self.layer_norm_eps.is_finite()) {
            return refuse(format!(
                "`layer_norm_eps` {} is not a small positive number",
                self.layer_norm_eps
            ));
        }
        Ok(())
    }
}
