//! `dozen-train eval finetune`.

use super::{OutputArguments, read_images};
use crate::cli::{DeviceArgument, note};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use dozen_trainer::evaluate::{FinetuneOptions, ModelSource, finetune};
use std::path::PathBuf;

/// What the options start from.
const RECIPE: FinetuneOptions = FinetuneOptions::RECIPE;

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    /// A model folder, a run's checkpoint.safetensors, `shipped` (the weights inside this program) or `untrained:CONFIG`
    /// (the network of an experiment before its first step).
    #[arg(long)]
    model: ModelSource,
    /// Labelled images to learn from: class folders, archives of them, WebDataset shards or Parquet files.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    train: Vec<PathBuf>,
    /// Images to classify.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    val: Vec<PathBuf>,
    /// Passes over the training images.
    #[arg(long, default_value_t = RECIPE.epochs)]
    epochs: usize,
    /// Of these, epochs of linear warm-up.
    #[arg(long, default_value_t = RECIPE.warmup_epochs)]
    warmup_epochs: f64,
    /// Images per step; fewer where there are fewer.
    #[arg(long, default_value_t = RECIPE.batch_size)]
    batch_size: usize,
    /// Learning rate of the last layer, for 256 images per step.
    #[arg(long, default_value_t = RECIPE.learning_rate)]
    learning_rate: f64,
    /// Factor of the rate from each layer to the one before it.
    #[arg(long, default_value_t = RECIPE.layer_decay)]
    layer_decay: f64,
    /// Weight decay.
    #[arg(long, default_value_t = RECIPE.weight_decay)]
    weight_decay: f64,
    /// How often the last block's branches are left out.
    #[arg(long, default_value_t = RECIPE.drop_path)]
    drop_path: f64,
    /// α of mixup, at most 1; 0 turns it off.
    #[arg(long, default_value_t = RECIPE.mixup)]
    mixup: f64,
    /// α of cutmix, at most 1; 0 turns it off.
    #[arg(long, default_value_t = RECIPE.cutmix)]
    cutmix: f64,
    /// Share of the uniform distribution in the targets.
    #[arg(long, default_value_t = RECIPE.label_smoothing)]
    label_smoothing: f64,
    /// Crop and flip only.
    #[arg(long)]
    no_randaugment: bool,
    /// Seed of everything random.
    #[arg(long, default_value_t = RECIPE.seed)]
    seed: u64,
    /// Where to train.
    #[arg(long, value_enum, default_value = "auto")]
    device: DeviceArgument,
    #[command(flatten)]
    output: OutputArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let shares = [
        ("--mixup", arguments.mixup),
        ("--cutmix", arguments.cutmix),
        ("--label-smoothing", arguments.label_smoothing),
        ("--drop-path", arguments.drop_path),
    ];
    if let Some((name, value)) = shares.into_iter().find(|(_, value)| !(0.0..=1.0).contains(value)) {
        bail!("{name} is {value}; it must lie between 0 and 1");
    }
    let files = arguments.model.files()?.context("raw pixels have no network to fine-tune")?;
    let (train, val) = (read_images(&arguments.train)?, read_images(&arguments.val)?);
    let options = FinetuneOptions {
        epochs: arguments.epochs,
        warmup_epochs: arguments.warmup_epochs,
        batch_size: arguments.batch_size,
        learning_rate: arguments.learning_rate,
        layer_decay: arguments.layer_decay,
        weight_decay: arguments.weight_decay,
        drop_path: arguments.drop_path,
        mixup: arguments.mixup,
        cutmix: arguments.cutmix,
        label_smoothing: arguments.label_smoothing,
        randaugment: !arguments.no_randaugment,
        seed: arguments.seed,
    };
    let device = arguments.device.open(0)?;
    let mut progress =
        |epoch: usize, loss: f64| note(&format!("epoch {epoch} of {}: loss {loss:.3}", options.epochs));
    let report = finetune(&files, [&train, &val], &options, &device, &mut progress)?;
    arguments.output.write(&report, &report.to_markdown())
}
