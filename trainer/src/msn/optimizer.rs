//! AdamW (decoupled decay) with the paper's three groups, gradient clipping, and the target's moving average.

use super::model::Rates;
use crate::Error;
use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};

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

impl Parameter {
    /// An encoder parameter: decayed unless it is one-dimensional.
    pub(super) fn of_encoder(name: String, value: Var) -> Result<Self> {
        let group = if value.rank() == 1 { Group::Plain } else { Group::Decayed };
        Self::new(name, value, group)
    }

    /// The prototypes.
    pub(super) fn of_prototypes(value: Var) -> Result<Self> {
        Self::new("prototypes".to_owned(), value, Group::Prototypes)
    }

    fn new(name: String, value: Var, group: Group) -> Result<Self> {
        let (first_moment, second_moment) =
            (Var::from_tensor(&value.zeros_like()?)?, Var::from_tensor(&value.zeros_like()?)?);
        Ok(Self { name, value, first_moment, second_moment, group })
    }

    /// True where weight decay applies.
    pub(super) fn is_decayed(&self) -> bool {
        self.group == Group::Decayed
    }

    /// Its gradient; every parameter must have one.
    pub(super) fn gradient<'a>(&self, gradients: &'a GradStore) -> std::result::Result<&'a Tensor, Error> {
        gradients.get(&self.value).ok_or_else(|| Error::NoGradient { name: self.name.clone() })
    }

    /// One AdamW update, the `step`-th (from 1), with the gradient scaled if it belongs to the encoder.
    pub(super) fn update(&self, gradient: &Tensor, clip: f64, rates: &Rates, step: u64) -> Result<()> {
        let scale = if self.group == Group::Prototypes { 1.0 } else { clip };
        let gradient = (gradient.detach() * scale)?;
        let first = ((self.first_moment.as_tensor().detach() * BETA1)? + (&gradient * (1.0 - BETA1))?)?;
        let second =
            ((self.second_moment.as_tensor().detach() * BETA2)? + (gradient.sqr()? * (1.0 - BETA2))?)?;
        let step = step as f64;
        let (bias1, bias2) = (1.0 - BETA1.powf(step), 1.0 - BETA2.powf(step));
        let denominator = ((&second / bias2)?.sqrt()? + EPS)?;
        let change = ((&first * (rates.learning_rate / bias1))? / denominator)?;
        let decay = if self.is_decayed() { 1.0 - rates.learning_rate * rates.weight_decay } else { 1.0 };
        let value = ((self.value.as_tensor().detach() * decay)? - change)?;
        self.first_moment.set(&first)?;
        self.second_moment.set(&second)?;
        self.value.set(&value)
    }
}

/// Norm of all encoder gradients together, and the factor that brings it down to `limit` (1 where none is set).
pub(super) fn clip(
    parameters: &[Parameter],
    gradients: &GradStore,
    limit: f64,
) -> std::result::Result<(f64, f64), Error> {
    let mut squares = 0.0;
    for parameter in parameters.iter().filter(|parameter| parameter.group != Group::Prototypes) {
        squares += norm(parameter.gradient(gradients)?)?.powi(2);
    }
    let norm = squares.sqrt();
    let factor = if limit > 0.0 { (limit / (norm + 1e-6)).min(1.0) } else { 1.0 };
    Ok((norm, factor))
}

/// Length of a tensor as a vector.
pub(super) fn norm(tensor: &Tensor) -> Result<f64> {
    Ok(tensor.sqr()?.sum_all()?.to_dtype(candle_core::DType::F64)?.to_scalar::<f64>()?.sqrt())
}

/// `target ← m·target + (1 − m)·anchor`.
pub(super) fn follow(target: &Var, anchor: &Var, momentum: f64) -> Result<()> {
    let moved =
        ((target.as_tensor().detach() * momentum)? + (anchor.as_tensor().detach() * (1.0 - momentum))?)?;
    target.set(&moved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn one_step_is_pytorchs() {
        let value = Var::from_tensor(&Tensor::new(&[[1.0_f64]], &Device::Cpu).unwrap()).unwrap();
        let parameter = Parameter::of_encoder("weight".into(), value).unwrap();
        let gradient = Tensor::new(&[[0.1_f64]], &Device::Cpu).unwrap();
        let rates = Rates { learning_rate: 1e-3, weight_decay: 0.05, momentum: 0.996, sharpen: 0.25 };
        parameter.update(&gradient, 1.0, &rates, 1).unwrap();
        let updated = parameter.value.flatten_all().unwrap().to_vec1::<f64>().unwrap()[0];
        assert!((updated - 0.998_950_000_1).abs() < 1e-10, "{updated}");
    }
}
