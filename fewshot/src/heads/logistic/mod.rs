//! Multinomial logistic regression, L2, no intercept: the low-shot protocol of MSN (arXiv 2204.07141, §5).
//!
//! A fit begins at the solution for the class means, each weighing as much as its examples: that problem is smaller by the
//! number of examples per class, its solution is near, and what it learned of the curvature holds for the examples too.

mod held_out;
mod minimize;
mod objective;
mod preconditioner;
mod softmax;
mod stored;
mod vectors;

use serde::{Deserialize, Serialize};

use super::{Head, Logit};
use crate::progress::report;
use crate::vector::checked_norm;
use crate::{ClassKey, Error, Examples, Progress};
use minimize::{Limits, Minimum, State, minimize};
use objective::Objective;
use stored::StoredLogisticHead;

/// How near the means' solution the examples' fit begins: nearer no longer saves iterations.
const MEANS_TOLERANCE: f64 = 1e-3;

/// What examples weigh by their class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeights {
    /// Every example weighs the same, so a class weighs as much as it has examples.
    #[default]
    Equal,
    /// Every class weighs the same, and all together as much as there are examples (scikit-learn's `balanced`).
    Balanced,
}

/// How to fit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogisticOptions {
    /// λ of Σ −s·log p + λ/2·‖W‖² with examples weighing s; scikit-learn's C is 1/λ.
    pub l2: f64,
    /// What examples weigh by their class.
    pub class_weights: ClassWeights,
    /// Stop when the objective is certainly no more than this share above its minimum; 1e-10 is the least.
    pub tolerance: f64,
    /// Give up after this many iterations.
    pub max_iterations: usize,
}

impl Default for LogisticOptions {
    /// λ = 0.3 is the best of six between 0.0025 and 1 for the shipped weights with 5 and 13 labels per class of mini-ImageNet's
    /// validation part (models/weights/default/README.md).
    fn default() -> Self {
        Self { l2: 0.3, class_weights: ClassWeights::Equal, tolerance: 1e-6, max_iterations: 2000 }
    }
}

impl LogisticOptions {
    /// The certainty that f32 products allow.
    const LEAST_TOLERANCE: f64 = 1e-10;

    fn check(&self) -> Result<(), Error> {
        let refuse =
            |name, value: f64, range| Err(Error::InvalidOption { name, value: value.to_string(), range });
        // Without a penalty separable examples, the usual case, have no minimum to converge to.
        if !(self.l2.is_finite() && self.l2 > 0.0) {
            return refuse("l2", self.l2, "a finite number above 0");
        }
        if !(self.tolerance.is_finite() && self.tolerance >= Self::LEAST_TOLERANCE) {
            return refuse("tolerance", self.tolerance, "a finite number, 1e-10 or above");
        }
        Ok(())
    }

    /// What every example weighs, given its own weight, which must be above 0.
    fn weights(&self, examples: &Examples, own: &[f64]) -> Vec<f32> {
        let mut of_class = vec![0.0; examples.classes().len()];
        for (&label, weight) in examples.labels().iter().zip(own) {
            of_class[label] += weight;
        }
        let mean = of_class.iter().sum::<f64>() / of_class.len() as f64;
        let weight = |(&label, own): (&usize, &f64)| match self.class_weights {
            ClassWeights::Equal => *own as f32,
            ClassWeights::Balanced => (own * mean / of_class[label]) as f32,
        };
        examples.labels().iter().zip(own).map(weight).collect()
    }
}

/// What the fit did.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FitReport {
    /// Final value of the objective, divided by the weight of all examples.
    pub objective: f64,
    /// It is at most this share above its minimum.
    pub gap: f64,
    /// Largest gradient component at the end.
    pub gradient_norm: f64,
    /// Iterations taken.
    pub iterations: usize,
    /// Share of the training examples answered rightly.
    pub training_accuracy: f64,
}

/// Fitted weights, one row per class; serialisable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "StoredLogisticHead", into = "StoredLogisticHead")]
pub struct LogisticHead {
    dimensions: usize,
    /// Ascending.
    classes: Vec<ClassKey>,
    /// `[class][dimension]`, contiguous.
    weights: Vec<f32>,
    /// Length of each weight row.
    norms: Vec<f64>,
}

impl LogisticHead {
    /// Version of the stored form written and read by this code.
    pub const FORMAT: u32 = 1;

    /// Fits. Needs two classes or more.
    pub fn fit(
        examples: &Examples,
        options: &LogisticOptions,
        progress: Progress<'_>,
    ) -> Result<(Self, FitReport), Error> {
        Self::fit_weighted(examples, &vec![1.0; examples.len()], options, progress)
    }

    /// Fits with one weight above 0 per example: one of weight 2 counts as two.
    pub fn fit_weighted(
        examples: &Examples,
        example_weights: &[f64],
        options: &LogisticOptions,
        progress: Progress<'_>,
    ) -> Result<(Self, FitReport), Error> {
        options.check()?;
        examples.need_classes(2)?;
        check_weights(example_weights, examples.len())?;
        let weights = options.weights(examples, example_weights);
        let objective = objective_of(examples, &weights, options.l2);
        let mut least = f64::INFINITY;
        let mut first = None;
        let watch = |gap: f64| {
            // The gap falls by about the same factor at every step.
            let first: f64 = *first.get_or_insert(gap);
            least = gap.min(least);
            let share = (first / least).ln() / (first / options.tolerance).ln();
            report(&mut *progress, if share.is_finite() { share.clamp(0.0, 1.0) } else { 1.0 })
        };
        let limits = Limits { tolerance: options.tolerance, iterations: options.max_iterations };
        let Minimum { state, evaluation, gap, gradient_norm, iterations } =
            solve(&objective, None, limits, watch)?;
        let report = FitReport {
            objective: evaluation.value,
            gap,
            gradient_norm,
            iterations,
            training_accuracy: evaluation.right as f64 / examples.len() as f64,
        };
        let classes = examples.classes().to_vec();
        Ok((Self::with_rows(examples.dimensions(), classes, state.weights), report))
    }

    /// The weights of a class, if the head knows it.
    pub fn weights(&self, class: ClassKey) -> Option<&[f32]> {
        let row = self.classes.binary_search(&class).ok()?;
        self.weights.get(row * self.dimensions..(row + 1) * self.dimensions)
    }

    /// Length of the vectors it was fitted on.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn with_rows(dimensions: usize, classes: Vec<ClassKey>, weights: Vec<f32>) -> Self {
        let norms = weights
            .chunks_exact(dimensions)
            .map(|row| row.iter().map(|&weight| f64::from(weight).powi(2)).sum::<f64>().sqrt())
            .collect();
        Self { dimensions, classes, weights, norms }
    }
}

fn check_weights(weights: &[f64], examples: usize) -> Result<(), Error> {
    let refuse = |value: String, range| Err(Error::InvalidOption { name: "example_weights", value, range });
    if weights.len() != examples {
        return refuse(
            format!("{} weights for {examples} examples", weights.len()),
            "one weight per example",
        );
    }
    // What is neither lost in f32 nor too much for it, sums included.
    match weights.iter().find(|weight| !(1e-6..=1e6).contains(*weight)) {
        Some(weight) => refuse(weight.to_string(), "numbers from 0.000001 to 1000000"),
        None => Ok(()),
    }
}

fn objective_of<'a>(examples: &'a Examples, weights: &'a [f32], l2: f64) -> Objective<'a> {
    let features = (examples.vectors(), examples.dimensions());
    Objective::new(features, (examples.labels(), examples.classes().len()), weights, l2)
}

/// Minimises from a state near the minimum, or else from the solution for the class means.
fn solve(
    objective: &Objective<'_>,
    start: Option<State>,
    limits: Limits,
    mut watch: impl FnMut(f64) -> Result<(), Error>,
) -> Result<Minimum, Error> {
    let start = match (start, objective.of_means()) {
        (Some(start), _) => start,
        (None, None) => State::zero(objective),
        (None, Some(means)) => {
            let limits = Limits { tolerance: limits.tolerance.max(MEANS_TOLERANCE), ..limits };
            minimize(&means, State::zero(&means), limits, |_| watch(f64::INFINITY))?.state
        }
    };
    minimize(objective, start, limits, watch)
}

impl Head for LogisticHead {
    fn classes(&self) -> Vec<ClassKey> {
        self.classes.clone()
    }

    fn logits(&self, vector: &[f32]) -> Result<Vec<Logit>, Error> {
        let vector_norm = checked_norm(vector, self.dimensions)?;
        let rows = self.weights.chunks_exact(self.dimensions).zip(&self.norms);
        let logit = |(&class, (row, &norm)): (&ClassKey, (&[f32], &f64))| {
            let logit = vectors::dot(row, vector);
            let similarity = if norm == 0.0 { 0.0 } else { logit / (norm * vector_norm) };
            Logit { class, logit, similarity }
        };
        Ok(self.classes.iter().zip(rows).map(logit).collect())
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "a share of 1 is exact")]
mod tests;
