//! `dozen-train report`.

use super::{DeviceArgument, note};
use anyhow::Result;
use candle_core::Device;
use clap::Args;
use dozen_trainer::data::ImageSet;
use dozen_trainer::report::{self, Images, RunFacts};
use dozen_trainer::run::Checkpoint;
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct Arguments {
    /// The run's folder.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Where the training images are; where the run found them if this is not given.
    #[arg(long, num_args = 1.., value_name = "PATH")]
    data: Vec<PathBuf>,
    /// The page to write; report.html in the run's folder if this is not given.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Images looked at for prototypes and neighbours.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..), value_name = "N")]
    sample: u32,
    /// Where to look at them.
    #[arg(long, value_enum, default_value = "auto")]
    device: DeviceArgument,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let device = arguments.device.open(0)?;
    let config = Checkpoint::load_latest(&arguments.run, &Device::Cpu)?.progress.config;
    let recorded = RunFacts::read(&arguments.run).map(|facts| facts.data).unwrap_or_default();
    let given = !arguments.data.is_empty();
    let data = if given { &arguments.data } else { &recorded };
    let opened = ImageSet::open_undecoded(data, &config.data);
    let images = match &opened {
        Ok(set) if !data.is_empty() => Images::Set(set, arguments.sample as usize),
        Err(error) if !data.is_empty() => Images::Missing(error.to_string()),
        _ => Images::Missing("the run does not say where its images are".into()),
    };
    if let (true, Images::Missing(reason)) = (given, &images) {
        anyhow::bail!("cannot read the images: {reason}");
    }
    let out = arguments.out.clone().unwrap_or_else(|| arguments.run.join(report::FILE));
    for warning in report::write(&arguments.run, &images, &device, &out)? {
        note(&format!("warning: {warning}"));
    }
    note(&format!("report: {}", out.display()));
    Ok(())
}
