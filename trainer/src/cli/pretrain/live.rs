//! Progress for the person at the terminal: a display of three lines, or a line now and then where there is no terminal.

use crate::cli::note;
use dozen_trainer::config::Config;
use dozen_trainer::run::{Event, LogRecord, MonitorRecord};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// Time between lines where there is no terminal to draw on.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// What is shown.
pub(in crate::cli) struct Live {
    bar: ProgressBar,
    scale: Scale,
    steps: usize,
    last_line: Option<Instant>,
}

/// What the numbers are out of.
#[derive(Clone, Copy, Default)]
struct Scale {
    images_per_step: usize,
    epochs: usize,
    /// Prototypes that one micro-batch's targets can differ in.
    prototypes: usize,
}

impl Default for Live {
    fn default() -> Self {
        Self { bar: ProgressBar::hidden(), scale: Scale::default(), steps: 0, last_line: None }
    }
}

impl Live {
    pub(in crate::cli) fn prepare(&mut self, config: &Config, images_per_step: usize) {
        let prototypes = config.distinct_prototypes();
        self.scale = Scale { images_per_step, epochs: config.schedule.epochs, prototypes };
    }

    pub(in crate::cli) fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Started { step, steps, steps_per_epoch } => {
                self.steps = *steps;
                self.bar = bar(*steps).with_position(*step as u64);
                self.bar.reset_eta();
                self.say(&format!("step {step} of {steps}, {steps_per_epoch} per epoch"));
            }
            Event::Stepped { step } => self.bar.set_position(*step as u64),
            Event::Logged(record) => self.logged(record),
            Event::Unreadable(skipped) => {
                self.say(&format!("warning: {} is left out: {}", skipped.name, skipped.reason));
            }
            Event::Saved { step, .. } => self.say(&format!("checkpoint at step {step}")),
            Event::Evaluated(record) => self.say(&accuracies(record)),
        }
    }

    /// Takes the display off the screen.
    pub(in crate::cli) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn logged(&mut self, record: &LogRecord) {
        let [loss, health] = status(record, self.scale);
        if self.bar.is_hidden() && self.last_line.is_none_or(|last| last.elapsed() >= LINE_INTERVAL) {
            self.last_line = Some(Instant::now());
            let left = seconds_left(record, self.steps, self.scale.images_per_step);
            let left = if left < 120.0 { format!("{left:.0} s") } else { format!("{:.0} min", left / 60.0) };
            note(&format!("step {} of {}, {loss}, {health}, {left} left", record.step, self.steps));
        }
        self.bar.set_message(format!("{loss}\n{health}"));
    }

    fn say(&self, message: &str) {
        self.bar.suspend(|| note(message));
    }
}

/// Seconds until the last step at the speed of a line of the log.
pub(super) fn seconds_left(record: &LogRecord, steps: usize, images_per_step: usize) -> f64 {
    steps.saturating_sub(record.step) as f64 * images_per_step as f64 / record.images_per_second
}

/// Two lines that fit 80 columns: how the loss is, and how well the run does.
fn status(record: &LogRecord, scale: Scale) -> [String; 2] {
    let loss = format!(
        "epoch {:.2} of {}: loss {:.3} (agreement {:.3}, mean entropy {:.3})",
        record.epoch, scale.epochs, record.loss, record.msn, record.me_max
    );
    let health = format!(
        "{} of {} prototypes, confidence {:.2}, {:.0} images/s, data wait {:.0} %",
        record.distinct_prototypes,
        scale.prototypes,
        record.max_target,
        record.images_per_second,
        100.0 * record.data_wait
    );
    [loss, health]
}

fn accuracies(record: &MonitorRecord) -> String {
    let each: Vec<String> = record
        .accuracies
        .iter()
        .map(|one| format!("{} {}-shot {:.1} %", one.head, one.shots, 100.0 * one.accuracy))
        .collect();
    format!("epoch {:.2}: {}", record.epoch, each.join(", "))
}

fn bar(steps: usize) -> ProgressBar {
    let template = "step {pos} of {len} {wide_bar} {percent} %, {eta_precise} left\n{msg}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(steps as u64).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dozen_trainer::run::Accuracy;

    fn record() -> LogRecord {
        LogRecord {
            step: 999_000,
            epoch: 799.99,
            learning_rate: 1e-3,
            weight_decay: 0.4,
            momentum: 1.0,
            loss: 12.345_67,
            msn: 10.123_4,
            me_max: 6.931_4,
            entropy: 6.9,
            koleo: 0.0,
            distinct_prototypes: 1024,
            max_target: 0.999,
            gradient_norm: 1.0,
            first_qkv_gradient_norm: 1.0,
            last_qkv_gradient_norm: 1.0,
            images_per_second: 12_345.6,
            data_wait: 1.0,
        }
    }

    #[test]
    fn the_largest_numbers_fit_a_narrow_terminal() {
        let scale = Scale { images_per_step: 1024, epochs: 800, prototypes: 1024 };
        let [loss, health] = status(&record(), scale);
        assert!(loss.len() <= 80 && health.len() <= 80, "{loss}\n{health}");
        assert!(loss.contains("agreement 10.123, mean entropy 6.931"), "{loss}");
        assert!(health.contains("1024 of 1024") && health.ends_with("data wait 100 %"), "{health}");
        assert!((seconds_left(&record(), 1_000_000, 1024) - 82.95).abs() < 0.01);
    }

    #[test]
    fn accuracies_fit_too() {
        let one = |head: &str, shots| Accuracy { head: head.into(), shots, accuracy: 1.0, interval: None };
        let accuracies =
            vec![one("prototype", 1), one("logistic", 1), one("prototype", 5), one("logistic", 5)];
        let record =
            MonitorRecord { step: 1, epoch: 799.99, images: 2000, classes: 100, accuracies, seconds: 1.0 };
        let line = super::accuracies(&record);
        assert!(line.len() <= 120 && line.contains("logistic 5-shot 100.0 %"), "{line}");
    }
}
