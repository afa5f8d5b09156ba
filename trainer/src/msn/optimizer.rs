//! AdamW (decoupled decay) with the paper's three groups, and gradient clipping.

use super::step::Rates;
use super::update::{AdamW, Updated, sum_of_squares};
use crate::Error;
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
#[cfg(feature = "cuda")]
use dozen_models::vit::kernels::cuda::update as cuda;
#[cfg(feature = "cuda")]
use std::sync::OnceLock;

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

    /// True where the gradient counts in the norm and is clipped.
    fn is_clipped(&self) -> bool {
        self.group != Group::Prototypes
    }

    /// Its gradient, contiguous; every parameter must have one.
    pub(super) fn gradient(&self, gradients: &GradStore) -> Result<Tensor, Error> {
        let gradient =
            gradients.get(&self.value).ok_or_else(|| Error::NoGradient { name: self.name.clone() })?;
        Ok(gradient.detach().contiguous()?)
    }

    /// One step down its clipped gradient on the CPU, and of its moving average.
    fn update(
        &self,
        gradient: &Tensor,
        average: Option<&Var>,
        clip: f64,
        rates: &Rates,
        step: u64,
    ) -> Result<(), Error> {
        let bias = |beta: f64| 1.0 - beta.powf(step as f64);
        let numbers = AdamW {
            beta1: BETA1,
            beta2: BETA2,
            eps: EPS,
            keep: if self.is_decayed() { 1.0 - rates.learning_rate * rates.weight_decay } else { 1.0 },
            rate: rates.learning_rate / bias(BETA1),
            root: bias(BETA2).sqrt(),
            clip: if self.is_clipped() { clip } else { 1.0 },
            momentum: rates.momentum,
        };
        let moments = [&self.first_moment, &self.second_moment];
        Ok(Updated { value: &self.value, moments, average }.step(gradient, &numbers)?)
    }
}

/// What takes steps. On a CUDA device nothing it does waits for the device.
pub(super) struct Optimizer {
    /// Largest norm of the encoder's gradient; 0 does not clip. Prototypes are never clipped.
    limit: f64,
    /// Of a run on a CUDA device, from its first step on.
    #[cfg(feature = "cuda")]
    control: OnceLock<cuda::Control>,
}

/// What a step down given gradients found out, as scalars and vectors on the device or, on the CPU, in f64.
pub(super) struct Descent {
    /// Norm of the encoder's gradient, the clip factor, and whether everything was finite (1) so far or not (0): `[3]`.
    pub(super) control: Tensor,
    /// Norms of all gradients, `[parameters]`.
    pub(super) norms: Tensor,
}

impl Optimizer {
    /// One that has taken no step.
    pub(super) fn new(limit: f64) -> Self {
        Self {
            limit,
            #[cfg(feature = "cuda")]
            control: OnceLock::new(),
        }
    }

    /// Takes the `step`-th step (from 1): the parameters down their gradients, `averages` (of the first parameters, in
    /// order) after them.
    ///
    /// With a loss or gradient that is not finite nothing changes: on the CPU that is an error, on a CUDA device the
    /// control says so, and later steps change nothing either.
    pub(super) fn step(
        &self,
        parameters: &[Parameter],
        averages: &[(String, Var)],
        gradients: &[Tensor],
        loss: &Tensor,
        rates: &Rates,
        step: u64,
    ) -> Result<Descent, Error> {
        #[cfg(feature = "cuda")]
        if loss.device().is_cuda() {
            return self.step_on_cuda(parameters, averages, gradients, loss, rates, step);
        }
        if !loss.to_dtype(DType::F64)?.to_scalar::<f64>()?.is_finite() {
            return Err(Error::NotFinite { what: "loss", step });
        }
        let norms = gradients.iter().map(|gradient| Ok(sum_of_squares(gradient)?.sqrt()));
        let norms = norms.collect::<Result<Vec<f64>, Error>>()?;
        if !norms.iter().all(|norm| norm.is_finite()) {
            return Err(Error::NotFinite { what: "gradient", step });
        }
        let clipped = parameters.iter().zip(&norms).filter(|(parameter, _)| parameter.is_clipped());
        let norm = clipped.map(|(_, norm)| norm * norm).sum::<f64>().sqrt();
        let clip = if self.limit > 0.0 { (self.limit / (norm + 1e-6)).min(1.0) } else { 1.0 };
        for (index, (parameter, gradient)) in parameters.iter().zip(gradients).enumerate() {
            let average = averages.get(index).map(|(_, average)| average);
            parameter.update(gradient, average, clip, rates, step)?;
        }
        let device = loss.device();
        Ok(Descent { control: Tensor::new(&[norm, clip, 1.0], device)?, norms: Tensor::new(norms, device)? })
    }

    #[cfg(feature = "cuda")]
    fn step_on_cuda(
        &self,
        parameters: &[Parameter],
        averages: &[(String, Var)],
        gradients: &[Tensor],
        loss: &Tensor,
        rates: &Rates,
        step: u64,
    ) -> Result<Descent, Error> {
        if self.control.get().is_none() {
            // Set by one thread: a step borrows the run mutably.
            let _ = self.control.set(cuda::Control::new(loss.device())?);
        }
        let Some(control) = self.control.get() else {
            return Err(Error::Tensor(candle_core::Error::Msg("a step without control".into())));
        };
        let updated: Vec<_> = parameters
            .iter()
            .zip(gradients)
            .enumerate()
            .map(|(index, (parameter, gradient))| cuda::Updated {
                value: parameter.value.as_tensor(),
                first_moment: parameter.first_moment.as_tensor(),
                second_moment: parameter.second_moment.as_tensor(),
                average: averages.get(index).map(|(_, average)| average.as_tensor()),
                gradient,
                decayed: parameter.is_decayed(),
                clipped: parameter.is_clipped(),
            })
            .collect();
        let rates = cuda::Rates {
            beta1: BETA1,
            beta2: BETA2,
            eps: EPS,
            learning_rate: rates.learning_rate,
            weight_decay: rates.weight_decay,
            momentum: rates.momentum,
            step,
            limit: self.limit,
        };
        let norms = control.step(&updated, loss, &rates)?;
        Ok(Descent { control: control.numbers()?, norms })
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
            parameter.update(&gradient, None, 1.0, &rates, step).unwrap();
            let updated = parameter.value.flatten_all().unwrap().to_vec1::<f64>().unwrap()[0];
            assert!((updated - expected).abs() < 1e-10, "step {step}: {updated}");
        }
    }
}
