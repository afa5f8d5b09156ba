//! `dozen-train data check`.

use super::{NAMED, note, print, warn_of};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use dozen_trainer::config::Config;
use dozen_trainer::data::DataOptions;
use dozen_trainer::data::check::{Classes, Report, Sizes, Spread, check};
use indicatif::{ProgressBar, ProgressStyle};
use std::fmt::Write as _;
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct Arguments {
    /// Folders, .tar/.tar.zst archives, WebDataset shards or Parquet files of images, as `pretrain --data` takes them.
    #[arg(required = true, value_name = "PATH")]
    data: Vec<PathBuf>,
    /// The experiment they are meant for: compares them with its views, batch size and memory.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a key of the configuration, as for `pretrain`. Repeatable.
    #[arg(long = "set", requires = "config", value_name = "SECTION.KEY=VALUE")]
    overrides: Vec<String>,
    /// Also write everything found, names in full, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Without a configuration: as `eval` reads.
const DATA: DataOptions = DataOptions { memory_mib: 4096, shrink_short_side: 0, threads: 0 };

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let config =
        arguments.config.as_ref().map(|path| Config::read(path, &arguments.overrides)).transpose()?;
    let options = config.as_ref().map_or(DATA, |config| config.data);
    let style = ProgressStyle::with_template("{pos} images read [{per_sec}]");
    let bar = ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let report = check(&arguments.data, &options, config.as_ref(), || bar.inc(1));
    bar.finish_and_clear();
    let report = report.context("cannot read the images")?;
    if let Some(path) = &arguments.json {
        let json = serde_json::to_string_pretty(&report).context("cannot write JSON")?;
        std::fs::write(path, json + "\n").with_context(|| path.display().to_string())?;
    }
    print(describe(&report).trim_end());
    warn_of(&report.unreadable);
    for warning in &report.warnings {
        note(&format!("warning: {warning}"));
    }
    if !report.errors.is_empty() {
        bail!("{}", report.errors.join("; "));
    }
    Ok(())
}

/// A report in words.
fn describe(report: &Report) -> String {
    let mut lines: Vec<String> = report.sources.iter().map(ToString::to_string).collect();
    lines.push(format!("images: {} readable, {} not", report.readable, report.unreadable.len()));
    let formats = report.formats.iter().map(|(format, images)| format!("{images} {format}"));
    lines.push(format!("formats: {}", formats.collect::<Vec<_>>().join(", ")));
    lines.extend(sizes(&report.sizes));
    lines.extend(classes(&report.classes));
    lines.extend(groups("the same pixels", &report.exact_duplicates));
    lines.extend(groups("nearly the same look", &report.near_duplicates));
    if !report.label_conflicts.is_empty() {
        lines.push(format!("duplicates with different labels: {} groups", report.label_conflicts.len()));
    }
    for conflict in report.label_conflicts.iter().take(NAMED) {
        let images = conflict.images.iter().map(|image| format!("{} ({})", image.name, image.label));
        lines.push(format!("  {}", images.collect::<Vec<_>>().join(", ")));
    }
    let memory = &report.memory;
    let place = if memory.fits { "decoded in memory" } else { "decoded batch by batch" };
    let mib = memory.decoded_bytes as f64 / f64::from(1 << 20);
    lines.push(format!("memory: {mib:.1} MiB decoded, {} MiB allowed: {place}", memory.memory_mib));
    lines.join("\n")
}

fn sizes(sizes: &Sizes) -> Vec<String> {
    let line = |what: &str, spread: &Spread, decimals: usize| {
        let Spread { min, median, max } = spread;
        format!("{what}: {min:.decimals$} to {max:.decimals$}, median {median:.decimals$}")
    };
    let mut lines = vec![
        line("width", &sizes.width, 0),
        line("height", &sizes.height, 0),
        line("megapixels", &sizes.megapixels, 3),
        line("width / height", &sizes.aspect, 2),
    ];
    for smaller in &sizes.smaller_than_views {
        lines.push(format!("smaller than views of {} pixels: {}", smaller.side, smaller.images));
    }
    lines
}

fn classes(classes: &Classes) -> Vec<String> {
    let mut by_size: Vec<(&String, usize)> =
        classes.images.iter().map(|(name, images)| (name, *images)).collect();
    by_size.sort_by_key(|(name, images)| (std::cmp::Reverse(*images), *name));
    let (Some(largest), Some(smallest)) = (by_size.first(), by_size.last()) else { return Vec::new() };
    if by_size.len() == 1 {
        return vec![format!("classes: one, {}; enough for pre-training, not for evaluation", largest.0)];
    }
    let mut text = format!("classes: {}; ", by_size.len());
    let (median, imbalance) = (classes.spread.median, classes.imbalance);
    // Writing to a string does not fail.
    let _ = write!(text, "largest {} with {}, median {median:.0}, ", largest.0, largest.1);
    let _ = write!(text, "smallest {} with {}, ratio {imbalance:.1}", smallest.0, smallest.1);
    vec![text]
}

fn groups(what: &str, groups: &[Vec<String>]) -> Vec<String> {
    if groups.is_empty() {
        return Vec::new();
    }
    let images: usize = groups.iter().map(Vec::len).sum();
    let mut lines = vec![format!("{what}: {images} images in {} groups", groups.len())];
    lines.extend(groups.iter().take(NAMED).map(|group| format!("  {}", group.join(", "))));
    lines
}
