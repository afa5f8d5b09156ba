//! The pre-training loop.

use super::checkpoint::{Checkpoint, Progress, run_files};
use super::loader::{Loader, ViewBatch};
use super::log::{self, JsonLines, LogRecord};
use super::monitor::{self, Monitor, MonitorRecord};
use crate::Error;
use crate::config::Config;
use crate::data::order::{Batches, Purpose, keyed_rng};
use crate::data::{ImageSet, Skipped};
use crate::msn::{Msn, Rates, StepReport, TargetEncoder, Views, keep_indices};
use candle_core::{DType, Device, Tensor};
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

/// Where and how long to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Folder of checkpoints and log.
    pub out: PathBuf,
    /// How it begins.
    pub start: Start,
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
    let batch_size = config.optimisation.batch_size;
    let order = Batches::new(set.len(), batch_size, config.run.seed)
        .ok_or(Error::TooFewImages { images: set.len(), batch_size })?;
    let mut run = Run::begin(config, set.len(), order.steps_per_epoch(), device, options)?;
    let steps = config.schedule.epochs * order.steps_per_epoch();
    let loader = Loader::start(Arc::clone(set), config, order, run.step..steps)?;
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
        let batch = loader.next_batch()?;
        window.waited += waiting.elapsed();
        let (report, rates) = run.step(batch)?;
        window.add(&report);
        observe(Event::Stepped { step: run.step });
        for skipped in loader.take_unreadable() {
            observe(Event::Unreadable(&skipped));
        }
        if run.step.is_multiple_of(config.run.log_steps) || run.step == steps {
            let record = window.record(&report, &rates, run.step, order.steps_per_epoch(), batch_size);
            run.log.write(&record)?;
            observe(Event::Logged(&record));
            window = Window::new();
        }
        let pause = Instant::now();
        run.evaluate_when_due(steps, observe)?;
        if saved.0.elapsed().as_secs_f64() >= 60.0 * config.run.checkpoint_minutes {
            run.save()?;
            saved = (Instant::now(), run.step);
            observe(Event::Saved { step: run.step, last: false });
        }
        window.paused += pause.elapsed();
        if options.stop.load(Ordering::Relaxed) {
            outcome = Outcome::Stopped;
            break;
        }
        if options.time_limit.is_some_and(|limit| started.elapsed() >= limit) {
            outcome = Outcome::OutOfTime;
            break;
        }
    }
    if saved.1 < run.step {
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
    msn: Msn,
    log: JsonLines<LogRecord>,
    /// The labelled set and the record of evaluations on it.
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
        let mut msn = Msn::new(config.msn(), config.run.seed, DType::F32, device)?;
        let mut step = 0;
        if options.start == Start::Resume {
            let checkpoint = Checkpoint::load_latest(out, &Device::Cpu)?;
            check_same_run(config, images, &checkpoint.progress)?;
            step = checkpoint.progress.step;
            msn.load_state(&checkpoint.tensors, step as u64)?;
        } else {
            prepare_folder(out, options.start)?;
            let path = out.join("config.toml");
            std::fs::write(&path, config.to_toml()?).map_err(|source| Error::Io { path, source })?;
        }
        let schedules = config.schedules(steps_per_epoch);
        let log = JsonLines::open(out.join(log::FILE), |record: &LogRecord| record.step <= step)?;
        let monitor = options.monitor.as_ref().map(|monitor| {
            let record = JsonLines::open(out.join(monitor::FILE), |old: &MonitorRecord| old.step <= step)?;
            Ok::<_, Error>((Arc::clone(monitor), record))
        });
        Ok(Self {
            config,
            out,
            device,
            images,
            steps_per_epoch,
            schedules,
            msn,
            log,
            monitor: monitor.transpose()?,
            step,
        })
    }

    fn step(&mut self, batch: ViewBatch) -> Result<(StepReport, Rates), Error> {
        let views = &self.config.views;
        let masked_size = if views.random_views > 0 { views.random_size } else { views.focal_size };
        let mut rng = keyed_rng(self.config.run.seed, Purpose::Mask, self.step as u64, 0, 0);
        let keep = keep_indices(self.msn.patches(masked_size), views.patch_drop, &mut rng);
        let rates = self.schedules.at(self.step + 1);
        let tensors = self.tensors(batch)?;
        let report = self.msn.step(&tensors, &keep, &rates)?;
        self.step += 1;
        Ok((report, rates))
    }

    fn tensors(&self, batch: ViewBatch) -> Result<Views, Error> {
        let views = &self.config.views;
        let tensor = |values: Vec<f32>, size: usize| {
            let rows = values.len() / (3 * size * size);
            Tensor::from_vec(values, (rows, 3, size, size), self.device)
        };
        let optional =
            |values: Vec<f32>, size| (!values.is_empty()).then(|| tensor(values, size)).transpose();
        Ok(Views {
            target: tensor(batch.target, views.random_size)?,
            random: optional(batch.random, views.random_size)?,
            focal: optional(batch.focal, views.focal_size)?,
        })
    }

    /// Evaluates every `run.monitor_epochs` and after the last step.
    fn evaluate_when_due(&mut self, steps: usize, observe: &mut dyn FnMut(Event<'_>)) -> Result<(), Error> {
        let interval = self.config.run.monitor_epochs * self.steps_per_epoch as f64;
        let due = self.step == steps || self.step.is_multiple_of(interval.round().max(1.0) as usize);
        if due { self.evaluate(observe) } else { Ok(()) }
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

    fn save(&self) -> Result<(), Error> {
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
    steps: usize,
    /// Sums of loss, agreement, mean-entropy term and entropy.
    sums: [f64; 4],
}

impl Window {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            waited: Duration::ZERO,
            paused: Duration::ZERO,
            steps: 0,
            sums: [0.0; 4],
        }
    }

    fn add(&mut self, report: &StepReport) {
        self.steps += 1;
        let values = [report.loss, report.agreement, report.memax, report.entropy];
        self.sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    }

    fn record(
        &self,
        last: &StepReport,
        rates: &Rates,
        step: usize,
        steps_per_epoch: usize,
        batch_size: usize,
    ) -> LogRecord {
        let seconds = self.started.elapsed().saturating_sub(self.paused).as_secs_f64();
        let [loss, msn, me_max, entropy] = self.sums.map(|sum| sum / self.steps as f64);
        LogRecord {
            step,
            epoch: step as f64 / steps_per_epoch as f64,
            learning_rate: rates.learning_rate,
            weight_decay: rates.weight_decay,
            momentum: rates.momentum,
            loss,
            msn,
            me_max,
            entropy,
            distinct_prototypes: last.distinct_prototypes,
            max_target: last.max_target,
            gradient_norm: last.gradient_norm,
            first_qkv_gradient_norm: last.first_qkv_norm,
            last_qkv_gradient_norm: last.last_qkv_norm,
            images_per_second: (self.steps * batch_size) as f64 / seconds,
            data_wait: self.waited.as_secs_f64() / seconds,
        }
    }
}
