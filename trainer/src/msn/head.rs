//! The projection head: three linear layers, BatchNorm and GELU after the first two. Always in training mode.

use candle_core::{Result, Tensor, Var};
use dozen_models::vit::Kernels;
use std::collections::HashMap;

/// Added to the variance.
const EPS: f64 = 1e-5;
/// Weight of a new batch in the running statistics.
const MOMENTUM: f64 = 0.1;

/// Names and shapes of the head's parameters, in registration order.
pub(super) fn parameter_shapes(width: usize, hidden: usize, output: usize) -> Vec<(String, Vec<usize>)> {
    let mut shapes = Vec::new();
    for (layer, inputs, outputs) in [(1, width, hidden), (2, hidden, hidden), (3, hidden, output)] {
        shapes.push((format!("fc.fc{layer}.weight"), vec![outputs, inputs]));
        shapes.push((format!("fc.fc{layer}.bias"), vec![outputs]));
        if layer < 3 {
            shapes.push((format!("fc.bn{layer}.weight"), vec![outputs]));
            shapes.push((format!("fc.bn{layer}.bias"), vec![outputs]));
        }
    }
    shapes
}

/// Names and lengths of the running statistics.
pub(super) fn buffer_shapes(hidden: usize) -> Vec<(String, usize)> {
    let names = |layer| [format!("fc.bn{layer}.running_mean"), format!("fc.bn{layer}.running_var")];
    [1, 2].into_iter().flat_map(names).map(|name| (name, hidden)).collect()
}

/// The head over borrowed parameters and its own running statistics.
pub(super) struct Head {
    layers: [(Tensor, Tensor); 3],
    norms: [BatchNorm; 2],
    kernels: Kernels,
}

struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Var,
    running_var: Var,
}

impl Head {
    pub(super) fn new(
        parameters: &HashMap<String, Tensor>,
        buffers: &HashMap<String, Var>,
        kernels: Kernels,
    ) -> Result<Self> {
        let missing = |name: &str| candle_core::Error::Msg(format!("tensor `{name}` is missing"));
        let parameter = |name: String| parameters.get(&name).cloned().ok_or_else(|| missing(&name));
        let buffer = |name: String| buffers.get(&name).cloned().ok_or_else(|| missing(&name));
        let layer = |number: usize| -> Result<(Tensor, Tensor)> {
            Ok((parameter(format!("fc.fc{number}.weight"))?, parameter(format!("fc.fc{number}.bias"))?))
        };
        let norm = |number: usize| -> Result<BatchNorm> {
            Ok(BatchNorm {
                weight: parameter(format!("fc.bn{number}.weight"))?,
                bias: parameter(format!("fc.bn{number}.bias"))?,
                running_mean: buffer(format!("fc.bn{number}.running_mean"))?,
                running_var: buffer(format!("fc.bn{number}.running_var"))?,
            })
        };
        Ok(Self { layers: [layer(1)?, layer(2)?, layer(3)?], norms: [norm(1)?, norm(2)?], kernels })
    }

    /// `[B, D]` to `[B, output]`; updates the running statistics with this batch's.
    pub(super) fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let mut hidden = features.clone();
        for (norm, (weight, bias)) in self.norms.iter().zip(&self.layers) {
            hidden = self.kernels.gelu(&norm.forward(&self.kernels.linear(&hidden, weight, bias)?)?)?;
        }
        let (weight, bias) = &self.layers[2];
        self.kernels.linear(&hidden, weight, bias)
    }
}

impl BatchNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let rows = x.dim(0)? as f64;
        let mean = x.mean_keepdim(0)?;
        let centred = x.broadcast_sub(&mean)?;
        let variance = centred.sqr()?.mean_keepdim(0)?;
        // The buffer holds the unbiased variance, as PyTorch's does.
        blend(&self.running_mean, &mean.squeeze(0)?)?;
        blend(&self.running_var, &(variance.squeeze(0)? * (rows / (rows - 1.0).max(1.0)))?)?;
        let normed = centred.broadcast_div(&(variance + EPS)?.sqrt()?)?;
        normed.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }
}

/// `running ← (1 − momentum)·running + momentum·batch`.
fn blend(running: &Var, batch: &Tensor) -> Result<()> {
    let old = running.as_tensor().detach();
    running.set(&((old * (1.0 - MOMENTUM))? + (batch.detach() * MOMENTUM)?)?)
}
