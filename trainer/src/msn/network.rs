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
        let cls = self.cls(pixels, keep)?;
        Ok(self.head.forward(&self.trunk.final_norm(&cls)?)?)
    }

    /// Whole views `[n, 3, s, s]` to their CLS `[n, D]` before the final norm, and to head outputs `[n, d]`.
    pub(super) fn describe(&self, pixels: &Tensor) -> Result<(Tensor, Tensor), Error> {
        let cls = self.cls(pixels, None)?;
        let (output, _) = self.head.forward(&self.trunk.final_norm(&cls)?)?;
        Ok((cls, output))
    }

    fn cls(&self, pixels: &Tensor, keep: Option<&[u32]>) -> Result<Tensor, Error> {
        Ok(self.trunk.forward(pixels, keep)?.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?)
    }

    /// Moves the head's running statistics towards those of a forward pass.
    pub(super) fn accept(&self, statistics: &Statistics) -> Result<(), Error> {
        Ok(self.head.accept(statistics)?)
    }
}
