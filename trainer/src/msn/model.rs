//! The state of a training run.

use super::collective::Ranks;
use super::loss::LossOptions;
use super::network::{Network, Precision};
use super::optimizer::{Optimizer, Parameter};
use super::step::StepTimes;
use super::{head, initialise};
use crate::Error;
use candle_core::{DType, Device, Tensor, Var};
use dozen_models::vit::reference::Vit;
use dozen_models::vit::{Kernels, Parameters, VitConfig};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, HashMap};

/// What is trained and against which loss.
#[derive(Clone, Debug)]
pub struct MsnConfig {
    /// The trunk.
    pub vit: VitConfig,
    /// Number of heads, each with prototypes of its own; more than one form an ensemble (see [`super::loss()`]).
    pub heads: usize,
    /// Width of a head's two hidden layers.
    pub head_hidden: usize,
    /// Width of its output.
    pub head_output: usize,
    /// Number of prototypes K of each head.
    pub prototypes: usize,
    /// The loss.
    pub loss: LossOptions,
    /// Largest norm of the encoder's gradient; 0 does not clip.
    pub clip_gradient: f64,
    /// Execution of the network's operations.
    pub kernels: Kernels,
    /// Compute activations again in the backward pass instead of keeping them.
    pub recompute: bool,
    /// Type of the trunk's activations on a CUDA device.
    pub precision: Precision,
}

/// Anchor and target encoders, prototypes, and the optimiser's moments.
pub struct Msn {
    pub(super) config: MsnConfig,
    pub(super) ranks: Ranks,
    pub(super) parameters: Vec<Parameter>,
    /// Of each head, `[K, d]`.
    pub(super) prototypes: Vec<Tensor>,
    pub(super) targets: Vec<(String, Var)>,
    anchor_buffers: HashMap<String, Var>,
    target_buffers: HashMap<String, Var>,
    pub(super) anchor: Network,
    pub(super) target: Network,
    /// Positions of the first and the last block's qkv weight among the parameters.
    pub(super) outer_qkv: [usize; 2],
    pub(super) optimizer: Optimizer,
    pub(super) steps: u64,
    pub(super) times: StepTimes,
}

impl Msn {
    /// Fresh networks from a seed; the target starts as an exact copy of the anchor. Every rank starts alike.
    pub fn new(
        config: MsnConfig,
        seed: u64,
        dtype: DType,
        device: &Device,
        ranks: &Ranks,
    ) -> Result<Self, Error> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let variable = |values: Vec<f64>, shape: &[usize]| -> candle_core::Result<Var> {
            Var::from_tensor(
                &Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?,
            )
        };
        let mut parameters = Vec::new();
        for (name, shape) in encoder_shapes(&config) {
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
            let of_head = |head| head::buffer_shapes(head, config.head_hidden);
            (0..config.heads).flat_map(of_head).map(buffer).collect()
        };
        let (anchor_buffers, target_buffers) = (buffers()?, buffers()?);
        let trained =
            parameters.iter().map(|one| (one.name.clone(), one.value.as_tensor().clone())).collect();
        let frozen = targets.iter().map(|(name, value)| (name.clone(), value.as_tensor().detach())).collect();
        let (anchor, target) = (
            Network::new(&config, &trained, &anchor_buffers, ranks)?,
            Network::new(&config, &frozen, &target_buffers, ranks)?,
        );
        let qkv = |block: usize| {
            let name = format!("blocks.{block}.attn.qkv.weight");
            parameters.iter().position(|parameter| parameter.name == name).unwrap_or_default()
        };
        let outer_qkv = [qkv(0), qkv(config.vit.num_hidden_layers - 1)];
        let mut prototypes = Vec::new();
        for head in 0..config.heads {
            let initial = initialise::prototypes(config.prototypes, config.head_output, &mut rng);
            let value = variable(initial, &[config.prototypes, config.head_output])?;
            prototypes.push(value.as_tensor().clone());
            parameters.push(Parameter::of_prototypes(head, value)?);
        }
        let optimizer = Optimizer::new(config.clip_gradient);
        Ok(Self {
            config,
            ranks: ranks.clone(),
            parameters,
            prototypes,
            targets,
            anchor_buffers,
            target_buffers,
            anchor,
            target,
            outer_qkv,
            optimizer,
            steps: 0,
            times: StepTimes::default(),
        })
    }

    /// Puts a trunk (by canonical names) in the place of the initial one, in both networks.
    pub fn start_from(&mut self, trunk: &Parameters) -> Result<(), Error> {
        let own = self.parameters.iter().map(|one| (&one.name, &one.value));
        let all = own.chain(self.targets.iter().map(|(name, value)| (name, value)));
        let is_of_trunk = |name: &str| !name.starts_with("fc.") && !is_of_prototypes(name);
        for (name, variable) in all.filter(|(name, _)| is_of_trunk(name)) {
            take_up("the initial model", name, trunk.get(name), variable)?;
        }
        Ok(())
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
            take_up("checkpoint", &name, state.get(&name), variable)?;
        }
        self.steps = steps;
        Ok(())
    }

    fn variables(&self) -> Vec<(String, &Var)> {
        let mut all = Vec::new();
        for parameter in &self.parameters {
            let name = &parameter.name;
            let own = if is_of_prototypes(name) { name.clone() } else { format!("anchor.{name}") };
            all.push((own, &parameter.value));
            all.push((format!("opt.m.{name}"), &parameter.first_moment));
            all.push((format!("opt.v.{name}"), &parameter.second_moment));
        }
        all.extend(self.targets.iter().map(|(name, value)| (format!("target.{name}"), value)));
        all.extend(self.anchor_buffers.iter().map(|(name, value)| (format!("anchor.{name}"), value)));
        all.extend(self.target_buffers.iter().map(|(name, value)| (format!("target.{name}"), value)));
        all
    }
}

/// Names and shapes of an encoder's parameters, in registration order.
pub(super) fn encoder_shapes(config: &MsnConfig) -> Vec<(String, Vec<usize>)> {
    let width = config.vit.hidden_size;
    let of_head = |head| head::parameter_shapes(head, width, config.head_hidden, config.head_output);
    Vit::parameter_shapes(&config.vit).into_iter().chain((0..config.heads).flat_map(of_head)).collect()
}

fn is_of_prototypes(name: &str) -> bool {
    name == "prototypes" || name.starts_with("prototypes.")
}

/// Sets `variable` to a tensor of that name and shape, or says which of `source` does not fit.
fn take_up(source: &str, name: &str, value: Option<&Tensor>, variable: &Var) -> Result<(), Error> {
    let refuse = |reason: String| Error::Config { file: source.into(), reason };
    let value = value.ok_or_else(|| refuse(format!("tensor `{name}` is missing")))?;
    if value.dims() != variable.dims() {
        let (theirs, ours) = (value.dims(), variable.dims());
        return Err(refuse(format!("tensor `{name}` has shape {theirs:?}, this run's is {ours:?}")));
    }
    Ok(variable.set(&value.to_dtype(variable.dtype())?.to_device(variable.device())?)?)
}
