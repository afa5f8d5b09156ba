//! An encoder: trunk, final norm, CLS, heads.

use super::MsnConfig;
use super::collective::Ranks;
use super::head::{Head, Statistics};
use crate::Error;
use candle_core::{DType, Tensor, Var};
use dozen_models::vit::reference::{ForwardOptions, Vit};
use dozen_models::vit::{Kernels, Parameters, VitConfig};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Type of a trunk's activations. Parameters, their moments and gradients, heads and losses are f32 in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As the parameters.
    F32,
    /// bf16 on CUDA devices, where matrices and embeddings are cast to it in every pass; LayerNorm's parameters and biases
    /// stay f32, as the sums do. f32 elsewhere: CPUs have no faster bf16.
    Bf16,
}

/// Anchor or target network over shared storage: it sees every later change of its parameters.
pub(super) struct Network {
    trunk: Trunk,
    heads: Vec<Head>,
}

enum Trunk {
    /// In the type of its parameters.
    Plain(Vit),
    /// In bf16.
    Cast { config: VitConfig, kernels: Kernels, recompute: bool, parameters: Parameters },
}

impl Trunk {
    /// CLS before and after the final norm, each `[n, D]`, in the type of the parameters.
    fn cls(&self, pixels: &Tensor, options: &ForwardOptions<'_>) -> Result<(Tensor, Tensor), Error> {
        match self {
            Self::Plain(vit) => {
                let cls = vit.forward_cls(pixels, options)?;
                let normed = vit.final_norm(&cls)?;
                Ok((cls, normed))
            }
            Self::Cast { config, kernels, recompute, parameters } => {
                let vit = Vit::with_kernels(config, &half(parameters)?, *kernels)?.with_recompute(*recompute);
                let cls = vit.forward_cls(pixels, options)?.to_dtype(DType::F32)?;
                let normed = vit.final_norm(&cls)?;
                Ok((cls, normed))
            }
        }
    }
}

/// Parameters with more than one dimension in bf16, the others as they are. Gradients flow back in f32.
fn half(parameters: &Parameters) -> candle_core::Result<Parameters> {
    let cast = |(name, value): (&String, &Tensor)| {
        let value = if value.rank() > 1 { value.to_dtype(DType::BF16)? } else { value.clone() };
        Ok((name.clone(), value))
    };
    parameters.iter().map(cast).collect()
}

/// The trunk's among an encoder's parameters.
fn of_trunk(config: &MsnConfig, parameters: &HashMap<String, Tensor>) -> Parameters {
    let names = Vit::parameter_shapes(&config.vit).into_iter().map(|(name, _)| name);
    names.filter_map(|name| parameters.get(&name).map(|value| (name, value.clone()))).collect()
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
        let trunk =
            Vit::with_kernels(&config.vit, parameters, config.kernels)?.with_recompute(config.recompute);
        let on_cuda = parameters.values().all(|value| value.device().is_cuda());
        Ok(Self {
            trunk: match config.precision {
                Precision::Bf16 if on_cuda => Trunk::Cast {
                    config: config.vit.clone(),
                    kernels: config.kernels,
                    recompute: config.recompute,
                    parameters: of_trunk(config, parameters),
                },
                Precision::F32 | Precision::Bf16 => Trunk::Plain(trunk),
            },
            heads: (0..config.heads).map(head).collect::<candle_core::Result<_>>()?,
        })
    }

    /// One group of views of equal size, `[n, 3, s, s]`; the group is one BatchNorm batch.
    pub(super) fn forward(&self, pixels: &Tensor, options: &ForwardOptions<'_>) -> Result<Output, Error> {
        let (_, cls) = self.trunk.cls(pixels, options)?;
        let (heads, statistics) = self.heads(&cls)?;
        Ok(Output { cls, heads, statistics })
    }

    /// Whole views `[n, 3, s, s]` to their CLS `[n, D]` before the final norm, and to each head's output `[n, d]`.
    pub(super) fn describe(&self, pixels: &Tensor) -> Result<(Tensor, Vec<Tensor>), Error> {
        let (cls, normed) = self.trunk.cls(pixels, &ForwardOptions::default())?;
        let (heads, _) = self.heads(&normed)?;
        Ok((cls, heads))
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

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn matrices_are_cast_and_their_gradients_come_back_in_f32() {
        let variable = |shape: &[usize]| {
            Var::from_tensor(&Tensor::full(1.0_f32 + 1e-4, shape, &Device::Cpu).unwrap()).unwrap()
        };
        let (matrix, bias) = (variable(&[2, 3]), variable(&[3]));
        let parameters = [("matrix", &matrix), ("bias", &bias)]
            .map(|(name, value)| (name.to_owned(), value.as_tensor().clone()))
            .into();
        let cast = half(&parameters).unwrap();
        assert_eq!(cast["matrix"].dtype(), DType::BF16);
        assert_eq!(cast["bias"].dtype(), DType::F32);
        let loss = cast["matrix"].to_dtype(DType::F32).unwrap().broadcast_mul(&cast["bias"]).unwrap();
        let gradients = loss.sum_all().unwrap().backward().unwrap();
        let gradient = gradients.get(&matrix).unwrap();
        assert_eq!(gradient.dtype(), DType::F32);
        // The bias's own value, rounded to bf16 on its way back.
        assert_eq!(gradient.to_vec2::<f32>().unwrap(), [[1.0; 3]; 2]);
    }
}
