//! AdamW (decoupled decay) with the paper's three groups, and gradient clipping.

use super::step::Rates;
use super::update::{blend, blend_square, descend};
use crate::Error;
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPS: f64 = 1e-8;

/// A trained tensor with its moments.
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) value: Var,
    pub(super) first_moment: Var,
    pub(super) second_moment: Var,
    group: Group,
}

/// How a parameter is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    /// Encoder weights, including CLS token and position embeddings: decayed and clipped.
    Decayed,
    /// Encoder biases and norms: clipped.
    Plain,
    /// Prototypes: neither.
    Prototypes,
}

/// What the prototypes of head number `head` are called in a state.
pub(super) fn prototypes_name(head: usize) -> String {
    if head == 0 { "prototypes".into() } else { format!("prototypes.{head}") }
}

impl Parameter {
    /// An encoder parameter: decayed unless it is one-dimensional.
    pub(super) fn of_encoder(name: String, value: Var) -> Result<Self, Error> {
        let group = if value.rank() == 1 { Group::Plain } else { Group::Decayed };
        Self::new(name, value, group)
    }

    /// The prototypes of head number `head`.
    pub(super) fn of_prototypes(head: usize, value: Var) -> Result<Self, Error> {
        Self::new(prototypes_name(head), value, Group::Prototypes)
    }

    fn new(name: String, value: Var, group: Group) -> Result<Self, Error> {
        let (first_moment, second_moment) =
            (Var::from_tensor(&value.zeros_like()?)?, Var::from_tensor(&value.zeros_like()?)?);
        Ok(Self { name, value, first_moment, second_moment, group })
    }

    /// True where weight decay applies.
    pub(super) fn is_decayed(&self) -> bool {
        self.group == Group::Decayed
    }

    /// Its gradient, contiguous; every parameter must have one.
    pub(super) fn gradient(&self, gradients: &GradStore) -> Result<Tensor, Error> {
        let gradient =
            gradients.get(&self.value).ok_or_else(|| Error::NoGradient { name: self.name.clone() })?;
        Ok(gradient.detach().contiguous()?)
    }

    /// One AdamW update, the `step`-th (from 1). The gradient is scaled by `clip` if it belongs to the encoder.
    pub(super) fn update(&self, gradient: &Tensor, clip: f64, rates: &Rates, step: u64) -> Result<(), Error> {
        let scale = if self.group == Group::Prototypes { 1.0 } else { clip };
        let (first, second) = (&self.first_moment, &self.second_moment);
        blend(first, gradient, BETA1, (1.0 - BETA1) * scale)?;
        blend_square(second, gradient, BETA2, (1.0 - BETA2) * scale * scale)?;
        let step = step as f64;
        let (bias1, bias2) = (1.0 - BETA1.powf(step), 1.0 - BETA2.powf(step));
        let keep = if self.is_decayed() { 1.0 - rates.learning_rate * rates.weight_decay } else { 1.0 };
        descend(&self.value, [first, second], keep, rates.learning_rate / bias1, bias2.sqrt(), EPS)?;
        Ok(())
    }
}

/// Lengths of gradients, as vectors.
pub(super) struct GradientNorms {
    /// One for each parameter.
    pub(super) each: Vec<f64>,
    /// Of the whole encoder's gradient.
    pub(super) encoder: f64,
}

impl GradientNorms {
    /// Of the gradients that belong to `parameters`; the device is waited for only once.
    pub(super) fn of(parameters: &[Parameter], gradients: &[Tensor]) -> Result<Self, Error> {
        let squares: candle_core::Result<Vec<_>> =
            gradients.iter().map(|gradient| gradient.sqr()?.sum_all()).collect();
        let squares = Tensor::stack(&squares?, 0)?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let in_encoder = |parameter: &Parameter| parameter.group != Group::Prototypes;
        let encoder: f64 = parameters
            .iter()
            .zip(&squares)
            .filter(|(one, _)| in_encoder(one))
            .map(|(_, square)| square)
            .sum();
        Ok(Self { each: squares.into_iter().map(f64::sqrt).collect(), encoder: encoder.sqrt() })
    }

    /// The factor that brings the encoder's gradient down to `limit`; 1 where none is set. Prototypes are never clipped.
    pub(super) fn clip_factor(&self, limit: f64) -> f64 {
        if limit > 0.0 { (limit / (self.encoder + 1e-6)).min(1.0) } else { 1.0 }
    }

    /// Whether no element of any gradient is infinite or not a number.
    pub(super) fn are_finite(&self) -> bool {
        self.each.iter().all(|norm| norm.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Expected: p ← p·(1 − lr·wd) − lr·m̂/(√v̂ + ε), written out in float64.
    #[test]
    fn two_steps_are_pytorchs() {
        let value = Var::from_tensor(&Tensor::new(&[[1.0_f64]], &Device::Cpu).unwrap()).unwrap();
        let parameter = Parameter::of_encoder("weight".into(), value).unwrap();
        let rates = Rates {
            learning_rate: 1e-3,
            weight_decay: 0.05,
            momentum: 0.996,
            sharpen: 0.25,
            ensemble_temperature: 0.01,
        };
        for (step, gradient, expected) in [(1, 0.1_f64, 0.998_950_000_1), (2, -0.3, 0.999_394_242_4)] {
            let gradient = Tensor::new(&[[gradient]], &Device::Cpu).unwrap();
            parameter.update(&gradient, 1.0, &rates, step).unwrap();
            let updated = parameter.value.flatten_all().unwrap().to_vec1::<f64>().unwrap()[0];
            assert!((updated - expected).abs() < 1e-10, "step {step}: {updated}");
        }
    }
}
