//! `dozen-train eval low-shot`.

use super::{note, open_images, print, warn_of};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use dozen_models::{DeviceChoice, Encoder, ModelFiles};
use dozen_trainer::config::Config;
use dozen_trainer::data::DataOptions;
use dozen_trainer::evaluate::{FeatureSource, Features, LowShotOptions, Protocol, listed_split, low_shot};
use dozen_trainer::export::export_untrained;
use indicatif::{ProgressBar, ProgressStyle};
use std::path::{Path, PathBuf};
use std::str::FromStr;

#[derive(Args)]
pub(super) struct Arguments {
    /// A model folder, `shipped` (the weights inside this program), `untrained:CONFIG` (the network of an experiment
    /// before its first step) or `raw-pixels` (no network).
    #[arg(long)]
    model: ModelArgument,
    /// Labelled images: class folders, archives of them, WebDataset shards or Parquet files.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Labelled images per class; several give a row each.
    #[arg(long, value_delimiter = ',', default_value = "1,5,13", value_name = "K,…")]
    shots: Vec<usize>,
    /// Random draws of the labelled images.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    draws: u32,
    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// λ of the logistic regression, whose C is 1/λ.
    #[arg(long, default_value_t = 0.0025, value_name = "λ")]
    l2: f64,
    /// Files that name the labelled images, one per line, instead of drawing them; one split each. An image is named
    /// by its path or the end of it.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    train_list: Vec<PathBuf>,
    /// A file that names the queries of the lists; without it they are all other images.
    #[arg(long, requires = "train_list", value_name = "FILE")]
    val: Option<PathBuf>,
    /// Also write the result as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print Markdown (the default) even where --json is given.
    #[arg(long)]
    markdown: bool,
    /// Embed on the CPU even where there is a CUDA device.
    #[arg(long)]
    cpu: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum ModelArgument {
    Folder(PathBuf),
    Shipped,
    Untrained(PathBuf),
    RawPixels,
}

impl FromStr for ModelArgument {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "shipped" => Self::Shipped,
            "raw-pixels" => Self::RawPixels,
            _ => match text.strip_prefix("untrained:") {
                Some(config) => Self::Untrained(config.into()),
                None => Self::Folder(text.into()),
            },
        })
    }
}

/// Evaluation sets are small; this much memory holds any that is evaluated image by image.
const DATA: DataOptions = DataOptions { memory_mib: 4096, shrink_short_side: 0, threads: 0 };

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.shots.contains(&0) {
        bail!("--shots must be at least 1");
    }
    let source = load(&arguments.model, arguments.cpu)?;
    let set = open_images(&arguments.data, &DATA)?;
    let template = "embedding {wide_bar} {pos}/{len} [{per_sec}, {eta} left]";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(set.len() as u64).with_style(style);
    let (features, skipped) = source.embed(&set, |images| bar.inc(images as u64))?;
    bar.finish_and_clear();
    // Those found when the set was opened are at the front and have been named.
    warn_of(&skipped[set.skipped().len()..]);
    let options = LowShotOptions { protocol: protocol(arguments, &features)?, l2: arguments.l2 };
    let report = low_shot(&source.name(), &features, &options)?;
    if let Some(path) = &arguments.json {
        let json = serde_json::to_string_pretty(&report).context("cannot write JSON")?;
        std::fs::write(path, json + "\n").with_context(|| path.display().to_string())?;
    }
    if arguments.markdown || arguments.json.is_none() {
        print(&report.to_markdown());
    }
    Ok(())
}

fn load(model: &ModelArgument, cpu: bool) -> Result<FeatureSource> {
    let device = if cpu { DeviceChoice::Cpu } else { DeviceChoice::Auto };
    let encoder = |files: &ModelFiles<'_>| -> Result<FeatureSource> {
        let encoder = Encoder::load(files, device)?;
        note(&format!("{} on {}", encoder.info().name, encoder.info().device));
        Ok(FeatureSource::Encoder(Box::new(encoder)))
    };
    match model {
        ModelArgument::RawPixels => Ok(FeatureSource::RawPixels),
        ModelArgument::Shipped => encoder(&ModelFiles::shipped()),
        ModelArgument::Folder(dir) => encoder(&ModelFiles::read(dir)?),
        ModelArgument::Untrained(path) => encoder(&untrained(path)?),
    }
}

/// The network before training goes through a model folder like any other, so that nothing but the weights differs.
fn untrained(config: &Path) -> Result<ModelFiles<'static>> {
    let config = Config::read(config, &[])?;
    let dir = std::env::temp_dir().join(format!("dozen-train-untrained-{}", std::process::id()));
    let files = export_untrained(&config, &dir, "untrained").map_err(anyhow::Error::from);
    let files = files.and_then(|()| Ok(ModelFiles::read(&dir)?))?;
    std::fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
    Ok(files)
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
