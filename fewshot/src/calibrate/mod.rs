//! Probabilities that mean what they say: logits rescaled by what heads said of examples they had not seen.
//!
//! One temperature and a share of every answer that is spread evenly over the classes (Zhang et al., arXiv 2003.07329), or
//! vector scaling where it proves better (Guo et al., arXiv 1706.04599, §4.2). Heads that judged held-out examples knew an
//! example less of each class than the head that answers: it is right a little more often than they were, so what is
//! fitted here errs on the side of too little confidence, least where classes have many examples.
//!
//! Few examples prove little. As in Platt's scaling, the fit sees one example more, whose label is drawn at random:
//! each of n targets is its label for n/(n + 1) and uniform for the rest. So heads that got all of five examples right
//! answer with about eleven twelfths where there are two classes, five sixths where there are many, however large their
//! margins.

mod blend;
mod temperature;
mod vector;

use serde::{Deserialize, Serialize};

use crate::heads::{HeldOut, Logit};
use crate::matrix::softmax;
use crate::{ClassKey, Error};
use blend::Blend;
use vector::Affine;

/// What a head said of an example that it had not seen.
#[derive(Clone, Copy)]
struct Judgement<'a> {
    /// One per class; −∞ for a class that the head did not know.
    logits: &'a [f64],
    /// Position of the example's class, which the head knew.
    label: usize,
}

impl<'a> Judgement<'a> {
    /// Logits of the classes that the head knew.
    fn known(&self) -> impl Iterator<Item = f64> + use<'a> {
        self.logits.iter().copied().filter(|logit| logit.is_finite())
    }

    fn largest(&self) -> f64 {
        self.known().fold(f64::NEG_INFINITY, f64::max)
    }

    /// −log probability of the label after vector scaling.
    fn loss(&self, affine: &Affine) -> f64 {
        let scaled = |((logit, scale), bias): ((&f64, &f64), &f64)| {
            if logit.is_finite() { logit * scale + bias } else { f64::NEG_INFINITY }
        };
        let mut logits: Vec<f64> =
            self.logits.iter().zip(&affine.scales).zip(&affine.biases).map(scaled).collect();
        let own = logits[self.label];
        softmax(&mut logits) - own
    }
}

/// How a head's logits are rescaled before they become probabilities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "StoredCalibration", into = "StoredCalibration")]
pub struct Calibration {
    temperature: f64,
    /// 0 with vector scaling.
    uniform_share: f64,
    /// Present where vector scaling was better.
    per_class: Option<PerClass>,
}

/// Vector scaling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct PerClass {
    /// Ascending.
    classes: Vec<ClassKey>,
    scales: Vec<f64>,
    biases: Vec<f64>,
}

/// The stored form. `format` changes whenever its meaning does.
#[derive(Serialize, Deserialize)]
struct StoredCalibration {
    format: u32,
    temperature: f64,
    /// Absent where none was fitted yet.
    #[serde(default)]
    uniform_share: f64,
    per_class: Option<PerClass>,
}

impl Calibration {
    /// Version of the stored form written and read by this code.
    pub const FORMAT: u32 = 1;

    /// Judged examples of every class without which a class of its own scale is not tried.
    ///
    /// Two numbers per class, fitted to few examples of it, make those examples' labels too probable: prediction sets
    /// formed from them covered 0.77 at a promise of 0.8 with five (prototypes of 17 classes; 0.88 with one temperature),
    /// and 0.783 with thirteen (mean of three sets).
    const ENOUGH: usize = 20;
    /// Parts in which vector scaling is cross-validated.
    const PARTS: usize = 5;
    /// Most logits with which it is tried: it passes over all of them some hundred times.
    const MOST_LOGITS: usize = 1_000_000;

    /// Leaves logits as they are.
    pub fn identity() -> Self {
        Self { temperature: 1.0, uniform_share: 0.0, per_class: None }
    }

    /// Minimises the log-loss of held-out examples; the identity if there are none.
    ///
    /// One temperature and one even share, unless each class's own scale and bias, tried where every class has 20 judged
    /// examples, lower the cross-validated log-loss by more than its standard error.
    pub fn fit(held_out: &HeldOut) -> Self {
        let judgements = judgements(held_out);
        let smoothing = smoothing(judgements.len());
        let alone = temperature::fit(&judgements, smoothing);
        let classes = held_out.classes();
        let affine = Self::is_enough(&judgements, classes.len())
            .then(|| better_affine(&judgements, classes.len(), alone))
            .flatten();
        if let Some(Affine { scales, biases }) = affine {
            let per_class = Some(PerClass { classes: classes.to_vec(), scales, biases });
            return Self { temperature: 1.0 / alone, uniform_share: 0.0, per_class };
        }
        let Blend { inverse, uniform } = Blend::fit(&judgements, smoothing, alone);
        Self { temperature: 1.0 / inverse, uniform_share: uniform, per_class: None }
    }

    fn is_enough(judgements: &[Judgement<'_>], classes: usize) -> bool {
        let mut counts = vec![0; classes];
        for judgement in judgements {
            counts[judgement.label] += 1;
        }
        counts.iter().all(|&count| count >= Self::ENOUGH) && judgements.len() * classes <= Self::MOST_LOGITS
    }

    /// What logits are divided by; with vector scaling, that of the classes it does not know.
    pub fn temperature(&self) -> f64 {
        self.temperature
    }

    /// Share of every answer that is spread evenly over the classes, 0 to 1: how often the head's own answer says nothing.
    pub fn uniform_share(&self) -> f64 {
        self.uniform_share
    }

    /// Each class has a scale and a bias of its own, which can change the ranking.
    pub fn is_per_class(&self) -> bool {
        self.per_class.is_some()
    }

    /// Rescales logits in place. Classes may be any, in any order; they share what is spread evenly.
    pub fn apply(&self, logits: &mut [Logit]) {
        for logit in &mut *logits {
            let own = self.per_class.as_ref().and_then(|own| {
                let row = own.classes.binary_search(&logit.class).ok()?;
                Some((own.scales[row], own.biases[row]))
            });
            let (scale, bias) = own.unwrap_or((1.0 / self.temperature, 0.0));
            // A scale of 0 must not turn an unknown class's −∞ into NaN.
            if logit.logit.is_finite() {
                logit.logit = logit.logit * scale + bias;
            }
        }
        if self.uniform_share > 0.0 {
            self.spread(logits);
        }
    }

    /// Makes logits the logarithms of probabilities, with the even share in them.
    fn spread(&self, logits: &mut [Logit]) {
        let mut probabilities: Vec<f64> =
            logits.iter().map(|logit| logit.logit).filter(|logit| logit.is_finite()).collect();
        softmax(&mut probabilities);
        let chance = self.uniform_share / probabilities.len() as f64;
        let known = logits.iter_mut().filter(|logit| logit.logit.is_finite());
        for (logit, probability) in known.zip(probabilities) {
            logit.logit = ((1.0 - self.uniform_share) * probability + chance).ln();
        }
    }
}

/// One label drawn at random among so many more.
fn smoothing(judged: usize) -> f64 {
    1.0 / (judged + 1) as f64
}

/// Those whose own class the head knew.
fn judgements(held_out: &HeldOut) -> Vec<Judgement<'_>> {
    held_out
        .rows()
        .zip(held_out.labels())
        .map(|(logits, &label)| Judgement { logits, label })
        .filter(|judgement| judgement.logits[judgement.label].is_finite())
        .collect()
}

/// Vector scaling, if its log-loss on parts that it was not fitted on is lower than the blend's by more than the standard
/// error of the difference.
fn better_affine(judgements: &[Judgement<'_>], classes: usize, inverse: f64) -> Option<Affine> {
    let mut gains = Vec::with_capacity(judgements.len());
    let part_of = parts(judgements, classes);
    for part in 0..Calibration::PARTS {
        let (out, kept): (Vec<_>, Vec<_>) =
            judgements.iter().zip(&part_of).partition(|(_, own)| **own == part);
        let kept: Vec<Judgement<'_>> = kept.into_iter().map(|(judgement, _)| *judgement).collect();
        let smoothing = smoothing(kept.len());
        let inverse = temperature::fit(&kept, smoothing);
        let affine = vector::fit(&kept, classes, smoothing, inverse);
        let blend = Blend::fit(&kept, smoothing, inverse);
        gains.extend(out.into_iter().map(|(judgement, _)| blend.loss(judgement) - judgement.loss(&affine)));
    }
    let count = gains.len() as f64;
    let mean = gains.iter().sum::<f64>() / count;
    let variance = gains.iter().map(|gain| (gain - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean > (variance / count).sqrt())
        .then(|| vector::fit(judgements, classes, smoothing(judgements.len()), inverse))
}

/// The part of each judgement: those of a class in turn.
fn parts(judgements: &[Judgement<'_>], classes: usize) -> Vec<usize> {
    let mut seen = vec![0; classes];
    let next = |judgement: &Judgement<'_>| {
        seen[judgement.label] += 1;
        seen[judgement.label] % Calibration::PARTS
    };
    judgements.iter().map(next).collect()
}

impl From<Calibration> for StoredCalibration {
    fn from(calibration: Calibration) -> Self {
        let Calibration { temperature, uniform_share, per_class } = calibration;
        Self { format: Calibration::FORMAT, temperature, uniform_share, per_class }
    }
}

impl TryFrom<StoredCalibration> for Calibration {
    type Error = Error;

    fn try_from(stored: StoredCalibration) -> Result<Self, Error> {
        let refuse = |reason: String| Err(Error::StoredHead { reason });
        let StoredCalibration { format, temperature, uniform_share, per_class } = stored;
        if format != Self::FORMAT {
            return refuse(format!(
                "its calibration format is {format}, this version reads {}",
                Self::FORMAT
            ));
        }
        if !(temperature.is_finite() && temperature > 0.0) {
            return refuse(format!("its temperature is {temperature}"));
        }
        if !(0.0..=1.0).contains(&uniform_share) {
            return refuse(format!("its even share is {uniform_share}"));
        }
        if let Some(PerClass { classes, scales, biases }) = &per_class {
            if classes.len() != scales.len() || classes.len() != biases.len() {
                return refuse("its calibration does not have one scale and bias per class".to_owned());
            }
            if !classes.is_sorted_by(|a, b| a < b) {
                return refuse("its calibrated classes are not in ascending order".to_owned());
            }
            if scales.iter().chain(biases).any(|value| !value.is_finite()) {
                return refuse("a calibrated scale or bias is not finite".to_owned());
            }
        }
        Ok(Self { temperature, uniform_share, per_class })
    }
}

#[cfg(test)]
mod tests;
