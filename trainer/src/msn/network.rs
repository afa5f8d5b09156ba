//! An encoder: trunk, final norm, CLS, head.

use super::MsnConfig;
use super::head::{Head, Statistics};
use crate::Error;
use candle_core::{Tensor, Var};
use dozen_models::vit::reference::Vit;
use std::collections::HashMap;

/// Anchor or target network over shared storage: it sees every later change of its parameters.
pub(super) struct Network {
    trunk: Vit,
    head: Head,
}

impl Network {
    pub(super) fn new(
        config: &MsnConfig,
        parameters: &HashMap<String, Tensor>,
        buffers: &HashMap<String, Var>,
    ) -> Result<Self, Error> {
        Ok(Self {
            trunk: Vit::with_kernels(&config.vit, parameters, config.kernels)?,
            head: Head::new(parameters, buffers, config.kernels)?,
        })
    }

    /// One group of views of equal size, `[n, 3, s, s]`, to head outputs `[n, d]`; the group is one BatchNorm batch.
    pub(super) fn forward(
        &self,
        pixels: &Tensor,
        keep: Option<&[u32]>,
    ) -> Result<(Tensor, Statistics), Error> {
        let cls = self.trunk.final_norm(&self.trunk.forward_cls(pixels, keep)?)?;
        Ok(self.head.forward(&cls)?)
    }

    /// Moves the head's running statistics towards those of a forward pass.
    pub(super) fn accept(&self, statistics: &Statistics) -> Result<(), Error> {
        Ok(self.head.accept(statistics)?)
    }
}
