//! The projection head: three linear layers, BatchNorm and GELU after the first two. Always in training mode.

use super::collective::Ranks;
use super::update::blend;
use candle_core::{Result, Tensor, Var};
use dozen_models::vit::Kernels;
use std::collections::HashMap;

/// Added to the variance.
const EPS: f64 = 1e-5;
/// Weight of a new batch in the running statistics.
const MOMENTUM: f64 = 0.1;

/// What the names of a head's tensors begin with. The first head's are the published ones; those of an ensemble's others
/// carry their number.
fn prefix(head: usize) -> String {
    if head == 0 { "fc".into() } else { format!("fc.{head}") }
}

/// Names and shapes of the parameters of head number `head`, in registration order.
pub(super) fn parameter_shapes(
    head: usize,
    width: usize,
    hidden: usize,
    output: usize,
) -> Vec<(String, Vec<usize>)> {
    let prefix = prefix(head);
    let mut shapes = Vec::new();
    for (layer, inputs, outputs) in [(1, width, hidden), (2, hidden, hidden), (3, hidden, output)] {
        shapes.push((format!("{prefix}.fc{layer}.weight"), vec![outputs, inputs]));
        shapes.push((format!("{prefix}.fc{layer}.bias"), vec![outputs]));
        if layer < 3 {
            shapes.push((format!("{prefix}.bn{layer}.weight"), vec![outputs]));
            shapes.push((format!("{prefix}.bn{layer}.bias"), vec![outputs]));
        }
    }
    shapes
}

/// Names and lengths of its running statistics.
pub(super) fn buffer_shapes(head: usize, hidden: usize) -> Vec<(String, usize)> {
    let prefix = prefix(head);
    let names =
        |layer| [format!("{prefix}.bn{layer}.running_mean"), format!("{prefix}.bn{layer}.running_var")];
    [1, 2].into_iter().flat_map(names).map(|name| (name, hidden)).collect()
}

/// The head over borrowed parameters and its own running statistics.
pub(super) struct Head {
    layers: [(Tensor, Tensor); 3],
    norms: [BatchNorm; 2],
    kernels: Kernels,
    ranks: Ranks,
}

/// Mean and variance over one batch, for each of the head's norms. Kept apart from the running statistics until the step
/// is known to be sound.
pub(super) struct Statistics([(Tensor, Tensor); 2]);

struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Var,
    running_var: Var,
}

impl Head {
    /// Head number `head` of the network whose tensors these are.
    pub(super) fn new(
        head: usize,
        parameters: &HashMap<String, Tensor>,
        buffers: &HashMap<String, Var>,
        kernels: Kernels,
        ranks: &Ranks,
    ) -> Result<Self> {
        let prefix = prefix(head);
        let missing = |name: &str| candle_core::Error::Msg(format!("tensor `{name}` is missing"));
        let parameter = |name: String| parameters.get(&name).cloned().ok_or_else(|| missing(&name));
        let buffer = |name: String| buffers.get(&name).cloned().ok_or_else(|| missing(&name));
        let layer = |number: usize| -> Result<(Tensor, Tensor)> {
            Ok((
                parameter(format!("{prefix}.fc{number}.weight"))?,
                parameter(format!("{prefix}.fc{number}.bias"))?,
            ))
        };
        let norm = |number: usize| -> Result<BatchNorm> {
            Ok(BatchNorm {
                weight: parameter(format!("{prefix}.bn{number}.weight"))?,
                bias: parameter(format!("{prefix}.bn{number}.bias"))?,
                running_mean: buffer(format!("{prefix}.bn{number}.running_mean"))?,
                running_var: buffer(format!("{prefix}.bn{number}.running_var"))?,
            })
        };
        Ok(Self {
            layers: [layer(1)?, layer(2)?, layer(3)?],
            norms: [norm(1)?, norm(2)?],
            kernels,
            ranks: ranks.clone(),
        })
    }

    /// `[B, D]` to `[B, output]`, normalised by this batch's statistics over all ranks, which are returned beside it.
    pub(super) fn forward(&self, features: &Tensor) -> Result<(Tensor, Statistics)> {
        let [(first, first_bias), (second, second_bias), (third, third_bias)] = &self.layers;
        let hidden = self.kernels.linear(features, first, first_bias)?;
        let (hidden, first) = self.norms[0].forward(&hidden, &self.ranks)?;
        let hidden = self.kernels.linear(&self.kernels.gelu(&hidden)?, second, second_bias)?;
        let (hidden, second) = self.norms[1].forward(&hidden, &self.ranks)?;
        let output = self.kernels.linear(&self.kernels.gelu(&hidden)?, third, third_bias)?;
        Ok((output, Statistics([first, second])))
    }

    /// Moves the running statistics towards those of a batch.
    pub(super) fn accept(&self, Statistics(batch): &Statistics) -> Result<()> {
        for (norm, (mean, variance)) in self.norms.iter().zip(batch) {
            blend(&norm.running_mean, mean, 1.0 - MOMENTUM, MOMENTUM)?;
            blend(&norm.running_var, variance, 1.0 - MOMENTUM, MOMENTUM)?;
        }
        Ok(())
    }
}

impl BatchNorm {
    /// The normalised batch, its mean, and its unbiased variance: PyTorch's buffers hold that, while the normalisation
    /// divides by the biased one.
    fn forward(&self, x: &Tensor, ranks: &Ranks) -> Result<(Tensor, (Tensor, Tensor))> {
        let rows = (x.dim(0)? * ranks.count()) as f64;
        let mean = ranks.mean(&x.mean_keepdim(0)?)?;
        let centred = x.broadcast_sub(&mean)?;
        let variance = ranks.mean(&centred.sqr()?.mean_keepdim(0)?)?;
        let unbiased = (variance.squeeze(0)?.detach() * (rows / (rows - 1.0).max(1.0)))?;
        let scale = (variance + EPS)?.recip()?.sqrt()?.broadcast_mul(&self.weight)?;
        let normed = centred.broadcast_mul(&scale)?.broadcast_add(&self.bias)?;
        Ok((normed, (mean.squeeze(0)?.detach(), unbiased)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    /// Four rows through a norm whose scale and shift do nothing.
    #[test]
    fn batch_norm_divides_by_the_biased_and_remembers_the_unbiased_variance() {
        let device = Device::Cpu;
        let constant = |value: f64| Tensor::full(value, 2, &device).unwrap();
        let norm = BatchNorm {
            weight: constant(1.0),
            bias: constant(0.0),
            running_mean: Var::from_tensor(&constant(0.0)).unwrap(),
            running_var: Var::from_tensor(&constant(1.0)).unwrap(),
        };
        let batch = Tensor::new(&[[1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [6.0, 9.0]], &device).unwrap();
        let (normed, (mean, variance)) = norm.forward(&batch, &Ranks::alone()).unwrap();
        assert_eq!(mean.to_vec1::<f64>().unwrap(), [3.0, 6.0]);
        let variance = variance.to_vec1::<f64>().unwrap();
        assert!(
            (variance[0] - 14.0 / 3.0).abs() < 1e-12 && (variance[1] - 4.0).abs() < 1e-12,
            "{variance:?}"
        );
        let first = normed.to_vec2::<f64>().unwrap()[0][0];
        assert!((first + 2.0 / (3.5_f64 + 1e-5).sqrt()).abs() < 1e-12, "{first}");
        assert_eq!(normed.dtype(), DType::F64);
        // Looking does not move the running statistics.
        assert_eq!(norm.running_mean.to_vec1::<f64>().unwrap(), [0.0, 0.0]);
    }

    #[test]
    fn accepting_moves_the_running_statistics_by_a_tenth() {
        let device = Device::Cpu;
        let shapes = parameter_shapes(0, 3, 4, 2).into_iter();
        let parameters: HashMap<String, Tensor> =
            shapes.map(|(name, shape)| (name, Tensor::randn(0.0, 1.0, shape, &device).unwrap())).collect();
        let zeros = |(name, length)| {
            (name, Var::from_tensor(&Tensor::zeros(length, DType::F64, &device).unwrap()).unwrap())
        };
        let buffers: HashMap<String, Var> = buffer_shapes(0, 4).into_iter().map(zeros).collect();
        let head = Head::new(0, &parameters, &buffers, Kernels::Reference, &Ranks::alone()).unwrap();
        let features = Tensor::randn(0.0, 1.0, (5, 3), &device).unwrap();
        let (output, statistics) = head.forward(&features).unwrap();
        assert_eq!(output.dims(), [5, 2]);
        head.accept(&statistics).unwrap();
        let Statistics([(mean, variance), _]) = &statistics;
        for (buffer, batch) in [("running_mean", mean), ("running_var", variance)] {
            let buffer = buffers[&format!("fc.bn1.{buffer}")].to_vec1::<f64>().unwrap();
            for (running, batch) in buffer.into_iter().zip(batch.to_vec1::<f64>().unwrap()) {
                assert!((running - 0.1 * batch).abs() < 1e-15);
            }
        }
    }
}
