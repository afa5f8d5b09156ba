//! The pre-training loop.

use super::batch::{ViewBatch, ViewMaker};
use super::checkpoint::{Checkpoint, Progress, run_files};
use super::loader::{Loader, Shard};
use super::log::{self, JsonLines, LogRecord};
use super::monitor::{self, Monitor, MonitorRecord};
use crate::Error;
use crate::config::Config;
use crate::data::order::{Batches, Purpose, keyed_rng};
use crate::data::{ImageSet, Skipped, UnreadableList};
use crate::msn::{Msn, PendingReport, Ranks, Rates, StepReport, TargetEncoder, Views, branch_scales};
use candle_core::{DType, Device};
use dozen_models::vit::Parameters;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// In an empty folder.
    Fresh,
    /// Over whatever run the folder holds.
    Overwrite,
    /// From the folder's newest checkpoint.
    Resume,
}

/// Where, with whom and how long to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Folder of checkpoints and log.
    pub out: PathBuf,
    /// How it begins.
    pub start: Start,
    /// The trunk a new run begins with, by canonical names, instead of a random one.
    pub initial: Option<Parameters>,
    /// The other processes of a data-parallel run; rank 0 writes.
    pub ranks: Ranks,
    /// End cleanly after this long, wherever the schedules are.
    pub time_limit: Option<Duration>,
    /// End cleanly once this is set.
    pub stop: Arc<AtomicBool>,
    /// A labelled set to evaluate on every `run.monitor_epochs`.
    pub monitor: Option<Arc<Monitor>>,
}

/// What a caller may want to show.
#[derive(Debug)]
pub enum Event<'a> {
    /// Training begins or goes on.
    Started {
        /// Steps already taken.
        step: usize,
        /// Steps in all.
        steps: usize,
        /// Steps in an epoch.
        steps_per_epoch: usize,
    },
    /// One more step was taken.
    Stepped {
        /// Steps taken.
        step: usize,
    },
    /// A line was logged.
    Logged(&'a LogRecord),
    /// A picture could not be read; another took its place.
    Unreadable(&'a Skipped),
    /// A checkpoint was written.
    Saved {
        /// Steps taken.
        step: usize,
        /// Whether the run ends here.
        last: bool,
    },
    /// The encoder was evaluated on the labelled set.
    Evaluated(&'a MonitorRecord),
}

/// Why a run ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All epochs are done.
    Finished,
    /// The time limit was reached.
    OutOfTime,
    /// It was asked to stop.
    Stopped,
}

/// Trains, writing checkpoints and a log to `options.out`.
///
/// A loss or gradient that is not finite ends the run with an error; the checkpoints stay as they are.
pub fn pretrain(
    config: &Config,
    set: &Arc<ImageSet>,
    device: &Device,
    options: &RunOptions,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome, Error> {
    let ranks = &options.ranks;
    let shard = Shard { rank: ranks.rank(), count: ranks.count() };
    let images_per_step = config.optimisation.batch_size * config.optimisation.accumulate * shard.count;
    let order = Batches::new(set.len(), images_per_step, config.run.seed)
        .ok_or(Error::TooFewImages { images: set.len(), batch_size: images_per_step })?;
    let mut run = Run::begin(config, set.len(), order.steps_per_epoch(), device, options)?;
    let steps = config.schedule.epochs * order.steps_per_epoch();
    // Every rank finds the same pictures unreadable when it opens the set; rank 0 lists them.
    let mut unreadable = if ranks.rank() == 0 { Some(UnreadableList::open(&options.out)?) } else { None };
    if let Some(list) = &mut unreadable {
        list.add(set.skipped())?;
    }
    let maker = ViewMaker::new(set, config, device)?;
    let loader = Loader::start(Arc::clone(set), config, order, shard, run.step..steps, maker.takes_plans())?;
    observe(Event::Started { step: run.step, steps, steps_per_epoch: order.steps_per_epoch() });

    if run.step == 0 {
        run.evaluate(observe)?;
    }

    let started = Instant::now();
    let mut saved = (Instant::now(), run.step);
    let mut window = Window::new();
    let mut outcome = Outcome::Finished;
    while run.step < steps {
        let waiting = Instant::now();
        let batches = (0..config.optimisation.accumulate).map(|_| loader.next_batch());
        let batches = batches.collect::<Result<Vec<_>, _>>()?;
        window.waited += waiting.elapsed();
        let (report, rates) = run.step(batches, &maker)?;
        window.pending.push(report);
        observe(Event::Stepped { step: run.step });
        let skipped = loader.take_unreadable();
        if let Some(list) = &mut unreadable {
            list.add(&skipped)?;
        }
        for skipped in &skipped {
            observe(Event::Unreadable(skipped));
        }
        let at_log_line = run.step.is_multiple_of(config.run.log_steps) || run.step == steps;
        if at_log_line {
            let reports = window.read()?;
            let record = window.record(&reports, &rates, run.step, order.steps_per_epoch(), images_per_step);
            if let Some(log) = &mut run.log {
                log.write(&record)?;
            }
            observe(Event::Logged(&record));
            window = Window::new();
        }
        let pause = Instant::now();
        if run.is_evaluation_due(steps) {
            // What is not finite must end the run before it is evaluated.
            window.read()?;
            run.evaluate(observe)?;
        }
        if saved.0.elapsed().as_secs_f64() >= 60.0 * config.run.checkpoint_minutes {
            // What is not finite must end the run before it is saved.
            window.read()?;
            run.save()?;
            saved = (Instant::now(), run.step);
            observe(Event::Saved { step: run.step, last: false });
        }
        window.paused += pause.elapsed();
        // Ranks must stop at the same step. They ask each other only where they wait for the device anyway.
        if ranks.count() == 1 || at_log_line {
            if ranks.any(options.stop.load(Ordering::Relaxed), device)? {
                outcome = Outcome::Stopped;
                break;
            }
            if ranks.any(options.time_limit.is_some_and(|limit| started.elapsed() >= limit), device)? {
                outcome = Outcome::OutOfTime;
                break;
            }
        }
    }
    if saved.1 < run.step {
        window.read()?;
        run.save()?;
        observe(Event::Saved { step: run.step, last: true });
    }
    Ok(outcome)
}

/// A run in progress.
struct Run<'a> {
    config: &'a Config,
    out: &'a Path,
    device: &'a Device,
    images: usize,
    steps_per_epoch: usize,
    schedules: crate::msn::Schedules,
    ranks: &'a Ranks,
    msn: Msn,
    /// Of rank 0.
    log: Option<JsonLines<LogRecord>>,
    /// The labelled set and the record of evaluations on it, of rank 0.
    monitor: Option<(Arc<Monitor>, JsonLines<MonitorRecord>)>,
    /// Steps taken.
    step: usize,
}

impl<'a> Run<'a> {
    fn begin(
        config: &'a Config,
        images: usize,
        steps_per_epoch: usize,
        device: &'a Device,
        options: &'a RunOptions,
    ) -> Result<Self, Error> {
        let out = options.out.as_path();
        let ranks = &options.ranks;
        let mut msn = Msn::new(config.msn(), config.run.seed, DType::F32, device, ranks)?;
        let mut step = 0;
        if options.start == Start::Resume {
            let checkpoint = Checkpoint::load_latest(out, &Device::Cpu)?;
            check_same_run(config, images, &checkpoint.progress)?;
            step = checkpoint.progress.step;
            msn.load_state(&checkpoint.tensors, step as u64)?;
        } else {
            if let Some(trunk) = &options.initial {
                msn.start_from(trunk)?;
            }
            if ranks.rank() == 0 {
                prepare_folder(out, options.start)?;
                let path = out.join("config.toml");
                std::fs::write(&path, config.to_toml()?).map_err(|source| Error::Io { path, source })?;
            }
        }
        let schedules = config.schedules(steps_per_epoch);
        let mut run = Self {
            config,
            out,
            device,
            images,
            steps_per_epoch,
            schedules,
            ranks,
            msn,
            log: None,
            monitor: None,
            step,
        };
        if ranks.rank() == 0 {
            run.log = Some(JsonLines::open(out.join(log::FILE), |old: &LogRecord| old.step <= step)?);
            if let Some(monitor) = &options.monitor {
                let path = out.join(monitor::FILE);
                let records = JsonLines::open(path, |old: &MonitorRecord| old.step <= step)?;
                run.monitor = Some((Arc::clone(monitor), records));
            }
        }
        Ok(run)
    }

    fn step(
        &mut self,
        batches: Vec<ViewBatch>,
        maker: &ViewMaker<'_>,
    ) -> Result<(PendingReport, Rates), Error> {
        let made = batches.into_iter().map(|batch| maker.views(batch));
        let views = made.enumerate().map(|(micro, views)| self.drop_paths(views?, micro));
        let views = views.collect::<Result<Vec<_>, _>>()?;
        let rates = self.schedules.at(self.step + 1);
        let report = self.msn.take_step(&views, &rates)?;
        self.step += 1;
        Ok((report, rates))
    }

    /// Draws which branches each anchor leaves out.
    fn drop_paths(&self, mut views: Views, micro: usize) -> Result<Views, Error> {
        let rate = self.config.model.drop_path;
        if rate > 0.0 {
            let part = (micro * self.ranks.count() + self.ranks.rank()) as u32;
            let mut rng = keyed_rng(self.config.run.seed, Purpose::DropPath, self.step as u64, part, 0);
            for group in &mut views.anchors {
                let (depth, rows) = (self.config.model.num_hidden_layers, group.pixels.dim(0)?);
                group.branch_scales = Some(branch_scales(depth, rows, rate, &mut rng, self.device)?);
            }
        }
        Ok(views)
    }

    /// Every `run.monitor_epochs` and after the last step, where there is something to evaluate on.
    fn is_evaluation_due(&self, steps: usize) -> bool {
        let interval = self.config.run.monitor_epochs * self.steps_per_epoch as f64;
        let due = self.step == steps || self.step.is_multiple_of(interval.round().max(1.0) as usize);
        due && self.monitor.is_some()
    }

    fn evaluate(&mut self, observe: &mut dyn FnMut(Event<'_>)) -> Result<(), Error> {
        let Some((monitor, records)) = &mut self.monitor else { return Ok(()) };
        let state = self.msn.state().into_iter().collect();
        let encoder = TargetEncoder::new(&self.config.msn(), &state, self.device)?;
        let epoch = self.step as f64 / self.steps_per_epoch as f64;
        let record = monitor.evaluate(&encoder, self.step, epoch)?;
        records.write(&record)?;
        observe(Event::Evaluated(&record));
        Ok(())
    }

    /// Writes a checkpoint, on rank 0.
    fn save(&self) -> Result<(), Error> {
        if self.ranks.rank() > 0 {
            return Ok(());
        }
        let progress = Progress::new(self.step, self.steps_per_epoch, self.images, self.config.clone());
        Checkpoint { tensors: self.msn.state().into_iter().collect(), progress }.save(self.out)
    }
}

fn check_same_run(config: &Config, images: usize, saved: &Progress) -> Result<(), Error> {
    let mut differences = config.conflicts(&saved.config);
    if images != saved.images {
        differences.push(format!("images: {images} here, {} there", saved.images));
    }
    if differences.is_empty() { Ok(()) } else { Err(Error::OtherRun { differences }) }
}

/// Makes the folder of a new run. Overwriting removes only what a run writes, and only from a folder that holds one.
fn prepare_folder(out: &Path, start: Start) -> Result<(), Error> {
    let failed = |source| Error::Io { path: out.to_owned(), source };
    std::fs::create_dir_all(out).map_err(failed)?;
    let occupied = std::fs::read_dir(out).map_err(failed)?.next().is_some();
    let run_files = run_files(out);
    if occupied && (start != Start::Overwrite || run_files.is_empty()) {
        return Err(Error::NotEmpty { path: out.to_owned() });
    }
    for path in run_files {
        std::fs::remove_file(&path).map_err(|source| Error::Io { path, source })?;
    }
    Ok(())
}

/// What is gathered between two lines of the log.
struct Window {
    started: Instant,
    waited: Duration,
    /// Spent on evaluations and checkpoints.
    paused: Duration,
    /// Reports of its steps that have not been read.
    pending: Vec<PendingReport>,
    /// Reports of its steps before them.
    reports: Vec<StepReport>,
}

impl Window {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            waited: Duration::ZERO,
            paused: Duration::ZERO,
            pending: Vec::new(),
            reports: Vec::new(),
        }
    }

    /// The reports of all its steps; waits for the last.
    fn read(&mut self) -> Result<Vec<StepReport>, Error> {
        self.reports.extend(PendingReport::read_all(&std::mem::take(&mut self.pending))?);
        Ok(self.reports.clone())
    }

    fn record(
        &self,
        reports: &[StepReport],
        rates: &Rates,
        step: usize,
        steps_per_epoch: usize,
        images_per_step: usize,
    ) -> LogRecord {
        let seconds = self.started.elapsed().saturating_sub(self.paused).as_secs_f64();
        let mean =
            |part: fn(&StepReport) -> f64| reports.iter().map(part).sum::<f64>() / reports.len() as f64;
        let last = reports.last();
        let of_last = |part: fn(&StepReport) -> f64| last.map_or(f64::NAN, part);
        LogRecord {
            step,
            epoch: step as f64 / steps_per_epoch as f64,
            learning_rate: rates.learning_rate,
            weight_decay: rates.weight_decay,
            momentum: rates.momentum,
            loss: mean(|one| one.loss),
            msn: mean(|one| one.agreement),
            me_max: mean(|one| one.memax),
            entropy: mean(|one| one.entropy),
            koleo: mean(|one| one.koleo),
            distinct_prototypes: last.map_or(0, |one| one.distinct_prototypes),
            max_target: of_last(|one| one.max_target),
            gradient_norm: of_last(|one| one.gradient_norm),
            first_qkv_gradient_norm: of_last(|one| one.first_qkv_norm),
            last_qkv_gradient_norm: of_last(|one| one.last_qkv_norm),
            images_per_second: (reports.len() * images_per_step) as f64 / seconds,
            data_wait: self.waited.as_secs_f64() / seconds,
        }
    }
}
