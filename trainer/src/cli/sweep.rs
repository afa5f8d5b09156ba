//! `dozen-train sweep`.

use super::pretrain::{Live, stop_on_signals};
use super::{DeviceArgument, note, open_images, print};
use anyhow::{Context as _, Result};
use clap::Args;
use dozen_trainer::msn::Ranks;
use dozen_trainer::run::{RunOptions, Start};
use dozen_trainer::sweep::{Sweep, run_variant, to_markdown};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

#[derive(Args)]
pub(super) struct Arguments {
    /// The sweep, a TOML file such as trainer/configs/ablations.toml.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Images to train on; labels are not read.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Labelled images to evaluate on, one folder per class.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    labelled: Vec<PathBuf>,
    /// Folder with a folder for each variant, `sweep.json` and `sweep.md`. Variants that are there already are not run again.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Where to train.
    #[arg(long, value_enum, default_value = "auto")]
    device: DeviceArgument,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let sweep = Sweep::read(&arguments.file)?;
    let device = arguments.device.open(0)?;
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signals(&stop)?;
    let options = RunOptions {
        out: arguments.out.clone(),
        start: Start::Fresh,
        initial: None,
        ranks: Ranks::alone(),
        time_limit: None,
        stop,
        monitor: None,
    };
    let first = sweep.1.first().context("the sweep has no variants")?;
    let set = Arc::new(open_images(&arguments.data, &first.data)?);
    let labelled = Arc::new(open_images(&arguments.labelled, &first.data)?);
    let mut results = Vec::new();
    for (number, name) in sweep.0.names().enumerate() {
        note(&format!("variant {name}"));
        let config = &sweep.1[number];
        let mut live = Live::default();
        live.prepare(config, config.optimisation.batch_size * config.optimisation.accumulate);
        let show = &mut |event: dozen_trainer::run::Event<'_>| live.show(&event);
        let result = run_variant(&sweep, number, &arguments.out, [&set, &labelled], &device, &options, show)
            .with_context(|| format!("variant {name}"))?;
        live.clear();
        let Some(result) = result else {
            note("stopped; the same command goes on");
            break;
        };
        results.push(result);
        write(&arguments.out, "sweep.json", &(serde_json::to_string_pretty(&results)? + "\n"))?;
        write(&arguments.out, "sweep.md", &to_markdown(&results))?;
    }
    print(&to_markdown(&results));
    Ok(())
}

fn write(out: &std::path::Path, name: &str, text: &str) -> Result<()> {
    let path = out.join(name);
    std::fs::write(&path, text).with_context(|| path.display().to_string())
}
