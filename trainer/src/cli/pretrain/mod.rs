//! `dozen-train pretrain`.

use super::{DeviceArgument, note, open_images};
use anyhow::{Context as _, Result};
use candle_core::Device;
use clap::Args;
use dozen_trainer::config::Config;
use dozen_trainer::run::{Event, LogRecord, Outcome, RunOptions, Start, checkpoint, pretrain};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

#[derive(Args)]
pub(super) struct Arguments {
    /// The experiment, a TOML file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Folders or .tar/.tar.zst archives of images, with or without class folders; `photos.tar/train` takes a part of
    /// an archive.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Folder for checkpoints and log.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Go on from the newest checkpoint in the folder.
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,
    /// Replace the run in the folder.
    #[arg(long)]
    overwrite: bool,
    /// Set a key of the configuration; the value is written as in TOML. Repeatable.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    overrides: Vec<String>,
    /// End cleanly, with a checkpoint, after this many minutes. The schedules still follow schedule.epochs.
    #[arg(long, value_name = "MINUTES")]
    max_minutes: Option<f64>,
    /// Where to train.
    #[arg(long, value_enum, default_value = "auto")]
    device: DeviceArgument,
}

pub(super) fn run(arguments: Arguments) -> Result<()> {
    let config = Config::read(&arguments.config, &arguments.overrides)?;
    let device = match arguments.device {
        DeviceArgument::Auto => Device::cuda_if_available(0).context("cannot use the CUDA device")?,
        DeviceArgument::Cpu => Device::Cpu,
    };
    let start = match (arguments.resume, arguments.overwrite) {
        (true, _) => Start::Resume,
        (false, true) => Start::Overwrite,
        (false, false) => Start::Fresh,
    };
    let set = Arc::new(open_images(&arguments.data, &config.data)?);
    let time_limit = arguments
        .max_minutes
        .map(|minutes| Duration::try_from_secs_f64(60.0 * minutes).context("--max-minutes"))
        .transpose()?;
    let options = RunOptions { out: arguments.out, start, time_limit, stop: stop_on_signals()? };
    let mut display = Display::new(config.optimisation.batch_size);
    let outcome = pretrain(&config, &set, &device, &options, &mut |event| display.show(&event));
    display.bar.finish_and_clear();
    let kept = options.out.join(checkpoint::FILE);
    match outcome {
        Ok(outcome) => {
            note(match outcome {
                Outcome::Finished => "finished",
                Outcome::OutOfTime => "stopped at the time limit; --resume goes on",
                Outcome::Stopped => "stopped; --resume goes on",
            });
            note(&format!("checkpoint: {}", kept.display()));
            Ok(())
        }
        Err(error) if checkpoint::exists_in(&options.out) && display.running => {
            Err(error).with_context(|| format!("the last good checkpoint is {}", kept.display()))
        }
        Err(error) => Err(error.into()),
    }
}

/// A flag that the first Ctrl-C or termination request sets; the second ends the process at once.
fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .context("cannot listen for signals")?;
    }
    Ok(stop)
}

/// Seconds between lines where there is no terminal to draw a bar on.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// A progress bar, or lines where there is no terminal.
struct Display {
    bar: ProgressBar,
    batch_size: usize,
    steps_per_epoch: usize,
    steps: usize,
    running: bool,
    last_line: Option<Instant>,
}

impl Display {
    fn new(batch_size: usize) -> Self {
        let bar = ProgressBar::hidden();
        Self { bar, batch_size, steps_per_epoch: 1, steps: 0, running: false, last_line: None }
    }

    fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Started { step, steps, steps_per_epoch } => {
                self.running = true;
                (self.steps, self.steps_per_epoch) = (*steps, *steps_per_epoch);
                self.bar = bar(*steps).with_position(*step as u64);
                self.bar.reset_eta();
                self.say(&format!("step {step} of {steps}, {steps_per_epoch} per epoch"));
            }
            Event::Stepped { step } => self.bar.set_position(*step as u64),
            Event::Logged(record) => self.logged(record),
            Event::Unreadable(skipped) => {
                self.say(&format!("warning: {} is left out: {}", skipped.name, skipped.reason));
            }
            Event::Saved { step } => self.say(&format!("checkpoint at step {step}")),
        }
    }

    fn logged(&mut self, record: &LogRecord) {
        let status = format!(
            "loss {:.3}, {} prototypes, target {:.2}, {:.0} images/s, {:.0} % waiting",
            record.loss,
            record.distinct_prototypes,
            record.max_target,
            record.images_per_second,
            100.0 * record.data_wait
        );
        if self.bar.is_hidden() && self.last_line.is_none_or(|last| last.elapsed() >= LINE_INTERVAL) {
            self.last_line = Some(Instant::now());
            let left = (self.steps - record.step) as f64 * self.batch_size as f64 / record.images_per_second;
            let (step, epoch, minutes) = (record.step, record.epoch, left / 60.0);
            note(&format!("step {step}, epoch {epoch:.2}: {status}, {minutes:.0} min left"));
        }
        self.bar.set_message(format!("epoch {:.2}: {status}", record.epoch));
    }

    fn say(&self, message: &str) {
        self.bar.suspend(|| note(message));
    }
}

fn bar(steps: usize) -> ProgressBar {
    let template = "{wide_bar} {pos}/{len} [{elapsed_precise}, {eta_precise} left]\n{msg}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(steps as u64).with_style(style)
}
