//! The linear probe of arXiv 2204.07141: a frozen trunk's CLS through a trained LayerNorm, scaled to length 1, into a linear
//! classifier; SGD with Nesterov momentum, the rate falling to 0 along a cosine.

use super::report::{Report, ReportRow};
use super::{Features, Labelled};
use crate::Error;
use crate::data::order::{Purpose, keyed_rng};
use crate::random::normal;
use candle_core::{D, Device, Tensor, Var};
use dozen_models::vit::Kernels;
use rand::seq::SliceRandom as _;
use std::f64::consts::PI;

const MOMENTUM: f64 = 0.9;
const NORM_EPS: f64 = 1e-5;
/// Standard deviation of the classifier's initial weights.
const DEVIATION: f64 = 0.01;

/// How the probe is trained.
#[derive(Clone, Copy, Debug)]
pub struct LinearOptions {
    /// Passes over the training images.
    pub epochs: usize,
    /// Images per step.
    pub batch_size: usize,
    /// Learning rate at the start.
    pub learning_rate: f64,
    /// Seed of initial weights and order.
    pub seed: u64,
}

/// Trains on `train`, of which each epoch takes the next (views of the same images in the same order), and answers the
/// queries.
pub fn linear(
    model: String,
    train: &[Features],
    queries: &Features,
    options: &LinearOptions,
) -> Result<Report, Error> {
    let first = train.first().ok_or_else(|| Error::Evaluation("there are no training images".into()))?;
    let asked = Labelled::new(first, Some(queries))?;
    let mut probe = Probe::new(first.vectors[0].len(), first.classes.len(), options.seed)?;
    let views = train.iter().map(|view| rows(&view.vectors)).collect::<Result<Vec<_>, _>>()?;
    let labels: Vec<u32> = first.labels.iter().map(|&label| label as u32).collect();
    let labels = Tensor::new(labels, &Device::Cpu)?;
    let count = first.vectors.len();
    let batch_size = options.batch_size.clamp(1, count);
    let steps_per_epoch = count / batch_size;
    let steps = (options.epochs * steps_per_epoch) as f64;
    for epoch in 0..options.epochs {
        let mut order: Vec<u32> = (0..count as u32).collect();
        order.shuffle(&mut keyed_rng(options.seed, Purpose::Probe, epoch as u64, 0, 0));
        for (step, batch) in order.chunks_exact(batch_size).enumerate() {
            let batch = Tensor::new(batch, &Device::Cpu)?;
            let features = views[epoch % views.len()].index_select(&batch, 0)?;
            let progress = (epoch * steps_per_epoch + step) as f64 / steps;
            let rate = options.learning_rate * 0.5 * (1.0 + (PI * progress).cos());
            probe.step(&features, &labels.index_select(&batch, 0)?, rate)?;
        }
    }
    let answers = probe.logits(&rows(&queries.vectors)?)?.argmax(D::Minus1)?.to_vec1::<u32>()?;
    let right = answers.iter().enumerate().filter(|(query, answer)| **answer as usize == asked.label(*query));
    Ok(Report {
        evaluation: "linear probe",
        model,
        queries: asked.len(),
        classes: first.classes.len(),
        settings: vec![
            ("training images", count.to_string()),
            ("views of each", train.len().to_string()),
            ("epochs", options.epochs.to_string()),
            ("batch", batch_size.to_string()),
            ("learning rate", options.learning_rate.to_string()),
            ("seed", options.seed.to_string()),
        ],
        rows: vec![ReportRow::of_proportion("linear".into(), right.count(), asked.len())],
    })
}

/// Unit vectors as rows of variance 1: what normalising CLS itself would give, as the vectors are CLS centred and scaled.
fn rows(vectors: &[Vec<f32>]) -> Result<Tensor, Error> {
    let width = vectors.first().map_or(0, Vec::len);
    let scale = (width as f32).sqrt();
    let values: Vec<f32> = vectors.iter().flatten().map(|value| value * scale).collect();
    Ok(Tensor::from_vec(values, (vectors.len(), width), &Device::Cpu)?)
}

/// LayerNorm, unit length, linear map; and the momentum of each tensor.
struct Probe {
    /// Norm's weight and bias, classifier's weight `[classes, D]` and bias.
    parameters: [Var; 4],
    velocities: [Tensor; 4],
}

impl Probe {
    fn new(width: usize, classes: usize, seed: u64) -> Result<Self, Error> {
        let mut rng = keyed_rng(seed, Purpose::Probe, u64::MAX, 0, 0);
        let weights = (0..classes * width).map(|_| (DEVIATION * normal(&mut rng)) as f32);
        let weights: Vec<f32> = weights.collect();
        let start = [
            Tensor::ones(width, candle_core::DType::F32, &Device::Cpu)?,
            Tensor::zeros(width, candle_core::DType::F32, &Device::Cpu)?,
            Tensor::from_vec(weights, (classes, width), &Device::Cpu)?,
            Tensor::zeros(classes, candle_core::DType::F32, &Device::Cpu)?,
        ];
        let zeros = |tensor: &Tensor| tensor.zeros_like();
        let [a, b, c, d] = &start;
        let velocities = [zeros(a)?, zeros(b)?, zeros(c)?, zeros(d)?];
        let variable = |tensor: &Tensor| Var::from_tensor(tensor);
        Ok(Self { parameters: [variable(a)?, variable(b)?, variable(c)?, variable(d)?], velocities })
    }

    fn logits(&self, features: &Tensor) -> Result<Tensor, Error> {
        let [scale, shift, weight, bias] = &self.parameters;
        let normed = Kernels::Reference.layer_norm(features, scale, shift, NORM_EPS)?;
        let length = (normed.sqr()?.sum_keepdim(D::Minus1)? + 1e-12)?.sqrt()?;
        Ok(Kernels::Reference.linear(&normed.broadcast_div(&length)?, weight, bias)?)
    }

    fn loss(&self, features: &Tensor, labels: &Tensor) -> Result<Tensor, Error> {
        Ok(candle_nn::loss::cross_entropy(&self.logits(features)?, labels)?)
    }

    /// v ← 0.9·v − rate·g, w ← w + 0.9·v − rate·g.
    fn step(&mut self, features: &Tensor, labels: &Tensor, rate: f64) -> Result<(), Error> {
        let gradients = self.loss(features, labels)?.backward()?;
        for (parameter, velocity) in self.parameters.iter().zip(&mut self.velocities) {
            let Some(gradient) = gradients.get(parameter) else {
                return Err(Error::NoGradient { name: "probe".into() });
            };
            let fall = (gradient.detach() * rate)?;
            *velocity = ((&*velocity * MOMENTUM)? - &fall)?;
            let moved = ((parameter.as_tensor().detach() + (&*velocity * MOMENTUM)?)? - fall)?;
            parameter.set(&moved)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three classes around three directions of eight dimensions.
    fn clusters(count: usize, salt: usize) -> Features {
        let vector = |index: usize| {
            let values: Vec<f32> = (0..8)
                .map(|d| {
                    let noise = ((index * 8 + d + 1000 * salt) as f32 * 12.9898).sin() * 0.2;
                    noise + if d / 2 == index % 3 { 1.0 } else { 0.0 }
                })
                .collect();
            let mean = values.iter().sum::<f32>() / 8.0;
            let length = values.iter().map(|value| (value - mean).powi(2)).sum::<f32>().sqrt();
            values.into_iter().map(|value| (value - mean) / length).collect()
        };
        Features {
            names: (0..count).map(|index| index.to_string()).collect(),
            labels: (0..count).map(|index| index % 3).collect(),
            classes: ["a", "b", "c"].map(String::from).to_vec(),
            vectors: (0..count).map(vector).collect(),
        }
    }

    #[test]
    fn separable_classes_are_learnt() {
        let options = LinearOptions { epochs: 20, batch_size: 16, learning_rate: 1.0, seed: 0 };
        let report = linear("m".into(), &[clusters(60, 0)], &clusters(30, 1), &options).unwrap();
        assert!(report.rows[0].accuracy > 0.99, "{report:?}");
        let again = linear("m".into(), &[clusters(60, 0)], &clusters(30, 1), &options).unwrap();
        assert_eq!(report, again);
        let untrained = LinearOptions { epochs: 0, ..options };
        let report = linear("m".into(), &[clusters(60, 0)], &clusters(30, 1), &untrained).unwrap();
        assert!(report.rows[0].accuracy < 0.8, "{report:?}");
    }

    #[test]
    fn gradients_are_the_finite_differences() {
        let data = clusters(9, 0);
        let probe = Probe::new(8, 3, 1).unwrap();
        // In f64, and with a norm that does something.
        let double = |var: &Var, change: f64| {
            let tensor = var.to_dtype(candle_core::DType::F64).unwrap();
            let wave: Vec<f64> = (0..tensor.elem_count()).map(|n| change * (1.7 * n as f64).sin()).collect();
            Var::from_tensor(
                &(&tensor + Tensor::from_vec(wave, tensor.shape(), &Device::Cpu).unwrap()).unwrap(),
            )
            .unwrap()
        };
        let [a, b, c, d] = &probe.parameters;
        let parameters = [double(a, 0.3), double(b, 0.3), double(c, 1.0), double(d, 0.5)];
        let probe = Probe { velocities: [a, b, c, d].map(|one| one.zeros_like().unwrap()), parameters };
        let features = rows(&data.vectors).unwrap().to_dtype(candle_core::DType::F64).unwrap();
        let labels =
            Tensor::new(data.labels.iter().map(|&label| label as u32).collect::<Vec<_>>(), &Device::Cpu)
                .unwrap();
        let loss = || probe.loss(&features, &labels).unwrap().to_scalar::<f64>().unwrap();
        let gradients = probe.loss(&features, &labels).unwrap().backward().unwrap();
        for parameter in &probe.parameters {
            let gradient = gradients.get(parameter).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
            let original = parameter.copy().unwrap();
            let values = original.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            for index in [0, values.len() / 2, values.len() - 1] {
                let at = |change: f64| {
                    let mut moved = values.clone();
                    moved[index] += change;
                    parameter.set(&Tensor::from_vec(moved, original.shape(), &Device::Cpu).unwrap()).unwrap();
                    let value = loss();
                    parameter.set(&original).unwrap();
                    value
                };
                let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((gradient[index] - slope).abs() < 1e-8, "{} instead of {slope}", gradient[index]);
            }
        }
    }
}
