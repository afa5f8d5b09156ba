//! `dozen-train eval linear`.

use super::{ModelArguments, OutputArguments, embed, read_images};
use anyhow::Result;
use clap::Args;
use dozen_trainer::evaluate::{LinearOptions, Sight, linear};
use std::path::PathBuf;

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Labelled images to learn from: class folders, archives of them, WebDataset shards or Parquet files.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    train: Vec<PathBuf>,
    /// Images to classify.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    val: Vec<PathBuf>,
    /// Random crops and flips of each training image, which the epochs take in turn; 0 takes the centre crop.
    #[arg(long, default_value_t = 0)]
    crops: usize,
    /// Passes over the training images.
    #[arg(long, default_value_t = 100)]
    epochs: usize,
    /// Images per step; fewer where there are fewer.
    #[arg(long, default_value_t = 256)]
    batch_size: usize,
    /// Learning rate at the start of its cosine. The paper's is 6.4.
    #[arg(long, default_value_t = 6.4)]
    learning_rate: f64,
    /// Seed of initial weights, order and crops.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    output: OutputArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let source = arguments.model.load()?;
    let train = read_images(&arguments.train)?;
    let sights = match arguments.crops {
        0 => vec![Sight::Whole],
        crops => (0..crops).map(|crop| Sight::RandomCrop { crop, seed: arguments.seed }).collect(),
    };
    let views = sights.into_iter().map(|sight| embed(&source, &train, sight)).collect::<Result<Vec<_>>>()?;
    let queries = embed(&source, &read_images(&arguments.val)?, Sight::Whole)?;
    let options = LinearOptions {
        epochs: arguments.epochs,
        batch_size: arguments.batch_size,
        learning_rate: arguments.learning_rate,
        seed: arguments.seed,
    };
    let report = linear(source.name(), &views, &queries, &options)?;
    arguments.output.write(&report, &report.to_markdown())
}
