//! `dozen-train pretrain --dry-run`: what a run would need.

use crate::cli::{note, print};
use anyhow::{Context as _, Result};
use candle_core::Device;
use dozen_trainer::config::Config;
use dozen_trainer::data::ImageSet;
use dozen_trainer::report::thousands;
use dozen_trainer::run::estimate::{Needs, Timing, needs, time_step};
use std::path::PathBuf;

pub(super) fn run(config: &Config, data: &[PathBuf], device: &Device) -> Result<()> {
    let images = ImageSet::open_undecoded(data, &config.data).context("cannot read the images")?.len();
    let needs = needs(config, device);
    print(&size(config, &needs, images));
    note("timing a few steps on noise …");
    let timing = time_step(config, device).context("a step of this size fails")?;
    print(&time(config, &timing, images, device));
    Ok(())
}

/// A table of names and values, the values to the right.
fn table(title: &str, rows: &[(String, String)]) -> String {
    let name = rows.iter().map(|row| row.0.chars().count()).max().unwrap_or_default();
    let value = rows.iter().map(|row| row.1.chars().count()).max().unwrap_or_default();
    let lines: Vec<String> = rows.iter().map(|(a, b)| format!("  {a:name$}  {b:>value$}\n")).collect();
    format!("{title}\n{}", lines.concat())
}

fn size(config: &Config, needs: &Needs, images: usize) -> String {
    let row = |name: &str, value: String| (name.to_owned(), value);
    let (parameters, tokens, memory) = (&needs.parameters, &needs.tokens, &needs.memory);
    let views = &config.views;
    let batch = images_per_step(config);
    let trained = parameters.trunk + parameters.head + parameters.prototypes;
    let parameters = table(
        "Parameters",
        &[
            row("trunk", thousands(parameters.trunk)),
            row("head", thousands(parameters.head)),
            row("prototypes", thousands(parameters.prototypes)),
            row("trained", thousands(trained)),
        ],
    );
    let per_step = |count: usize, tokens: usize| {
        format!("{count} × {tokens}, {} per step", thousands(batch * count * tokens))
    };
    let tokens = table(
        &format!("Tokens per image, class token included, in steps of {batch} images"),
        &[
            row("target view", per_step(1, tokens.target)),
            row("random views", per_step(views.random_views, tokens.random)),
            row("focal views", per_step(views.focal_views, tokens.focal)),
        ],
    );
    let memory = table(
        "Memory on the device, estimated",
        &[
            row("weights of both encoders", mebibytes(memory.weights)),
            row("optimiser", mebibytes(memory.optimiser)),
            row("gradients", mebibytes(memory.gradients)),
            row("activations", mebibytes(memory.activations)),
            row("views", mebibytes(memory.views)),
            row("in all", mebibytes(memory.total())),
        ],
    );
    let per_epoch = images / batch;
    let steps = table(
        "Steps",
        &[
            row("images", thousands(images)),
            row("per epoch", thousands(per_epoch)),
            row(
                &format!("in {} epochs", config.schedule.epochs),
                thousands(per_epoch * config.schedule.epochs),
            ),
        ],
    );
    format!("{parameters}\n{tokens}\n{memory}\n{steps}")
}

/// Of one process.
fn images_per_step(config: &Config) -> usize {
    config.optimisation.batch_size * config.optimisation.accumulate
}

fn time(config: &Config, timing: &Timing, images: usize, device: &Device) -> String {
    let batch = images_per_step(config);
    let per_epoch = images / batch;
    let row = |name: &str, value: String| (name.to_owned(), value);
    let full = timing.images == config.optimisation.batch_size;
    let how = if full {
        format!("{} steps", timing.steps)
    } else {
        format!("{} steps of {} images, scaled up", timing.steps, timing.images)
    };
    let mut rows = vec![
        row("one step", duration(timing.seconds)),
        row("images per second", format!("{:.0}", batch as f64 / timing.seconds)),
        row("one epoch", duration(timing.seconds * per_epoch as f64)),
        row("the run", duration(timing.seconds * (per_epoch * config.schedule.epochs) as f64)),
    ];
    if let Some(peak) = peak_memory().filter(|_| device.is_cpu() && full) {
        rows.push(row("peak memory of these steps", mebibytes(peak)));
    }
    let text = table(
        &format!("Time on this device, measured on {how} of noise (reading images not included)"),
        &rows,
    );
    if per_epoch == 0 {
        return format!(
            "{text}\n{images} images do not fill a batch of {batch}; lower optimisation.batch_size"
        );
    }
    text.trim_end().to_owned()
}

fn mebibytes(bytes: usize) -> String {
    format!("{} MiB", thousands(bytes.div_ceil(1 << 20)))
}

fn duration(seconds: f64) -> String {
    match seconds {
        short if short < 1.0 => format!("{:.0} ms", 1e3 * short),
        short if short < 120.0 => format!("{short:.1} s"),
        medium if medium < 7200.0 => format!("{:.0} min", medium / 60.0),
        long if long < 172_800.0 => format!("{:.1} h", long / 3600.0),
        days => format!("{:.1} days", days / 86_400.0),
    }
}

/// The largest resident memory this process has had, where the system tells (Linux).
fn peak_memory() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(mebibytes(5 << 30), "5,120 MiB");
        assert_eq!(duration(0.25), "250 ms");
        assert_eq!(duration(5400.0), "90 min");
        assert_eq!(duration(260_000.0), "3.0 days");
    }
}
