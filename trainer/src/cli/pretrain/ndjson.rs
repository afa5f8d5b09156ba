//! Progress for a program: one JSON object per line on standard output, flushed, and nothing else there. The README
//! documents the fields; they are a contract with whoever starts this program as a child process.

use super::live::seconds_left;
use dozen_trainer::config::Config;
use dozen_trainer::data::Skipped;
use dozen_trainer::report::RunFacts;
use dozen_trainer::run::{Event, LogRecord, MonitorRecord, Outcome, checkpoint};
use serde::Serialize;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A line.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line<'a> {
    Started {
        version: &'a str,
        step: usize,
        steps: usize,
        steps_per_epoch: usize,
        epochs: usize,
        images: usize,
        images_per_step: usize,
        prototypes: usize,
        parameters: usize,
        device: &'a str,
        out: &'a Path,
    },
    Step {
        steps: usize,
        eta_seconds: f64,
        #[serde(flatten)]
        record: &'a LogRecord,
    },
    Unreadable {
        name: &'a str,
        reason: &'a str,
    },
    Checkpoint {
        step: usize,
        path: PathBuf,
    },
    Evaluation(&'a MonitorRecord),
    Finished(End<'a>),
    Stopped {
        reason: &'a str,
        #[serde(flatten)]
        end: End<'a>,
    },
    Failed {
        error: &'a str,
        checkpoint: Option<&'a Path>,
    },
}

/// How a run ended without an error.
#[derive(Serialize)]
struct End<'a> {
    step: usize,
    seconds: f64,
    checkpoint: &'a Path,
    report: Option<&'a Path>,
}

/// The writer of the lines.
pub(super) struct Ndjson {
    /// Set when nobody reads any more: a run whose owner is gone ends with a checkpoint.
    stop: Arc<AtomicBool>,
    run: Option<Run>,
    started: Instant,
}

/// What the lines repeat of the run.
struct Run {
    facts: RunFacts,
    out: PathBuf,
    images_per_step: usize,
    epochs: usize,
    prototypes: usize,
    parameters: usize,
    step: usize,
    steps: usize,
}

impl Ndjson {
    pub(super) fn new(stop: Arc<AtomicBool>) -> Self {
        Self { stop, run: None, started: Instant::now() }
    }

    /// Takes up what is known before the first step, and tells which images are left out.
    pub(super) fn prepare(
        &mut self,
        config: &Config,
        images_per_step: usize,
        facts: &RunFacts,
        out: &Path,
        skipped: &[Skipped],
    ) {
        let counts = config.msn().parameter_counts();
        self.run = Some(Run {
            facts: facts.clone(),
            out: out.to_owned(),
            images_per_step,
            epochs: config.schedule.epochs,
            prototypes: config.head.count * config.loss.prototypes,
            parameters: counts.trunk + counts.head + counts.prototypes,
            step: 0,
            steps: 0,
        });
        for Skipped { name, reason } in skipped {
            self.write(&Line::Unreadable { name, reason });
        }
    }

    pub(super) fn tell(&mut self, event: &Event<'_>) {
        let Some(mut run) = self.run.take() else { return };
        match event {
            Event::Started { step, steps, steps_per_epoch } => {
                (run.step, run.steps) = (*step, *steps);
                self.write(&Line::Started {
                    version: &run.facts.version,
                    step: *step,
                    steps: *steps,
                    steps_per_epoch: *steps_per_epoch,
                    epochs: run.epochs,
                    images: run.facts.images,
                    images_per_step: run.images_per_step,
                    prototypes: run.prototypes,
                    parameters: run.parameters,
                    device: &run.facts.device,
                    out: &run.out,
                });
            }
            Event::Stepped { step } => run.step = *step,
            Event::Logged(record) => {
                let eta_seconds = seconds_left(record, run.steps, run.images_per_step);
                self.write(&Line::Step { steps: run.steps, eta_seconds, record });
            }
            Event::Unreadable(Skipped { name, reason }) => self.write(&Line::Unreadable { name, reason }),
            Event::Saved { step, .. } => {
                self.write(&Line::Checkpoint { step: *step, path: run.out.join(checkpoint::FILE) });
            }
            Event::Evaluated(record) => self.write(&Line::Evaluation(record)),
        }
        self.run = Some(run);
    }

    /// The last line of a run that ended without an error.
    pub(super) fn ended(&self, outcome: Outcome, checkpoint: &Path, report: Option<&Path>) {
        let step = self.run.as_ref().map_or(0, |run| run.step);
        let end = End { step, seconds: self.started.elapsed().as_secs_f64(), checkpoint, report };
        self.write(&match outcome {
            Outcome::Finished => Line::Finished(end),
            Outcome::OutOfTime => Line::Stopped { reason: "time_limit", end },
            Outcome::Stopped => Line::Stopped { reason: "request", end },
        });
    }

    /// The last line of a run that failed, or could not begin.
    pub(super) fn failed(&self, error: &str, checkpoint: Option<&Path>) {
        self.write(&Line::Failed { error, checkpoint });
    }

    fn write(&self, line: &Line<'_>) {
        let mut out = std::io::stdout().lock();
        let written = serde_json::to_writer(&mut out, line).map_err(std::io::Error::from);
        let written = written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
        if written.is_err() {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}
