//! `dozen-train eval budget`.

use super::{ModelArguments, OutputArguments, embed, read_images};
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use dozen_models::{Budget, Keep, Selection};
use dozen_trainer::evaluate::{Masked, RobustnessOptions, Shots, Sight, robustness};
use std::path::PathBuf;

/// A rule, by the name that the server gives it.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Rule {
    Spread,
    Content,
    Centre,
    Random,
}

impl Rule {
    fn selection(self, seed: u64) -> Selection {
        match self {
            Self::Spread => Selection::Spread,
            Self::Content => Selection::Content,
            Self::Centre => Selection::Centre,
            Self::Random => Selection::Random { seed },
        }
    }
}

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Labelled images: class folders, archives of them, WebDataset shards or Parquet files.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Shares of the queries' patches to keep; a row each for every rule.
    #[arg(long, value_delimiter = ',', default_value = "1,0.7,0.5,0.3", value_name = "SHARE,…")]
    keep: Vec<f32>,
    /// Rules that choose the patches.
    #[arg(long, value_delimiter = ',', value_enum, default_value = "spread,content,centre,random")]
    select: Vec<Rule>,
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
    #[arg(long, default_value_t = 0.3, value_name = "λ")]
    l2: f64,
    #[command(flatten)]
    output: OutputArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    if let Some(wrong) = arguments.keep.iter().find(|share| !(**share > 0.0 && **share <= 1.0)) {
        bail!("--keep has {wrong}; shares lie above 0 and up to 1");
    }
    let source = arguments.model.load()?;
    let set = read_images(&arguments.data)?;
    let whole = embed(&source, &set, Sight::Whole)?;
    let mut masked = Vec::new();
    for share in &arguments.keep {
        for rule in &arguments.select {
            let selection = rule.selection(arguments.seed);
            let budget = Budget { keep: Keep::Share(*share), selection, masks: 1 };
            let case = format!("{share} {}", format!("{rule:?}").to_lowercase());
            masked.push((case, embed(&source, &set, Sight::Within(budget))?));
        }
    }
    let options = RobustnessOptions {
        masked: Masked::Queries,
        shots: arguments.shots,
        draws: arguments.draws as usize,
        seed: arguments.seed,
        l2: arguments.l2,
    };
    let report = robustness(source.name(), &whole, &masked, &options)?;
    arguments.output.write(&report, &report.to_markdown())
}
