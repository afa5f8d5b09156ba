//! From labelled vectors to a head that may answer: chosen and tuned, judged on examples it has not seen, made honest.
//!
//! The examples of the held-back slice ([`crate::promotion::held_back`]) take no part in choosing. A head with the chosen
//! numbers is fitted twice: on the others, as the *twin* that answers for it on the slice, and on all, to answer calls.
//! So the slice stays unseen by whatever is judged on it, and no label is wasted.

mod choice;
mod report;
mod settings;
mod standalone;

use serde::{Deserialize, Serialize};

pub use report::{HeldOutQuality, TrainingReport, Trial};
pub use settings::{FittedHead, Method, Settings};
pub use standalone::Standalone;

use crate::heads::{ClassPrior, ClassWeights, LogisticHead, LogisticOptions};
use crate::progress::part;
use crate::reliability::Reliability;
use crate::{Error, Examples, Pool, Progress};

/// What to train. The default chooses everything by what held-out examples say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainingOptions {
    /// `None` chooses.
    pub method: Option<Method>,
    /// λ of the logistic head; `None` chooses.
    pub l2: Option<f64>,
    /// What the examples of a class weigh in the logistic head.
    pub class_weights: ClassWeights,
    /// How unlabelled images are spread over the classes, for the MSN head.
    pub class_prior: ClassPrior,
}

impl TrainingOptions {
    /// With λ as asked for, or that of least loss on held-out examples.
    fn logistic(&self, examples: &Examples, progress: Progress<'_>) -> Result<LogisticOptions, Error> {
        let options = LogisticOptions { class_weights: self.class_weights, ..LogisticOptions::default() };
        let l2 = match self.l2 {
            Some(l2) => l2,
            None => LogisticHead::choose_l2(examples, &options, progress)?,
        };
        Ok(LogisticOptions { l2, ..options })
    }
}

/// A trained head and what is to be known of it.
#[derive(Clone, Debug)]
pub struct Trained {
    /// Fitted on all examples.
    pub head: FittedHead,
    /// Fitted on the examples that are not held back, with the same numbers.
    pub twin: FittedHead,
    /// For the answers of `head`.
    pub reliability: Reliability,
    /// How it came to be.
    pub report: TrainingReport,
}

/// Trains a head. Needs two classes or more; `held_back` says which examples are, one answer per example.
pub fn train(
    examples: &Examples,
    held_back: &[bool],
    pool: &Pool,
    options: &TrainingOptions,
    progress: Progress<'_>,
) -> Result<Trained, Error> {
    examples.need_classes(2)?;
    let (known, slice) = split(examples, held_back)?;
    let choice = choice::choose(&known, &slice, pool, options, &mut part(progress, 0.0, 0.6))?;
    let settings = choice.settings;
    let (head, held_out) = settings.fit_and_hold_out(examples, pool, &mut part(progress, 0.6, 0.9))?;
    let twin = if slice.is_empty() {
        head.clone()
    } else {
        settings.fit(&known, pool, &mut part(progress, 0.9, 1.0))?
    };
    let reliability = Reliability::fit(examples, &held_out)?;
    let right = Standalone::new(twin.clone(), known)?.right(&slice)?;
    let report = TrainingReport {
        method: settings.method(),
        examples: examples.len(),
        classes: examples.classes().len(),
        pool: pool.len(),
        held_back: slice.len(),
        held_back_right: right.into_iter().filter(|right| *right).count(),
        held_out: HeldOutQuality::measure(&held_out, &reliability),
        temperature: reliability.calibration().temperature(),
        uniform_share: reliability.calibration().uniform_share(),
        reason: choice.reason,
        trials: choice.trials,
        settings,
    };
    Ok(Trained { head, twin, reliability, report })
}

/// The examples that heads may be fitted on while they are judged, and the slice.
pub fn split(examples: &Examples, held_back: &[bool]) -> Result<(Examples, Examples), Error> {
    if held_back.len() != examples.len() {
        let value = format!("{} examples", held_back.len());
        return Err(Error::InvalidOption { name: "held_back", value, range: "one answer per example" });
    }
    let (slice, known): (Vec<usize>, Vec<usize>) =
        (0..examples.len()).partition(|&position| held_back[position]);
    Ok((examples.subset(&known), examples.subset(&slice)))
}

#[cfg(test)]
mod tests;
