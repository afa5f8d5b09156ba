//! The state of a training run and one step of it.

use super::head::Statistics;
use super::loss::{LossOptions, loss, targets};
use super::network::Network;
use super::optimizer::{GradientNorms, Parameter};
use super::update::blend;
use super::{head, initialise};
use crate::Error;
use candle_core::{D, DType, Device, Tensor, Var};
use dozen_models::vit::reference::Vit;
use dozen_models::vit::{Kernels, VitConfig};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

/// What is trained and against which loss.
#[derive(Clone, Debug)]
pub struct MsnConfig {
    /// The trunk.
    pub vit: VitConfig,
    /// Width of the head's two hidden layers.
    pub head_hidden: usize,
    /// Width of its output.
    pub head_output: usize,
    /// Number of prototypes K.
    pub prototypes: usize,
    /// The loss.
    pub loss: LossOptions,
    /// Largest norm of the encoder's gradient; 0 does not clip.
    pub clip_gradient: f64,
    /// Execution of the network's operations.
    pub kernels: Kernels,
}

/// The views of B images. Anchors are view-major: row v·B + i is view v of image i.
pub struct Views {
    /// Full views `[B, 3, S, S]`.
    pub target: Tensor,
    /// Large anchors `[R·B, 3, S, S]`.
    pub random: Option<Tensor>,
    /// Small anchors `[F·B, 3, s, s]`.
    pub focal: Option<Tensor>,
}

/// Values of the schedules at one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Learning rate.
    pub learning_rate: f64,
    /// Weight decay of the decayed group.
    pub weight_decay: f64,
    /// Momentum of the target's moving average.
    pub momentum: f64,
    /// Sharpening T of the targets.
    pub sharpen: f64,
}

/// What to watch (the paper's code logs the same).
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct StepReport {
    /// What was minimised.
    pub loss: f64,
    /// Cross-entropy between targets and predictions.
    pub agreement: f64,
    /// log K − H(mean prediction); log K means one prototype takes all.
    pub memax: f64,
    /// Mean entropy of single predictions.
    pub entropy: f64,
    /// Different prototypes among the targets' largest.
    pub distinct_prototypes: usize,
    /// Mean of the targets' largest probabilities; 1/K means undecided.
    pub max_target: f64,
    /// Norm of the encoder's gradient before clipping.
    pub gradient_norm: f64,
    /// What it was multiplied by; 1 where it was short enough.
    pub clip_factor: f64,
    /// Norm of the first block's qkv gradient.
    pub first_qkv_norm: f64,
    /// Norm of the last block's qkv gradient.
    pub last_qkv_norm: f64,
}

/// Where the time of a step went. A device is waited for at the end of the first two parts.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepTimes {
    /// Both networks and the loss.
    pub forward: Duration,
    /// Gradients and their norms.
    pub backward: Duration,
    /// Clipping, AdamW and the moving average.
    pub update: Duration,
}

/// Anchor and target encoders, prototypes, and the optimiser's moments.
pub struct Msn {
    config: MsnConfig,
    parameters: Vec<Parameter>,
    prototypes: Tensor,
    targets: Vec<(String, Var)>,
    anchor_buffers: HashMap<String, Var>,
    target_buffers: HashMap<String, Var>,
    anchor: Network,
    target: Network,
    /// Positions of the first and the last block's qkv weight among the parameters.
    outer_qkv: [usize; 2],
    steps: u64,
    times: StepTimes,
}

/// Loss and gradients of one batch.
pub(super) struct Evaluation {
    /// Without the gradient norms.
    pub(super) report: StepReport,
    /// One for each parameter.
    pub(super) gradients: Vec<Tensor>,
    /// When the report was known.
    forward_done: Instant,
    target_statistics: Statistics,
    anchor_statistics: Vec<Statistics>,
}

impl Msn {
    /// Fresh networks from a seed; the target starts as an exact copy of the anchor.
    pub fn new(config: MsnConfig, seed: u64, dtype: DType, device: &Device) -> Result<Self, Error> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let variable = |values: Vec<f64>, shape: &[usize]| -> candle_core::Result<Var> {
            Var::from_tensor(
                &Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?,
            )
        };
        let mut parameters = Vec::new();
        let mut shapes = Vit::parameter_shapes(&config.vit);
        shapes.extend(head::parameter_shapes(config.vit.hidden_size, config.head_hidden, config.head_output));
        for (name, shape) in shapes {
            let value = variable(initialise::parameter(&name, &shape, &mut rng), &shape)?;
            parameters.push(Parameter::of_encoder(name, value)?);
        }
        let targets = parameters
            .iter()
            .map(|parameter| Ok((parameter.name.clone(), Var::from_tensor(&parameter.value.copy()?)?)))
            .collect::<candle_core::Result<Vec<_>>>()?;
        let buffers = || -> candle_core::Result<HashMap<String, Var>> {
            let initial = |name: &str| f64::from(u8::from(name.ends_with("running_var")));
            let buffer = |(name, length): (String, usize)| {
                Ok((name.clone(), variable(vec![initial(&name); length], &[length])?))
            };
            head::buffer_shapes(config.head_hidden).into_iter().map(buffer).collect()
        };
        let (anchor_buffers, target_buffers) = (buffers()?, buffers()?);
        let trained =
            parameters.iter().map(|one| (one.name.clone(), one.value.as_tensor().clone())).collect();
        let frozen = targets.iter().map(|(name, value)| (name.clone(), value.as_tensor().detach())).collect();
        let (anchor, target) = (
            Network::new(&config, &trained, &anchor_buffers)?,
            Network::new(&config, &frozen, &target_buffers)?,
        );
        let qkv = |block: usize| {
            let name = format!("blocks.{block}.attn.qkv.weight");
            parameters.iter().position(|parameter| parameter.name == name).unwrap_or_default()
        };
        let outer_qkv = [qkv(0), qkv(config.vit.num_hidden_layers - 1)];
        let initial = initialise::prototypes(config.prototypes, config.head_output, &mut rng);
        let prototypes = variable(initial, &[config.prototypes, config.head_output])?;
        let shared = prototypes.as_tensor().clone();
        parameters.push(Parameter::of_prototypes(prototypes)?);
        Ok(Self {
            config,
            parameters,
            prototypes: shared,
            targets,
            anchor_buffers,
            target_buffers,
            anchor,
            target,
            outer_qkv,
            steps: 0,
            times: StepTimes::default(),
        })
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Where the time of the last step went.
    pub fn times(&self) -> StepTimes {
        self.times
    }

    /// Number of patches of a view of `size` pixels.
    pub fn patches(&self, size: usize) -> usize {
        (size / self.config.vit.patch_size).pow(2)
    }

    /// One step: forward, backward, clip, AdamW, moving average. `keep` are the patches of the first group of anchors that
    /// stay. A loss or gradient that is not finite is an error, and then nothing has changed.
    pub fn step(&mut self, views: &Views, keep: &[u32], rates: &Rates) -> Result<StepReport, Error> {
        let step = self.steps + 1;
        let started = Instant::now();
        let Evaluation { mut report, gradients, forward_done, target_statistics, anchor_statistics } =
            self.evaluate(views, keep, rates.sharpen)?;
        if !report.loss.is_finite() {
            return Err(Error::NotFinite { what: "loss", step });
        }
        let norms = GradientNorms::of(&self.parameters, &gradients)?;
        if !norms.are_finite() {
            return Err(Error::NotFinite { what: "gradient", step });
        }
        let backward_done = Instant::now();
        report.gradient_norm = norms.encoder;
        report.clip_factor = norms.clip_factor(self.config.clip_gradient);
        [report.first_qkv_norm, report.last_qkv_norm] = self.outer_qkv.map(|position| norms.each[position]);
        for (parameter, gradient) in self.parameters.iter().zip(&gradients) {
            parameter.update(gradient, report.clip_factor, rates, step)?;
        }
        for (parameter, (_, target)) in self.parameters.iter().zip(&self.targets) {
            blend(target, &parameter.value, rates.momentum, 1.0 - rates.momentum)?;
        }
        self.target.accept(&target_statistics)?;
        anchor_statistics.iter().try_for_each(|statistics| self.anchor.accept(statistics))?;
        self.steps = step;
        self.times = StepTimes {
            forward: forward_done - started,
            backward: backward_done - forward_done,
            update: backward_done.elapsed(),
        };
        Ok(report)
    }

    /// Loss and gradients; changes nothing.
    pub(super) fn evaluate(&self, views: &Views, keep: &[u32], sharpen: f64) -> Result<Evaluation, Error> {
        let options = &self.config.loss;
        let (output, target_statistics) = self.target.forward(&views.target, None)?;
        let target = targets(&output, &self.prototypes, sharpen, options)?;
        let (anchors, anchor_statistics) = self.anchors(views, keep)?;
        let loss = loss(&anchors, &target, &self.prototypes, options)?;
        let number = |tensor: &Tensor| tensor.to_dtype(DType::F64)?.to_scalar::<f64>();
        let winners = target.argmax(D::Minus1)?.to_vec1::<u32>()?;
        let report = StepReport {
            loss: number(&loss.total)?,
            agreement: number(&loss.agreement)?,
            memax: number(&loss.memax)?,
            entropy: number(&loss.entropy)?,
            distinct_prototypes: winners.into_iter().collect::<HashSet<_>>().len(),
            max_target: number(&target.max(D::Minus1)?.mean_all()?)?,
            gradient_norm: 0.0,
            clip_factor: 1.0,
            first_qkv_norm: 0.0,
            last_qkv_norm: 0.0,
        };
        let forward_done = Instant::now();
        let gradients = loss.total.backward()?;
        let gradients = self.parameters.iter().map(|parameter| parameter.gradient(&gradients));
        Ok(Evaluation {
            report,
            gradients: gradients.collect::<Result<_, _>>()?,
            forward_done,
            target_statistics,
            anchor_statistics,
        })
    }

    /// Head outputs of all anchors, and the statistics of each group. Views of equal size form one group and share one
    /// BatchNorm batch; only the first group is masked.
    fn anchors(&self, views: &Views, keep: &[u32]) -> Result<(Tensor, Vec<Statistics>), Error> {
        let one_group = |pixels: &Tensor| {
            let (output, statistics) = self.anchor.forward(pixels, Some(keep))?;
            Ok((output, vec![statistics]))
        };
        match (&views.random, &views.focal) {
            (Some(random), Some(focal)) if random.dim(3)? == focal.dim(3)? => {
                one_group(&Tensor::cat(&[random, focal], 0)?)
            }
            (Some(random), Some(focal)) => {
                let (masked, first) = self.anchor.forward(random, Some(keep))?;
                let (whole, second) = self.anchor.forward(focal, None)?;
                Ok((Tensor::cat(&[masked, whole], 0)?, vec![first, second]))
            }
            (Some(only), None) | (None, Some(only)) => one_group(only),
            (None, None) => {
                Err(Error::Config { file: "views".into(), reason: "there is no anchor view".into() })
            }
        }
    }

    /// The target encoder's trunk: what is kept after training. The run's own storage, as in [`Self::state`].
    pub fn target_trunk(&self) -> HashMap<String, Tensor> {
        let trunk = self.targets.iter().filter(|(name, _)| !name.starts_with("fc."));
        trunk.map(|(name, value)| (name.clone(), value.as_tensor().detach())).collect()
    }

    /// Every tensor that continuing needs: `anchor.*`, `target.*` (with running statistics), `prototypes`, `opt.m.*`, `opt.v.*`.
    /// They are the run's own storage, not copies: the next step changes them.
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        self.variables().into_iter().map(|(name, value)| (name, value.as_tensor().detach())).collect()
    }

    /// Takes up a state saved after `steps` steps.
    pub fn load_state(&mut self, state: &HashMap<String, Tensor>, steps: u64) -> Result<(), Error> {
        for (name, variable) in self.variables() {
            let refuse = |reason: String| Error::Config { file: "checkpoint".into(), reason };
            let saved = state.get(&name).ok_or_else(|| refuse(format!("tensor `{name}` is missing")))?;
            if saved.dims() != variable.dims() {
                let (theirs, ours) = (saved.dims(), variable.dims());
                return Err(refuse(format!("tensor `{name}` has shape {theirs:?}, this run's is {ours:?}")));
            }
            variable.set(&saved.to_dtype(variable.dtype())?.to_device(variable.device())?)?;
        }
        self.steps = steps;
        Ok(())
    }

    fn variables(&self) -> Vec<(String, &Var)> {
        let mut all = Vec::new();
        for parameter in &self.parameters {
            let name = &parameter.name;
            let own = if name == "prototypes" { name.clone() } else { format!("anchor.{name}") };
            all.push((own, &parameter.value));
            all.push((format!("opt.m.{name}"), &parameter.first_moment));
            all.push((format!("opt.v.{name}"), &parameter.second_moment));
        }
        all.extend(self.targets.iter().map(|(name, value)| (format!("target.{name}"), value)));
        all.extend(self.anchor_buffers.iter().map(|(name, value)| (format!("anchor.{name}"), value)));
        all.extend(self.target_buffers.iter().map(|(name, value)| (format!("target.{name}"), value)));
        all
    }

    /// Trained tensors by name, for tests.
    #[cfg(test)]
    pub(super) fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Targets of these views.
    #[cfg(test)]
    pub(super) fn prototype_targets(&self, views: &Views, sharpen: f64) -> Tensor {
        let (output, _) = self.target.forward(&views.target, None).unwrap();
        targets(&output, &self.prototypes, sharpen, &self.config.loss).unwrap()
    }

    /// Loss of the anchors against given targets.
    #[cfg(test)]
    pub(super) fn loss_against(&self, views: &Views, keep: &[u32], target: &Tensor) -> f64 {
        let (anchors, _) = self.anchors(views, keep).unwrap();
        loss(&anchors, target, &self.prototypes, &self.config.loss).unwrap().total.to_scalar().unwrap()
    }
}
