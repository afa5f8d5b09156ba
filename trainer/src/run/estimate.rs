//! What a run will need, before it is started: parameters, tokens, memory, and the time of a step, which is measured.

use crate::Error;
use crate::config::Config;
use crate::data::order::{Purpose, keyed_rng};
use crate::msn::{Mask, Msn, ParameterCounts, Ranks, Views, kept_patches, random_patches};
use candle_core::{DType, Device, Tensor};
use rand::Rng;
use std::time::Instant;

/// Bytes of an f32.
const FLOAT: usize = 4;
/// Images of the first step, which is slow and only tells how long a full one would take.
const PROBE: usize = 16;
/// Full steps are timed only where one takes no longer than this.
const PATIENCE_SECONDS: f64 = 20.0;
/// Steps that are timed.
const TIMED_STEPS: usize = 3;

/// Tokens of the views of one image, class tokens included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// The target view.
    pub target: usize,
    /// One random view after patches are dropped.
    pub random: usize,
    /// One focal view.
    pub focal: usize,
    /// All anchors together: those the backward pass goes through.
    pub anchors: usize,
}

/// Bytes on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Anchor and target encoder, prototypes.
    pub weights: usize,
    /// Two moments of every trained parameter.
    pub optimiser: usize,
    /// One gradient of every trained parameter.
    pub gradients: usize,
    /// What the anchors' forward pass keeps for the backward pass.
    pub activations: usize,
    /// The pixels of a batch's views.
    pub views: usize,
}

impl Memory {
    /// All of it.
    pub fn total(&self) -> usize {
        self.weights + self.optimiser + self.gradients + self.activations + self.views
    }
}

/// What is known without running anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Trained parameters.
    pub parameters: ParameterCounts,
    /// Tokens per image.
    pub tokens: Tokens,
    /// Memory of a step.
    pub memory: Memory,
}

/// How long a step takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// Seconds of a full step: the median of those timed.
    pub seconds: f64,
    /// Steps timed.
    pub steps: usize,
    /// Images in each micro-batch; fewer than a full one where that takes too long, and then the time is scaled up.
    pub images: usize,
}

/// Counts parameters and tokens and estimates memory.
pub fn needs(config: &Config, device: &Device) -> Needs {
    let parameters = config.msn().parameter_counts();
    let tokens = tokens(config);
    let trained = parameters.trunk + parameters.head + parameters.prototypes;
    let views = &config.views;
    let pixels =
        (1 + views.random_views) * views.random_size.pow(2) + views.focal_views * views.focal_size.pow(2);
    let batch = config.optimisation.batch_size;
    Needs {
        parameters,
        tokens,
        memory: Memory {
            weights: FLOAT * (trained + parameters.trunk + parameters.head),
            optimiser: FLOAT * 2 * trained,
            gradients: FLOAT * trained,
            activations: FLOAT * batch * activations(config, &tokens, device),
            views: FLOAT * config.optimisation.accumulate * batch * 3 * pixels,
        },
    }
}

fn tokens(config: &Config) -> Tokens {
    let views = &config.views;
    let patches = |size: usize| (size / config.model.patch_size).pow(2);
    // Only the first group of equal views is masked (see `Msn::step`).
    let kept = |size: usize| kept_patches(patches(size).max(1), views.patch_drop);
    let random = 1 + kept(views.random_size);
    let one_group = views.random_views == 0 || views.focal_size == views.random_size;
    let focal = 1 + if one_group { kept(views.focal_size) } else { patches(views.focal_size) };
    Tokens {
        target: 1 + patches(views.random_size),
        random,
        focal,
        anchors: views.random_views * random + views.focal_views * focal,
    }
}

/// Floats that the forward pass of one image's anchors keeps. The fused kernels keep m, qkv, the attention's output, fc1's
/// output and the block's own output; composed of single operations, as elsewhere than on the CPU, each operation's result
/// stays, attention scores included. What is computed again in the backward pass keeps the blocks' inputs alone.
fn activations(config: &Config, tokens: &Tokens, device: &Device) -> usize {
    let (width, hidden) = (config.model.hidden_size, config.model.intermediate_size);
    let block = |length: usize| {
        if config.optimisation.recompute {
            length * width
        } else if device.is_cpu() {
            length * (6 * width + hidden)
        } else {
            length * (27 * width + 7 * hidden + 6 * config.model.num_attention_heads * length)
        }
    };
    let views = &config.views;
    let trunk = views.random_views * block(tokens.random) + views.focal_views * block(tokens.focal);
    // Per anchor row: two hidden layers with BatchNorm and GELU, and a few matrices of scores against the prototypes.
    let head =
        (views.random_views + views.focal_views) * (16 * config.head.hidden + 8 * config.loss.prototypes);
    config.model.num_hidden_layers * trunk + head
}

/// Times real steps on `device`, on noise in place of images: the time without data.
///
/// # Errors
/// Where a step fails, for instance for want of memory.
pub fn time_step(config: &Config, device: &Device) -> Result<Timing, Error> {
    let batch = config.optimisation.batch_size;
    let mut trial = Trial {
        config,
        device,
        msn: Msn::new(config.msn(), config.run.seed, DType::F32, device, &Ranks::alone())?,
    };
    let probe = PROBE.min(batch);
    // The first step allocates and, on a GPU, compiles.
    trial.seconds(probe)?;
    let expected = trial.seconds(probe)? * batch as f64 / probe as f64;
    let images = if expected <= PATIENCE_SECONDS { batch } else { probe };
    if images == batch && batch > probe {
        trial.seconds(batch)?;
    }
    let mut seconds = (0..TIMED_STEPS).map(|_| trial.seconds(images)).collect::<Result<Vec<_>, _>>()?;
    seconds.sort_by(f64::total_cmp);
    let seconds = seconds[TIMED_STEPS / 2] * batch as f64 / images as f64;
    Ok(Timing { seconds, steps: TIMED_STEPS, images })
}

/// A network that takes steps for the clock alone.
struct Trial<'a> {
    config: &'a Config,
    device: &'a Device,
    msn: Msn,
}

impl Trial<'_> {
    /// One step of micro-batches of `images`.
    fn seconds(&mut self, images: usize) -> Result<f64, Error> {
        let mut rng = keyed_rng(self.config.run.seed, Purpose::View, 0, 0, 0);
        let micro_batches = (0..self.config.optimisation.accumulate).map(|_| self.noise(images, &mut rng));
        let micro_batches = micro_batches.collect::<Result<Vec<_>, _>>()?;
        let rates = self.config.schedules(1).at(1);
        let started = Instant::now();
        // The report's numbers come from the device, so the step is over when it returns.
        self.msn.step(&micro_batches, &rates)?;
        Ok(started.elapsed().as_secs_f64())
    }

    fn noise(&self, images: usize, rng: &mut impl Rng) -> Result<Views, Error> {
        let views = &self.config.views;
        let mut pixels = |count: usize, size: usize| {
            let mut bytes = vec![0; count * images * 3 * size * size];
            rng.fill_bytes(&mut bytes);
            // About the range of normalised pixels.
            let values: Vec<f32> = bytes.into_iter().map(|byte| f32::from(byte) / 64.0 - 2.0).collect();
            Tensor::from_vec(values, (count * images, 3, size, size), self.device)
        };
        let target = pixels(1, views.random_size)?;
        let random =
            (views.random_views > 0).then(|| pixels(views.random_views, views.random_size)).transpose()?;
        let focal =
            (views.focal_views > 0).then(|| pixels(views.focal_views, views.focal_size)).transpose()?;
        let masked_size = if views.random_views > 0 { views.random_size } else { views.focal_size };
        let patches = self.msn.patches(masked_size);
        let mask = Mask::Shared(random_patches(patches, kept_patches(patches, views.patch_drop), rng));
        Views::new(target, random, focal, Some(mask))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn shipped(file: &str, overrides: &[&str]) -> Config {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(file);
        let overrides: Vec<String> = overrides.iter().map(|one| (*one).to_owned()).collect();
        Config::read(&path, &overrides).unwrap()
    }

    #[test]
    fn the_paper_counts_of_vit_s_16() {
        let config =
            shipped("default.toml", &["head.hidden=2048", "loss.prototypes=1024", "views.focal_views=10"]);
        let needs = needs(&config, &Device::Cpu);
        assert_eq!(
            needs.parameters,
            ParameterCounts { trunk: 21_665_664, head: 5_517_568, prototypes: 262_144 }
        );
        assert_eq!(needs.tokens, Tokens { target: 197, random: 167, focal: 37, anchors: 537 });
        assert_eq!(needs.memory.optimiser, 8 * (21_665_664 + 5_517_568 + 262_144));
        assert_eq!(needs.memory.views, 4 * 256 * 3 * (2 * 224 * 224 + 10 * 96 * 96));
    }

    #[test]
    fn the_shipped_configurations_are_counted() {
        let default = needs(&shipped("default.toml", &[]), &Device::Cpu);
        let expected = ParameterCounts { trunk: 21_665_664, head: 1_710_336, prototypes: 131_072 };
        assert_eq!(default.parameters, expected);
        assert_eq!(default.tokens, Tokens { target: 197, random: 167, focal: 37, anchors: 315 });
        let small = needs(&shipped("shipped-cpu.toml", &[]), &Device::Cpu);
        let expected = ParameterCounts { trunk: 1_223_040, head: 396_416, prototypes: 8192 };
        assert_eq!(small.parameters, expected);
    }

    #[test]
    fn every_anchor_is_masked_where_all_are_of_one_size() {
        let config = shipped("default.toml", &["views.random_views=0"]);
        assert_eq!(tokens(&config).focal, 1 + 30);
        assert_eq!(tokens(&config).anchors, 4 * 31);
    }
}
