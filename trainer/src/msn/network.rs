//! An encoder: trunk, final norm, CLS, heads.

use super::MsnConfig;
use super::collective::Ranks;
use super::head::{Head, Statistics};
use crate::Error;
use candle_core::{DType, Tensor, Var};
use dozen_models::vit::reference::{ForwardOptions, Vit};
use dozen_models::vit::{Kernels, Parameters, VitConfig};
use std::collections::HashMap;

/// Type of a trunk's activations. Parameters, their moments and gradients, heads and losses are f32 in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    Cast { config: VitConfig, kernels: Kernels, parameters: Parameters },
}

impl Trunk {
    /// The final norm's CLS, `[n, D]`, in the type of the parameters.
    fn cls(&self, pixels: &Tensor, options: &ForwardOptions<'_>) -> Result<Tensor, Error> {
        let vit = match self {
            Self::Plain(vit) => vit,
            Self::Cast { config, kernels, parameters } => {
                &Vit::with_kernels(config, &half(parameters)?, *kernels)?
            }
        };
        let hidden = vit.forward_with(pixels, options)?;
        let cls = hidden.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?;
        let cls = match self {
            Self::Plain(_) => cls,
            Self::Cast { .. } => cls.to_dtype(DType::F32)?,
        };
        Ok(vit.final_norm(&cls)?)
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
        let trunk = Vit::with_kernels(&config.vit, parameters, config.kernels)?;
        let on_cuda = parameters.values().all(|value| value.device().is_cuda());
        Ok(Self {
            trunk: match config.precision {
                Precision::Bf16 if on_cuda => Trunk::Cast {
                    config: config.vit.clone(),
                    kernels: config.kernels,
                    parameters: of_trunk(config, parameters),
                },
                Precision::F32 | Precision::Bf16 => Trunk::Plain(trunk),
            },
            heads: (0..config.heads).map(head).collect::<candle_core::Result<_>>()?,
        })
    }

    /// One group of views of equal size, `[n, 3, s, s]`; the group is one BatchNorm batch.
    pub(super) fn forward(&self, pixels: &Tensor, options: &ForwardOptions<'_>) -> Result<Output, Error> {
        let cls = self.trunk.cls(pixels, options)?;
        let (mut heads, mut statistics) = (Vec::new(), Vec::new());
        for head in &self.heads {
            let (output, of_batch) = head.forward(&cls)?;
            heads.push(output);
            statistics.push(of_batch);
        }
        Ok(Output { cls, heads, statistics })
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
