//! The objective of the fit: its value, gradient and restriction to a line.
//!
//! With features X `[examples][dimensions]`, weights W `[classes][dimensions]` and logits Z = X·Wᵀ,
//!
//! > f(W) = (1/n) Σᵢ −log softmax(zᵢ)\[yᵢ\] + λ/(2n)·‖W‖²,  ∇f = (1/n) (P − Y)ᵀ·X + (λ/n)·W.

use crate::matrix::{View, dot, multiply, softmax};

/// A training problem.
pub(super) struct Objective {
    features: Vec<f64>,
    labels: Vec<usize>,
    dimensions: usize,
    classes: usize,
    l2: f64,
}

/// Value and slope at one point of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinePoint {
    pub(super) value: f64,
    pub(super) slope: f64,
}

/// f along W + t·D, evaluated without a matrix product: logits are linear in t.
pub(super) struct Line<'a> {
    objective: &'a Objective,
    logits: &'a [f64],
    logit_direction: &'a [f64],
    weights_square: f64,
    weights_direction: f64,
    direction_square: f64,
}

impl Objective {
    /// `labels` are rows of W; `features` is row-major.
    pub(super) fn new(
        features: Vec<f64>,
        labels: Vec<usize>,
        dimensions: usize,
        classes: usize,
        l2: f64,
    ) -> Self {
        debug_assert_eq!(features.len(), labels.len() * dimensions);
        debug_assert!(labels.iter().all(|&label| label < classes));
        Self { features, labels, dimensions, classes, l2 }
    }

    /// Number of weights.
    pub(super) fn parameters(&self) -> usize {
        self.classes * self.dimensions
    }

    /// Number of logits.
    pub(super) fn logit_count(&self) -> usize {
        self.labels.len() * self.classes
    }

    fn examples(&self) -> f64 {
        self.labels.len() as f64
    }

    /// An upper bound of the curvature in any direction: the softmax contributes at most ½ of the features' mean square.
    pub(super) fn curvature_bound(&self) -> f64 {
        let square: f64 = self.features.iter().map(|x| x * x).sum();
        (0.5 * square + self.l2) / self.examples()
    }

    /// Z = X·Wᵀ, for weights or a direction.
    pub(super) fn logits(&self, weights: &[f64], out: &mut [f64]) {
        let features = View::new(&self.features, self.labels.len(), self.dimensions);
        multiply(out, features, View::new(weights, self.classes, self.dimensions).transposed());
    }

    /// The gradient at the weights whose logits are given.
    pub(super) fn gradient(&self, weights: &[f64], logits: &[f64], out: &mut [f64]) {
        let mut residual = logits.to_vec();
        for (row, &label) in residual.chunks_exact_mut(self.classes).zip(&self.labels) {
            softmax(row);
            row[label] -= 1.0;
        }
        let features = View::new(&self.features, self.labels.len(), self.dimensions);
        multiply(out, View::new(&residual, self.labels.len(), self.classes).transposed(), features);
        for (gradient, weight) in out.iter_mut().zip(weights) {
            *gradient = (*gradient + self.l2 * weight) / self.examples();
        }
    }

    /// The line through `weights` along `direction`, given the logits of both.
    pub(super) fn line<'a>(
        &'a self,
        (weights, logits): (&[f64], &'a [f64]),
        (direction, logit_direction): (&[f64], &'a [f64]),
    ) -> Line<'a> {
        Line {
            objective: self,
            logits,
            logit_direction,
            weights_square: dot(weights, weights),
            weights_direction: dot(weights, direction),
            direction_square: dot(direction, direction),
        }
    }

    /// Share of examples whose largest logit is their label's; the lower class wins a tie, as in `predict`.
    pub(super) fn accuracy(&self, logits: &[f64]) -> f64 {
        let right = logits
            .chunks_exact(self.classes)
            .zip(&self.labels)
            .filter(|(row, label)| {
                let best =
                    (1..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best });
                best == **label
            })
            .count();
        right as f64 / self.examples()
    }
}

impl Line<'_> {
    /// Value and slope at step `t`.
    pub(super) fn at(&self, t: f64) -> LinePoint {
        let classes = self.objective.classes;
        let rows = self.logits.chunks_exact(classes).zip(self.logit_direction.chunks_exact(classes));
        let mut shifted = vec![0.0; classes];
        let (mut loss, mut slope) = (0.0, 0.0);
        for ((logits, direction), &label) in rows.zip(&self.objective.labels) {
            for ((out, logit), step) in shifted.iter_mut().zip(logits).zip(direction) {
                *out = logit + t * step;
            }
            let own = shifted[label];
            loss += softmax(&mut shifted) - own;
            let mean = dot(&shifted, direction);
            slope += mean - direction[label];
        }
        let l2 = self.objective.l2;
        let square = self.weights_square + t * (2.0 * self.weights_direction + t * self.direction_square);
        let square_slope = self.weights_direction + t * self.direction_square;
        let examples = self.objective.examples();
        LinePoint {
            value: (loss + 0.5 * l2 * square) / examples,
            slope: (slope + l2 * square_slope) / examples,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem() -> (Objective, Vec<f64>) {
        let (examples, dimensions, classes) = (7, 5, 3);
        let features = (0..examples * dimensions).map(|i| ((i * 29 % 31) as f64 - 15.0) / 10.0).collect();
        let labels = (0..examples).map(|i| i % classes).collect();
        let weights = (0..classes * dimensions).map(|i| ((i * 17 % 23) as f64 - 11.0) / 8.0).collect();
        (Objective::new(features, labels, dimensions, classes, 0.7), weights)
    }

    fn value(objective: &Objective, weights: &[f64]) -> f64 {
        let mut logits = vec![0.0; objective.logit_count()];
        objective.logits(weights, &mut logits);
        let still = vec![0.0; weights.len()];
        let still_logits = vec![0.0; logits.len()];
        objective.line((weights, &logits), (&still, &still_logits)).at(0.0).value
    }

    #[test]
    fn without_weights_the_loss_is_that_of_guessing() {
        let (objective, weights) = problem();
        assert!((value(&objective, &vec![0.0; weights.len()]) - 3f64.ln()).abs() < 1e-15);
    }

    #[test]
    fn the_gradient_agrees_with_finite_differences() {
        let (objective, weights) = problem();
        let mut logits = vec![0.0; objective.logit_count()];
        objective.logits(&weights, &mut logits);
        let mut gradient = vec![0.0; weights.len()];
        objective.gradient(&weights, &logits, &mut gradient);
        let step = 1e-5;
        for position in 0..weights.len() {
            let moved = |by: f64| {
                let mut moved = weights.clone();
                moved[position] += by;
                value(&objective, &moved)
            };
            let difference = (moved(step) - moved(-step)) / (2.0 * step);
            assert!((gradient[position] - difference).abs() < 1e-9, "{position}: {difference}");
        }
    }

    #[test]
    fn a_line_agrees_with_the_value_and_gradient_at_its_points() {
        let (objective, weights) = problem();
        let direction: Vec<f64> = weights.iter().rev().map(|w| 0.3 - w).collect();
        let mut logits = vec![0.0; objective.logit_count()];
        let mut logit_direction = logits.clone();
        objective.logits(&weights, &mut logits);
        objective.logits(&direction, &mut logit_direction);
        let line = objective.line((&weights, &logits), (&direction, &logit_direction));
        for t in [0.0, 0.5, -2.0] {
            let moved: Vec<f64> = weights.iter().zip(&direction).map(|(w, d)| w + t * d).collect();
            let mut moved_logits = logits.clone();
            objective.logits(&moved, &mut moved_logits);
            let mut gradient = vec![0.0; weights.len()];
            objective.gradient(&moved, &moved_logits, &mut gradient);
            let point = line.at(t);
            assert!((point.value - value(&objective, &moved)).abs() < 1e-12);
            assert!((point.slope - dot(&gradient, &direction)).abs() < 1e-12);
        }
    }
}
