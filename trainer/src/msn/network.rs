//! An encoder: trunk, final norm, CLS, heads.

use super::MsnConfig;
use super::collective::Ranks;
use super::head::{Head, Statistics};
use crate::Error;
use candle_core::{Tensor, Var};
use dozen_models::vit::reference::{ForwardOptions, Vit};
use std::collections::HashMap;

/// Anchor or target network over shared storage: it sees every later change of its parameters.
pub(super) struct Network {
    trunk: Vit,
    heads: Vec<Head>,
}

/// What a network makes of one group of views.
pub(super) struct Output {
    /// CLS after the final norm, `[n, D]`.
    pub(super) cls: Tensor,
    /// Of each head, `[n, d]`.
    pub(super) heads: Vec<Tensor>,
    /// Of each head's norms over this group.
    pub(super) statistics: Vec<Statistics>,
}

impl Network {
    pub(super) fn new(
        config: &MsnConfig,
        parameters: &HashMap<String, Tensor>,
        buffers: &HashMap<String, Var>,
        ranks: &Ranks,
    ) -> Result<Self, Error> {
        let head = |head| Head::new(head, parameters, buffers, config.kernels, ranks);
        Ok(Self {
            trunk: Vit::with_kernels(&config.vit, parameters, config.kernels)?
                .with_recompute(config.recompute),
            heads: (0..config.heads).map(head).collect::<candle_core::Result<_>>()?,
        })
    }

    /// One group of views of equal size, `[n, 3, s, s]`; the group is one BatchNorm batch.
    pub(super) fn forward(&self, pixels: &Tensor, options: &ForwardOptions<'_>) -> Result<Output, Error> {
        let cls = self.trunk.final_norm(&self.cls(pixels, options)?)?;
        let (heads, statistics) = self.heads(&cls)?;
        Ok(Output { cls, heads, statistics })
    }

    /// Whole views `[n, 3, s, s]` to their CLS `[n, D]` before the final norm, and to each head's output `[n, d]`.
    pub(super) fn describe(&self, pixels: &Tensor) -> Result<(Tensor, Vec<Tensor>), Error> {
        let cls = self.cls(pixels, &ForwardOptions::default())?;
        let (heads, _) = self.heads(&self.trunk.final_norm(&cls)?)?;
        Ok((cls, heads))
    }

    fn cls(&self, pixels: &Tensor, options: &ForwardOptions<'_>) -> Result<Tensor, Error> {
        Ok(self.trunk.forward_cls(pixels, options)?)
    }

    fn heads(&self, cls: &Tensor) -> Result<(Vec<Tensor>, Vec<Statistics>), Error> {
        let outputs = self.heads.iter().map(|head| head.forward(cls));
        Ok(outputs.collect::<candle_core::Result<Vec<_>>>()?.into_iter().unzip())
    }

    /// Moves the heads' running statistics towards those of a forward pass.
    pub(super) fn accept(&self, statistics: &[Statistics]) -> Result<(), Error> {
        for (head, statistics) in self.heads.iter().zip(statistics) {
            head.accept(statistics)?;
        }
        Ok(())
    }
}
