//! The whole step against numbers computed elsewhere, finite differences, and the paper's invariants.

mod gradients;
mod loss;
mod ranks;
mod step;
mod switches;
mod target;

use super::optimizer::Descent;
use super::step::Evaluation;
use super::*;
use crate::Error;
use candle_core::{DType, Device, Tensor};
use dozen_models::vit::{Family, Kernels, Positions, VitConfig};

const DEVICE: Device = Device::Cpu;

fn number(tensor: &Tensor) -> f64 {
    tensor.to_scalar::<f64>().unwrap()
}

fn length(tensor: &Tensor) -> f64 {
    number(&tensor.to_dtype(DType::F64).unwrap().sqr().unwrap().sum_all().unwrap()).sqrt()
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

#[track_caller]
fn assert_near(actual: f64, expected: f64, tolerance: f64) {
    assert!((actual - expected).abs() <= tolerance, "{actual} instead of {expected}");
}

/// Compares the first numbers of a tensor.
#[track_caller]
fn assert_row(actual: &Tensor, expected: &[f64], tolerance: f64) {
    for (actual, expected) in numbers(actual).iter().zip(expected) {
        assert_near(*actual, *expected, tolerance);
    }
}

fn loss_options(memax_weight: f64, sinkhorn: bool) -> LossOptions {
    LossOptions {
        temperature: 0.1,
        memax_weight,
        entropy_weight: 0.0,
        koleo_weight: 0.0,
        label_smoothing: 0.0,
        sinkhorn,
        prior_exponent: 0.0,
    }
}

impl Msn {
    /// What a step would report of these evaluations, its gradients apart.
    fn report(&self, evaluations: &[Evaluation]) -> Result<StepReport, Error> {
        let descent = Descent {
            control: Tensor::new(&[0.0, 1.0, 1.0], &DEVICE)?,
            norms: Tensor::zeros(self.parameters.len(), DType::F64, &DEVICE)?,
        };
        PendingReport::new(&self.numbers(evaluations)?, evaluations, &descent, self.outer_qkv, 1)?.read()
    }
}

/// A network small enough for finite differences: 16 patches, of which 11 stay. In f64 the fused kernels give way to the
/// reference, so tests in f64 are of that and tests in f32 of what trains.
fn tiny() -> MsnConfig {
    MsnConfig {
        vit: VitConfig {
            hidden_size: 32,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            intermediate_size: 128,
            patch_size: 8,
            image_size: 32,
            num_channels: 3,
            layer_norm_eps: 1e-6,
            family: Family::Msn,
            positions: Positions::default(),
        },
        heads: 1,
        head_hidden: 64,
        head_output: 16,
        prototypes: 8,
        loss: loss_options(1.0, false),
        clip_gradient: 3.0,
        kernels: Kernels::Fused,
        recompute: false,
        precision: Precision::F32,
    }
}

const KEEP: [u32; 11] = [3, 0, 15, 7, 9, 1, 12, 5, 10, 14, 2];

fn pixels(images: usize, side: usize, pace: f64, dtype: DType) -> Tensor {
    let values: Vec<f64> = (0..images * 3 * side * side).map(|n| (pace * n as f64).sin() * 1.5).collect();
    Tensor::from_vec(values, (images, 3, side, side), &DEVICE).unwrap().to_dtype(dtype).unwrap()
}

/// Four images: a target, a random and two focal views of each.
fn tiny_views(dtype: DType) -> Views {
    views(pixels(4, 32, 0.37, dtype), Some(pixels(4, 32, 0.53, dtype)), Some(pixels(8, 16, 0.71, dtype)))
}

/// With the first group of anchors masked by [`KEEP`].
fn views(target: Tensor, random: Option<Tensor>, focal: Option<Tensor>) -> Views {
    Views::new(target, random, focal, Some(Mask::Shared(KEEP.to_vec()))).unwrap()
}

fn rates() -> Rates {
    Rates {
        learning_rate: 1e-3,
        weight_decay: 0.05,
        momentum: 0.99,
        sharpen: 0.25,
        ensemble_temperature: 0.1,
    }
}

/// A network whose weights are large enough for every gradient to stand out of rounding.
fn lively(config: MsnConfig) -> Msn {
    let msn = Msn::new(config, 3, DType::F64, &DEVICE, &Ranks::alone()).unwrap();
    for parameter in &msn.parameters {
        let old = parameter.value.as_tensor().detach();
        let values: Vec<f64> = (0..old.elem_count()).map(|n| (n as f64 * 1.7).sin() * 0.05).collect();
        let nudge = Tensor::from_vec(values, old.shape(), &DEVICE).unwrap();
        parameter.value.set(&((old * 3.0).unwrap() + nudge).unwrap()).unwrap();
    }
    msn
}
