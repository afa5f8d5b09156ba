//! Plain candle tensors, differentiable: the truth every other execution is tested against.

use super::VitConfig;
use crate::Error;
use candle_core::Tensor;
use std::collections::HashMap;

/// The trunk over borrowed parameters. Parameters carry the facebook/timm names (`cls_token`, `pos_embed`,
/// `patch_embed.proj.weight` `[D,3,P,P]`, `blocks.{i}.attn.qkv.weight`, …, `norm.weight`): the crate's canonical names.
pub struct Vit {
    config: VitConfig,
}

impl Vit {
    /// Names and shapes of every parameter, in registration order.
    pub fn parameter_shapes(_config: &VitConfig) -> Vec<(String, Vec<usize>)> {
        todo!()
    }

    /// Builds the trunk over tensors (variables' or frozen); checks every shape.
    pub fn new(_config: &VitConfig, _parameters: &HashMap<String, Tensor>) -> Result<Self, Error> {
        todo!()
    }

    /// The configuration.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// Pixels `[B, 3, H, W]` to the hidden states after the last block, before the final norm: `[B, 1 + kept, D]`.
    ///
    /// `keep`: indices of the patches (0-based, without CLS) that stay, one list for the whole batch; `None` keeps all.
    /// Dropped after the position embedding is added (spec §1.2). H and W may differ from `image_size`; position
    /// embeddings are interpolated to ⌊H/P⌋×⌊W/P⌋ (square grids).
    pub fn forward(&self, _pixels: &Tensor, _keep: Option<&[u32]>) -> Result<Tensor, Error> {
        todo!()
    }

    /// The final LayerNorm (spec §1.1) of any `[.., D]`.
    pub fn final_norm(&self, _hidden: &Tensor) -> Result<Tensor, Error> {
        todo!()
    }
}
