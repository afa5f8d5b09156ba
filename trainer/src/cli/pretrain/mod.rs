//! `dozen-train pretrain`.

mod dry_run;
mod live;
mod ndjson;

use super::{DeviceArgument, note, open_images};
use anyhow::{Context as _, Result};
use candle_core::Device;
use clap::{Args, ValueEnum};
use dozen_trainer::config::Config;
use dozen_trainer::data::ImageSet;
use dozen_trainer::initial::InitialTrunk;
use dozen_trainer::msn::Ranks;
use dozen_trainer::report::{self, Images, RunFacts};
use dozen_trainer::run::ranks::{self, Launch};
use dozen_trainer::run::{Event, Monitor, Outcome, RunOptions, Start, checkpoint, pretrain};
pub(super) use live::Live;
use ndjson::Ndjson;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

#[derive(Args)]
pub(super) struct Arguments {
    /// The experiment, a TOML file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Begin with the trunk of a model folder, of another run's checkpoint.safetensors, or of `shipped`, the weights inside
    /// this program; head and prototypes start afresh.
    #[arg(long, value_name = "MODEL", conflicts_with = "resume")]
    init: Option<String>,
    #[command(flatten)]
    run: RunArguments,
    /// Folder for checkpoints, log and report.
    #[arg(long, required_unless_present = "dry_run", value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print what the run would need (parameters, tokens, memory, time, measured on a few steps) and do not run it.
    #[arg(long, conflicts_with = "progress")]
    dry_run: bool,
}

/// What every kind of training run is told.
#[derive(Args)]
pub(super) struct RunArguments {
    /// Folders, .tar/.tar.zst archives, WebDataset shards or Parquet files of images, with or without classes;
    /// `photos.tar/train` takes a part of an archive, `'shard-{000..012}.tar'` thirteen of them.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Go on from the newest checkpoint in the folder.
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,
    /// Replace the run in the folder.
    #[arg(long)]
    overwrite: bool,
    /// Set a key of the configuration; the value is written as in TOML. Repeatable.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(super) overrides: Vec<String>,
    /// End cleanly, with a checkpoint, after this many minutes. The schedules still follow schedule.epochs.
    #[arg(long, value_name = "MINUTES")]
    max_minutes: Option<f64>,
    /// Labelled images, one folder per class, that training does not learn from: 1- and 5-shot accuracy on at most 2,000
    /// of them is measured every run.monitor_epochs.
    #[arg(long, value_name = "PATH")]
    monitor: Option<PathBuf>,
    /// How progress is told.
    #[arg(long, value_enum, default_value = "auto")]
    progress: ProgressArgument,
    /// Where to train.
    #[arg(long, value_enum, default_value = "auto")]
    device: DeviceArgument,
}

/// A run, ready to begin.
pub(super) struct Plan {
    pub(super) config: Config,
    /// What it begins with, unless it is resumed.
    pub(super) initial: Option<InitialTrunk>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ProgressArgument {
    /// A live display on a terminal, otherwise a line every 30 seconds; both on standard error.
    Auto,
    /// One JSON object per line on standard output, for programs.
    Ndjson,
}

/// Images that a report looks at.
const SAMPLE: usize = 1000;
/// The same while training goes on, or somebody waits for the program to end, on a CPU: the look takes seconds, not minutes.
const SMALL_SAMPLE: usize = 256;

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let plan = || {
        let config = Config::read(&arguments.config, &arguments.run.overrides)?;
        let initial = arguments.init.as_deref().map(InitialTrunk::read).transpose()?;
        if let Some(trunk) = &initial {
            trunk.check(&config)?;
        }
        Ok(Plan { config, initial })
    };
    match arguments.out.as_deref().filter(|_| !arguments.dry_run) {
        Some(out) => drive(&arguments.run, out, plan, &|| Ok(())),
        None => dry_run::run(&plan()?.config, &arguments.run.data, &arguments.run.device.open(0)?),
    }
}

/// Trains as planned into `out` and tells how it goes; `finish` is called once the last epoch is done, on rank 0.
pub(super) fn drive(
    arguments: &RunArguments,
    out: &Path,
    plan: impl FnOnce() -> Result<Plan>,
    finish: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let launch = Launch::from_environment()?;
    let first = launch.as_ref().is_none_or(|launch| launch.rank == 0);
    let mut progress = match arguments.progress {
        // One process speaks for all of a run.
        _ if !first => Progress::Silent,
        ProgressArgument::Auto => Progress::Live(Live::default()),
        ProgressArgument::Ndjson => Progress::Ndjson(Ndjson::new(Arc::clone(&stop))),
    };
    let ended =
        plan().and_then(|plan| train(arguments, out, plan, launch.as_ref(), stop, &mut progress, finish));
    if let (Progress::Ndjson(ndjson), Err(error)) = (&mut progress, &ended) {
        let kept = checkpoint::exists_in(out).then(|| out.join(checkpoint::FILE));
        ndjson.failed(&format!("{error:#}"), kept.as_deref());
    }
    ended
}

/// Who is told how training goes.
enum Progress {
    Live(Live),
    Ndjson(Ndjson),
    Silent,
}

impl Progress {
    fn show(&mut self, event: &Event<'_>) {
        match self {
            Self::Live(live) => live.show(event),
            Self::Ndjson(ndjson) => ndjson.tell(event),
            Self::Silent => {}
        }
    }
}

fn train(
    arguments: &RunArguments,
    out: &Path,
    plan: Plan,
    launch: Option<&Launch>,
    stop: Arc<AtomicBool>,
    progress: &mut Progress,
    finish: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let device = arguments.device.open(launch.map_or(0, |launch| launch.local_rank))?;
    let config = plan.config;
    let ranks = launch.map_or_else(|| Ok(Ranks::alone()), |launch| ranks::join(launch, &device))?;
    let images_per_step = config.optimisation.batch_size * config.optimisation.accumulate * ranks.count();
    let mut options = options(arguments, &config, out, ranks, stop)?;
    options.initial = plan.initial.map(|trunk| trunk.parameters);
    let set = Arc::new(open_images(&arguments.data, &config.data)?);
    let facts = RunFacts::gather(
        &arguments.data,
        arguments.monitor.as_deref(),
        (set.len(), set.skipped().len()),
        if device.is_cuda() { "cuda" } else { "cpu" },
    );
    match progress {
        Progress::Live(live) => live.prepare(&config, images_per_step),
        Progress::Ndjson(ndjson) => ndjson.prepare(&config, images_per_step, &facts, out, set.skipped()),
        Progress::Silent => {}
    }
    // Only now: until there is something to save, a signal ends the program at once.
    stop_on_signals(&options.stop)?;
    let mut running = false;
    let first = options.ranks.rank() == 0;
    let outcome = pretrain(&config, &set, &device, &options, &mut |event| {
        if first && matches!(event, Event::Started { .. }) {
            running = true;
            if let Err(error) = facts.write(out) {
                note(&format!("warning: the report will not know data and machine: {error}"));
            }
        }
        progress.show(&event);
        if first && matches!(event, Event::Saved { last: false, .. }) {
            write_report(out, &set, &device, false);
        }
    });
    if let Progress::Live(live) = progress {
        live.clear();
    }
    match outcome {
        Ok(outcome) if first => {
            if outcome == Outcome::Finished {
                finish()?;
            }
            ended(outcome, out, &set, &device, progress);
        }
        Err(error) if checkpoint::exists_in(out) && running => {
            let kept = out.join(checkpoint::FILE);
            return Err(error).with_context(|| format!("the last good checkpoint is {}", kept.display()));
        }
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Writes the last report and says how the run ended and what it left.
fn ended(outcome: Outcome, out: &Path, set: &ImageSet, device: &Device, progress: &Progress) {
    let kept = out.join(checkpoint::FILE);
    let report = write_report(out, set, device, outcome == Outcome::Finished);
    if let Progress::Ndjson(ndjson) = progress {
        ndjson.ended(outcome, &kept, report.as_deref());
    }
    note(match outcome {
        Outcome::Finished => "finished",
        Outcome::OutOfTime => "stopped at the time limit; --resume goes on",
        Outcome::Stopped => "stopped; --resume goes on",
    });
    note(&format!("checkpoint: {}", kept.display()));
    if let Some(report) = report {
        note(&format!("report: {}", report.display()));
    }
}

fn options(
    arguments: &RunArguments,
    config: &Config,
    out: &Path,
    ranks: Ranks,
    stop: Arc<AtomicBool>,
) -> Result<RunOptions> {
    if config.optimisation.accumulate > 1 {
        note(
            "optimisation.accumulate averages gradients only: BatchNorm, the mean prediction and Sinkhorn still see \
             optimisation.batch_size images at a time, so this is not the same as a larger batch",
        );
    }
    let start = match (arguments.resume, arguments.overwrite) {
        (true, _) => Start::Resume,
        (false, true) => Start::Overwrite,
        (false, false) => Start::Fresh,
    };
    let time_limit = arguments
        .max_minutes
        .map(|minutes| Duration::try_from_secs_f64(60.0 * minutes).context("--max-minutes"))
        .transpose()?;
    let monitor = arguments.monitor.as_ref().filter(|_| ranks.rank() == 0).map(|path| {
        let monitor = Monitor::open(std::slice::from_ref(path), config).context("cannot use --monitor")?;
        note(&format!("evaluating on {} images of {} classes", monitor.images(), monitor.classes()));
        Ok::<_, anyhow::Error>(Arc::new(monitor))
    });
    Ok(RunOptions {
        out: out.to_owned(),
        start,
        initial: None,
        ranks,
        time_limit,
        stop,
        monitor: monitor.transpose()?,
    })
}

/// Writes the report of the newest checkpoint; a run is worth more than its report, so that failing is only said.
fn write_report(out: &Path, set: &ImageSet, device: &Device, finished: bool) -> Option<PathBuf> {
    let path = out.join(report::FILE);
    let sample = if finished || !device.is_cpu() { SAMPLE } else { SMALL_SAMPLE };
    match report::write(out, &Images::Set(set, sample), device, &path) {
        Ok(_) => Some(path),
        Err(error) => {
            note(&format!("warning: no report was written: {error}"));
            None
        }
    }
}

/// Has the first Ctrl-C or termination request set `stop`; the second ends the process at once.
pub(in crate::cli) fn stop_on_signals(stop: &Arc<AtomicBool>) -> Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(stop)))
            .context("cannot listen for signals")?;
    }
    Ok(())
}
