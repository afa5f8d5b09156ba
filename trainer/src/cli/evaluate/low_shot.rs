//! `dozen-train eval low-shot`.

use super::{ModelArguments, OutputArguments, embed, read_images};
use anyhow::{Context as _, Result};
use clap::Args;
use dozen_trainer::evaluate::{Features, LowShotOptions, Protocol, Shots, Sight, listed_split, low_shot};
use std::path::PathBuf;

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Labelled images: class folders, archives of them, WebDataset shards or Parquet files.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Labelled images per class, or a share of each class such as 1%; several give a row each.
    #[arg(long, value_delimiter = ',', default_value = "1,2,5,13", value_name = "K,…")]
    shots: Vec<Shots>,
    /// Random draws of the labelled images.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    draws: u32,
    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// λ of the logistic regression, whose C is 1/λ; several give a row each.
    #[arg(long, value_delimiter = ',', default_value = "0.0025", value_name = "λ,…")]
    l2: Vec<f64>,
    /// Files that name the labelled images, one per line, instead of drawing them; one split each. An image is named
    /// by its path or the end of it.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    train_list: Vec<PathBuf>,
    /// A file that names the queries of the lists; without it they are all other images.
    #[arg(long, requires = "train_list", value_name = "FILE")]
    val: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let source = arguments.model.load()?;
    let features = embed(&source, &read_images(&arguments.data)?, Sight::Whole)?;
    let options = LowShotOptions { protocol: protocol(arguments, &features)?, l2: arguments.l2.clone() };
    let report = low_shot(&source.name(), &features, &options)?;
    arguments.output.write(&report, &report.to_markdown())
}

fn protocol(arguments: &Arguments, features: &Features) -> Result<Protocol> {
    if arguments.train_list.is_empty() {
        let (shots, draws) = (arguments.shots.clone(), arguments.draws as usize);
        return Ok(Protocol::Drawn { shots, draws, seed: arguments.seed });
    }
    let read = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| path.display().to_string());
    let queries = arguments.val.as_ref().map(read).transpose()?;
    let split = |path: &PathBuf| {
        let listed = listed_split(features, &read(path)?, queries.as_deref());
        listed.with_context(|| path.display().to_string())
    };
    Ok(Protocol::Listed(arguments.train_list.iter().map(split).collect::<Result<_>>()?))
}
