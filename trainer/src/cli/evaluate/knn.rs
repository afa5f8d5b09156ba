//! `dozen-train eval knn`.

use super::{ModelArguments, OutputArguments, embed, read_images};
use anyhow::Result;
use clap::Args;
use dozen_trainer::evaluate::{Sight, knn};
use std::path::PathBuf;

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Labelled images: class folders, archives of them, WebDataset shards or Parquet files.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    train: Vec<PathBuf>,
    /// Images to classify; without them every image asks all others.
    #[arg(long, num_args = 1.., value_name = "PATH")]
    val: Vec<PathBuf>,
    /// Numbers of neighbours; several give a row each.
    #[arg(short, long, value_delimiter = ',', default_value = "10,20", value_name = "K,…")]
    neighbours: Vec<usize>,
    #[command(flatten)]
    output: OutputArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let source = arguments.model.load()?;
    let train = embed(&source, &read_images(&arguments.train)?, Sight::Whole)?;
    let queries = match &arguments.val[..] {
        [] => None,
        paths => Some(embed(&source, &read_images(paths)?, Sight::Whole)?),
    };
    let report = knn(source.name(), &train, queries.as_ref(), &arguments.neighbours)?;
    arguments.output.write(&report, &report.to_markdown())
}
