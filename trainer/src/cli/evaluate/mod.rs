//! `dozen-train eval`: what every evaluation's command line has in common.

mod budget;
mod finetune;
mod knn;
mod linear;
mod low_shot;
mod robustness;

use super::{note, open_images, print, warn_of};
use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use dozen_models::DeviceChoice;
use dozen_trainer::data::{DataOptions, ImageSet};
use dozen_trainer::evaluate::{FeatureSource, Features, ModelSource, Sight};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::path::PathBuf;

#[derive(Subcommand)]
pub(super) enum Evaluation {
    /// Accuracy with a few labelled images per class and a frozen encoder.
    LowShot(low_shot::Arguments),
    /// Accuracy of weighted nearest neighbours on frozen features.
    Knn(knn::Arguments),
    /// Accuracy of a linear classifier trained on frozen features.
    Linear(linear::Arguments),
    /// Accuracy of the whole network trained on labelled images.
    Finetune(finetune::Arguments),
    /// Accuracy and similarity of features when patches are dropped.
    Robustness(robustness::Arguments),
    /// Accuracy and similarity of features when queries are embedded within a patch budget.
    Budget(budget::Arguments),
}

pub(super) fn run(evaluation: &Evaluation) -> Result<()> {
    match evaluation {
        Evaluation::LowShot(arguments) => low_shot::run(arguments),
        Evaluation::Knn(arguments) => knn::run(arguments),
        Evaluation::Linear(arguments) => linear::run(arguments),
        Evaluation::Finetune(arguments) => finetune::run(arguments),
        Evaluation::Robustness(arguments) => robustness::run(arguments),
        Evaluation::Budget(arguments) => budget::run(arguments),
    }
}

/// Which model, and where it runs.
#[derive(Args)]
pub(super) struct ModelArguments {
    /// A model folder, a run's checkpoint.safetensors, `shipped` (the weights inside this program), `untrained:CONFIG` (the
    /// network of an experiment before its first step) or `raw-pixels` (no network).
    #[arg(long)]
    model: ModelSource,
    /// Embed on the CPU even where there is a CUDA device.
    #[arg(long)]
    cpu: bool,
}

/// Where the result goes.
#[derive(Args)]
struct OutputArguments {
    /// Also write the result as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print Markdown (the default) even where --json is given.
    #[arg(long)]
    markdown: bool,
}

impl ModelArguments {
    pub(super) fn load(&self) -> Result<FeatureSource> {
        let source = self.model.load(if self.cpu { DeviceChoice::Cpu } else { DeviceChoice::Auto })?;
        if let FeatureSource::Encoder(encoder) = &source {
            note(&format!("{} on {}", encoder.info().name, encoder.info().device));
        }
        Ok(source)
    }
}

impl OutputArguments {
    fn write(&self, report: &impl Serialize, markdown: &str) -> Result<()> {
        if let Some(path) = &self.json {
            let json = serde_json::to_string_pretty(report).context("cannot write JSON")?;
            std::fs::write(path, json + "\n").with_context(|| path.display().to_string())?;
        }
        if self.markdown || self.json.is_none() {
            print(markdown);
        }
        Ok(())
    }
}

/// Evaluation sets are small; this much memory holds any that is evaluated image by image.
const DATA: DataOptions = DataOptions { memory_mib: 4096, shrink_short_side: 0, threads: 0 };

pub(super) fn read_images(paths: &[PathBuf]) -> Result<ImageSet> {
    open_images(paths, &DATA)
}

pub(super) fn embed(source: &FeatureSource, set: &ImageSet, sight: Sight) -> Result<Features> {
    let template = "embedding {wide_bar} {pos}/{len} [{per_sec}, {eta} left]";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(set.len() as u64).with_style(style);
    let (features, skipped) = source.embed_seen(set, sight, |images| bar.inc(images as u64))?;
    bar.finish_and_clear();
    // Those found when the set was opened are at the front and have been named.
    warn_of(&skipped[set.skipped().len()..]);
    Ok(features)
}
