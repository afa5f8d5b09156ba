//! One TOML file per experiment.

mod check;
mod docs;
mod key;
mod keys;
#[cfg(test)]
mod tests;

pub use docs::documentation;

use crate::Error;
use crate::data::DataOptions;
use crate::msn::{MaskRule, Precision};
use crate::views::Distortion;
use dozen_models::vit::VitConfig;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// Everything that defines a run. Every key must be there, and no other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How pictures are read.
    pub data: DataOptions,
    /// How many views of which kind, and how they are distorted.
    pub views: ViewsConfig,
    /// The Vision Transformer.
    pub model: ModelConfig,
    /// The projection head.
    pub head: HeadConfig,
    /// Prototypes and the terms of the loss.
    pub loss: LossConfig,
    /// Batch size, learning rate, weight decay, moving average.
    pub optimisation: OptimisationConfig,
    /// Length and shape of the schedules.
    pub schedule: ScheduleConfig,
    /// Seed, checkpoints, log.
    pub run: RunConfig,
}

/// The views of one image: a target and `random_views` large anchors of the same kind, `focal_views` small anchors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewsConfig {
    /// Random anchors per image (the target comes on top).
    pub random_views: usize,
    /// Side of target and random views in pixels; the position embeddings are defined for it.
    pub random_size: usize,
    /// Range of their share of the image area.
    pub random_area: (f64, f64),
    /// Focal anchors per image.
    pub focal_views: usize,
    /// Side of focal views in pixels.
    pub focal_size: usize,
    /// Range of their share of the image area.
    pub focal_area: (f64, f64),
    /// Share of the patches of random anchors that is dropped.
    pub patch_drop: f64,
    /// How the patches that stay are chosen.
    pub masks: MaskRule,
    /// Colour distortions, the same for all views.
    pub distortion: Distortion,
}

/// The Vision Transformer, in the words of Hugging Face's `config.json`; its image size is `views.random_size`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Width.
    pub hidden_size: usize,
    /// Depth.
    pub num_hidden_layers: usize,
    /// Heads.
    pub num_attention_heads: usize,
    /// Hidden width of the MLP.
    pub intermediate_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Stochastic depth: the last block's branches are left out this often while training, the first block's never.
    pub drop_path: f64,
}

/// The projection head: three linear layers with BatchNorm and GELU between them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadConfig {
    /// Number of heads, each with prototypes of its own. More than one form an ensemble weighted, image by image, by how
    /// sure their targets are (arXiv 2211.09981).
    pub count: usize,
    /// Width of the two hidden layers.
    pub hidden: usize,
    /// Width of the output, which the prototypes share.
    pub output: usize,
}

/// The loss (arXiv 2204.07141, §3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// Number of prototypes K of each head.
    pub prototypes: usize,
    /// Temperature τ of the anchor predictions.
    pub temperature: f64,
    /// Sharpening T of the targets at the start: their temperature is τ·T.
    pub start_sharpen: f64,
    /// Sharpening at the end of the schedule.
    pub final_sharpen: f64,
    /// Temperature of the weights of several heads at the start.
    pub start_ensemble_temperature: f64,
    /// Temperature of the weights of several heads at the end.
    pub final_ensemble_temperature: f64,
    /// Epochs in which sharpening and ensemble temperature go from start to end; 0 takes the whole schedule.
    pub temperature_epochs: f64,
    /// Weight λ of the mean-entropy maximisation term.
    pub memax_weight: f64,
    /// Weight of the mean entropy of the single predictions; 0 only logs it.
    pub entropy_weight: f64,
    /// Weight of the Kozachenko–Leonenko term, which spreads the features of a batch (DINOv2, arXiv 2304.07193).
    pub koleo_weight: f64,
    /// How unevenly prototypes are expected to be used: the k-th proportionally to k to the power of minus this (PMSN, arXiv
    /// 2210.07277, for data whose classes differ in size). 0 expects all alike.
    pub prior_exponent: f64,
    /// Share of the uniform distribution that is mixed into predictions and targets.
    pub label_smoothing: f64,
    /// Balance the targets by three Sinkhorn iterations. Only with many more images per batch than prototypes.
    pub sinkhorn: bool,
}

/// AdamW and its schedules' end points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimisationConfig {
    /// Images per forward pass on each rank.
    pub batch_size: usize,
    /// Batches whose gradients are averaged into one step. Each keeps its own BatchNorm, mean prediction and Sinkhorn
    /// balance, which a larger batch would widen.
    pub accumulate: usize,
    /// Compute activations again in the backward pass instead of keeping them: less memory, a forward pass more.
    pub recompute: bool,
    /// Type of the trunk's activations on a CUDA device.
    pub precision: Precision,
    /// Learning rate at the first step.
    pub start_learning_rate: f64,
    /// Learning rate after the warm-up.
    pub learning_rate: f64,
    /// Learning rate at the end of the cosine.
    pub final_learning_rate: f64,
    /// Epochs of linear warm-up.
    pub warmup_epochs: f64,
    /// Weight decay at the start.
    pub weight_decay: f64,
    /// Weight decay at the end of the cosine.
    pub final_weight_decay: f64,
    /// Largest norm of the encoder's gradient; 0 does not clip.
    pub clip_gradient: f64,
    /// Momentum of the target's moving average at the start.
    pub start_momentum: f64,
    /// Momentum of the target's moving average at the end.
    pub final_momentum: f64,
}

/// Length and shape of the schedules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Passes over the data.
    pub epochs: usize,
    /// Schedules are computed for `stretch` times the epochs, so that they stop before their end: 1.25 in the paper's
    /// code, 1.0 runs them out.
    pub stretch: f64,
}

/// Seed, checkpoints, log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Seed of everything random.
    pub seed: u64,
    /// Minutes between checkpoints; one more is written at the end.
    pub checkpoint_minutes: f64,
    /// Steps between lines of the log.
    pub log_steps: usize,
    /// Epochs between evaluations on the labelled set of `--monitor`; one more is made before the first step and at the
    /// end.
    pub monitor_epochs: f64,
}

/// Keys that may differ between a run and its continuation: none changes what is computed.
const FREE_KEYS: [&str; 5] =
    ["data.memory_mib", "data.threads", "run.checkpoint_minutes", "run.log_steps", "run.monitor_epochs"];

impl Config {
    /// Reads a file and applies `section.key=value` overrides, whose values are written as in TOML.
    pub fn read(path: &Path, overrides: &[String]) -> Result<Self, Error> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        Self::parse(&text, overrides)
            .map_err(|reason| Error::Config { file: path.display().to_string(), reason })
    }

    /// What adapts a trained trunk of this shape to other pictures in so many epochs: configs/adapt.toml.
    pub fn adapting(trunk: &VitConfig, epochs: usize, overrides: &[String]) -> Result<Self, Error> {
        // Focal views are half as wide as the others, in whole patches.
        let focal_size = (trunk.image_size / trunk.patch_size / 2).max(1) * trunk.patch_size;
        let shape = [
            ("model.hidden_size", trunk.hidden_size),
            ("model.num_hidden_layers", trunk.num_hidden_layers),
            ("model.num_attention_heads", trunk.num_attention_heads),
            ("model.intermediate_size", trunk.intermediate_size),
            ("model.patch_size", trunk.patch_size),
            ("views.random_size", trunk.image_size),
            ("views.focal_size", focal_size),
            ("schedule.epochs", epochs),
        ];
        let mut all: Vec<String> = shape.iter().map(|(key, value)| format!("{key}={value}")).collect();
        all.extend_from_slice(overrides);
        Self::parse(include_str!("../configs/adapt.toml"), &all)
            .map_err(|reason| Error::Config { file: "adapt.toml".into(), reason })
    }

    fn parse(text: &str, overrides: &[String]) -> Result<Self, String> {
        let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
        for assignment in overrides {
            set(&mut table, assignment)?;
        }
        check::check_table(&table)?;
        let config: Self = table.try_into().map_err(|error: toml::de::Error| error.to_string())?;
        check::check_together(&config)?;
        Ok(config)
    }

    /// As TOML, for the record kept beside a run.
    pub fn to_toml(&self) -> Result<String, Error> {
        toml::to_string(self).map_err(|error| Error::Config { file: "run".into(), reason: error.to_string() })
    }

    /// Keys whose values differ and that a continued run must not change, as `key: ours, theirs`.
    pub fn conflicts(&self, other: &Self) -> Vec<String> {
        let as_json = |config: &Self| serde_json::to_value(config).unwrap_or(Value::Null);
        let mut found = Vec::new();
        collect_differences("", &as_json(self), &as_json(other), &mut found);
        found.retain(|line| !FREE_KEYS.iter().any(|key| line.starts_with(&format!("{key}: "))));
        found
    }
}

/// Applies one `section.key=value`.
fn set(table: &mut toml::Table, assignment: &str) -> Result<(), String> {
    let malformed = || format!("`{assignment}` is not of the form section.key=value");
    let (path, value) = assignment.split_once('=').ok_or_else(malformed)?;
    let value: toml::Table = format!("value = {value}")
        .parse()
        .map_err(|_| format!("`{value}` in `{assignment}` is not a TOML value (text needs quotes)"))?;
    let value = value.get("value").cloned().ok_or_else(malformed)?;
    let (section, key) = path.trim().rsplit_once('.').ok_or_else(malformed)?;
    let mut target = table;
    for part in section.split('.') {
        let next = target.get_mut(part).and_then(toml::Value::as_table_mut);
        target = next.ok_or_else(|| check::unknown(path.trim()))?;
    }
    target.insert(key.to_owned(), value);
    Ok(())
}

fn collect_differences(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    if let (Value::Object(ours), Value::Object(theirs)) = (ours, theirs) {
        for (key, value) in ours {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            collect_differences(&path, value, theirs.get(key).unwrap_or(&Value::Null), found);
        }
    } else if ours != theirs {
        found.push(format!("{path}: {ours} here, {theirs} there"));
    }
}
