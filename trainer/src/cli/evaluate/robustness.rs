//! `dozen-train eval robustness`.

use super::{ModelArguments, OutputArguments, embed, read_images};
use anyhow::{Result, bail};
use clap::Args;
use dozen_trainer::evaluate::{Masked, RobustnessOptions, Shots, Sight, robustness};
use std::path::PathBuf;

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Labelled images: class folders, archives of them, WebDataset shards or Parquet files.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Shares of the patches to drop, in percent; a row each.
    #[arg(long, value_delimiter = ',', default_value = "0,15,30,50,70,90", value_name = "PERCENT,…")]
    drop: Vec<f64>,
    /// Labelled images per class, or a share such as 1%.
    #[arg(long, default_value = "13", value_name = "K")]
    shots: Shots,
    /// Random draws of the labelled images.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    draws: u32,
    /// Seed of draws and masks.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// λ of the logistic regression, whose C is 1/λ.
    #[arg(long, default_value_t = 0.0025, value_name = "λ")]
    l2: f64,
    #[command(flatten)]
    output: OutputArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    if let Some(wrong) = arguments.drop.iter().find(|percent| !(0.0..100.0).contains(*percent)) {
        bail!("--drop has {wrong}; shares lie between 0 and below 100");
    }
    let source = arguments.model.load()?;
    let set = read_images(&arguments.data)?;
    let whole = embed(&source, &set, Sight::Whole)?;
    let mut masked = Vec::with_capacity(arguments.drop.len());
    for percent in &arguments.drop {
        let share = percent / 100.0;
        let sight = Sight::Hiding { share, seed: arguments.seed };
        masked.push((format!("{percent:.0} % dropped"), embed(&source, &set, sight)?));
    }
    let options = RobustnessOptions {
        masked: Masked::Labelled,
        shots: arguments.shots,
        draws: arguments.draws as usize,
        seed: arguments.seed,
        l2: arguments.l2,
    };
    let report = robustness(source.name(), &whole, &masked, &options)?;
    arguments.output.write(&report, &report.to_markdown())
}
