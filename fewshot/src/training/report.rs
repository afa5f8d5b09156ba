//! What a training says of itself.

use serde::{Deserialize, Serialize};

use super::{Method, Settings};
use crate::heads::{HeldOut, Logit, Score};
use crate::measures::{Judged, brier, expected_calibration_error, log_loss};
use crate::reliability::Reliability;

/// How a head came to be and what it is worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingReport {
    /// The method, chosen or asked for.
    pub method: Method,
    /// Its numbers.
    pub settings: Settings,
    /// Why this method.
    pub reason: String,
    /// What was tried, best first; empty where the method was asked for.
    pub trials: Vec<Trial>,
    /// Labelled examples.
    pub examples: usize,
    /// Classes with examples.
    pub classes: usize,
    /// Unlabelled images at hand.
    pub pool: usize,
    /// Examples in the held-back slice.
    pub held_back: usize,
    /// Those that the twin answers rightly.
    pub held_back_right: usize,
    /// Of heads with these numbers on examples that they were not fitted on; absent where every class has one example.
    pub held_out: Option<HeldOutQuality>,
    /// What logits are divided by before they become probabilities.
    pub temperature: f64,
    /// Share of every answer that is spread evenly over the classes.
    pub uniform_share: f64,
}

/// A method's answers about examples that neither its numbers nor its head had seen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The method.
    pub method: Method,
    /// Share answered rightly.
    pub accuracy: f64,
    /// Mean −log probability of the label at the temperature that suits it best, in nats.
    pub log_loss: f64,
}

/// The quality of calibrated answers about examples that were left out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOutQuality {
    /// Examples judged.
    pub judged: usize,
    /// Share answered rightly.
    pub accuracy: f64,
    /// Mean −log probability of the label, in nats.
    pub log_loss: f64,
    /// Mean squared distance between probabilities and truth, 0 to 2.
    pub brier: f64,
    /// Mean distance between confidence and accuracy, over 15 bins.
    pub calibration_error: f64,
}

impl HeldOutQuality {
    /// `None` where nothing was judged.
    pub(super) fn measure(held_out: &HeldOut, reliability: &Reliability) -> Option<Self> {
        let classes = held_out.classes();
        let scores: Vec<Vec<Score>> = held_out
            .rows()
            .map(|row| {
                let logit = |(&class, &logit): (&u64, &f64)| Logit { class, logit, similarity: 0.0 };
                reliability.scores(classes.iter().zip(row).map(logit).collect())
            })
            .collect();
        let answers: Vec<Judged<'_>> = scores
            .iter()
            .zip(held_out.labels())
            .map(|(scores, &label)| Judged { scores, truth: classes[label] })
            .collect();
        let right = answers.iter().filter(|answer| answer.scores[0].class == answer.truth).count();
        Some(Self {
            judged: held_out.len(),
            accuracy: right as f64 / held_out.len() as f64,
            log_loss: log_loss(&answers)?,
            brier: brier(&answers)?,
            calibration_error: expected_calibration_error(&answers)?,
        })
    }
}
