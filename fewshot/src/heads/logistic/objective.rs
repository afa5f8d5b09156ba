//! The objective of the fit: its value, gradient and curvature.
//!
//! With features X `[example][dimension]`, weights W `[class][dimension]`, P = softmax(X·Wᵀ) and examples weighing s,
//!
//! > f(W) = (Σᵢ −sᵢ·log pᵢ\[yᵢ\] + λ/2·‖W‖²) / Σs,  ∇f = ((P − Y)ᵀ·S·X + λ·W) / Σs.
//!
//! One pass over the examples gives all of it: a block of logits is made, turned into residuals and added to the gradient
//! while it is in the cache. Products are in f32, which is twice as fast as f64 and enough: the rounding of each logit is
//! about 1e-6, and what the gradient lacks shows squared in the objective. Sums over examples are in f64.

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;

use super::softmax::residuals;
use crate::matrix::{View, add_product, multiply};

/// Logits in a block: 1 MiB, which stays in a core's own cache.
const BLOCK: usize = 1 << 18;
/// A block has at least so many rows, or products lose their speed, and at most so many.
const BLOCK_ROWS: [usize; 2] = [32, 256];
/// Examples are cut into so many parts whatever the number of threads, so that sums do not depend on it.
const PARTS: usize = 8;

/// A training problem.
#[derive(Clone, Debug)]
pub(super) struct Objective<'a> {
    /// `[example][dimension]`.
    features: Cow<'a, [f32]>,
    /// Rows of W.
    labels: Cow<'a, [usize]>,
    /// s, above 0.
    weights: Cow<'a, [f32]>,
    dimensions: usize,
    classes: usize,
    l2: f64,
    /// Σs.
    total: f64,
}

/// The objective at some weights.
#[derive(Clone, Debug)]
pub(super) struct Evaluation {
    pub(super) value: f64,
    pub(super) gradient: Vec<f32>,
    /// Of each class, Σ s·p·(1 − p) over its own examples.
    pub(super) own_curvature: Vec<f64>,
    /// The sum of the same over all classes and the examples of others.
    pub(super) other_curvature: f64,
    /// Number of examples answered rightly.
    pub(super) right: usize,
}

/// What some of the examples add.
struct Part {
    loss: f64,
    gradient: Vec<f32>,
    own_curvature: Vec<f64>,
    other_curvature: f64,
    right: usize,
}

impl<'a> Objective<'a> {
    /// Of examples with labels below `classes`, each class with at least one, and weights above 0.
    pub(super) fn new(
        (features, dimensions): (&'a [f32], usize),
        (labels, classes): (&'a [usize], usize),
        weights: &'a [f32],
        l2: f64,
    ) -> Self {
        let total = weights.iter().copied().map(f64::from).sum();
        let (features, labels, weights) = (features.into(), labels.into(), weights.into());
        Self { features, labels, weights, dimensions, classes, l2, total }
    }

    /// The same classes with one example each: the mean of theirs, weighing as much as they together. None where that is
    /// the problem itself.
    pub(super) fn of_means(&self) -> Option<Objective<'static>> {
        if self.labels.len() == self.classes {
            return None;
        }
        let (means, weights) = self.means();
        Some(Objective {
            features: means.into(),
            labels: (0..self.classes).collect(),
            weights: weights.into_iter().map(|weight| weight as f32).collect(),
            ..Objective { features: [][..].into(), labels: [][..].into(), weights: [][..].into(), ..*self }
        })
    }

    /// The mean of each class's examples, `[class][dimension]`, and its weight.
    pub(super) fn means(&self) -> (Vec<f32>, Vec<f64>) {
        let mut sums = vec![0.0; self.parameters()];
        let mut weights = vec![0.0; self.classes];
        for ((row, &label), &weight) in
            self.features.chunks_exact(self.dimensions).zip(&*self.labels).zip(&*self.weights)
        {
            let weight = f64::from(weight);
            weights[label] += weight;
            for (sum, &component) in sums[label * self.dimensions..].iter_mut().zip(row) {
                *sum += weight * f64::from(component);
            }
        }
        let rows = sums.chunks_exact(self.dimensions).zip(&weights);
        (rows.flat_map(|(row, weight)| row.iter().map(move |sum| (sum / weight) as f32)).collect(), weights)
    }

    /// Number of weights.
    pub(super) fn parameters(&self) -> usize {
        self.classes * self.dimensions
    }

    /// Number of examples.
    pub(super) fn len(&self) -> usize {
        self.labels.len()
    }

    /// Number of classes.
    pub(super) fn classes(&self) -> usize {
        self.classes
    }

    /// Length of a row of features.
    pub(super) fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// λ.
    pub(super) fn l2(&self) -> f64 {
        self.l2
    }

    /// Σs.
    pub(super) fn total(&self) -> f64 {
        self.total
    }

    /// Value, gradient and curvature at these weights.
    pub(super) fn evaluate(&self, weights: &[f32]) -> Evaluation {
        let parts = self.in_parts(|rows| self.part(rows, weights));
        let mut gradient: Vec<f64> = weights.iter().map(|&weight| self.l2 * f64::from(weight)).collect();
        let square: f64 = weights.iter().map(|&weight| f64::from(weight).powi(2)).sum();
        let mut value = 0.5 * self.l2 * square;
        let mut own_curvature = vec![0.0; self.classes];
        let (mut other_curvature, mut right) = (0.0, 0);
        for part in parts {
            value += part.loss;
            other_curvature += part.other_curvature;
            right += part.right;
            for (sum, addend) in gradient.iter_mut().zip(&part.gradient) {
                *sum += f64::from(*addend);
            }
            for (sum, addend) in own_curvature.iter_mut().zip(&part.own_curvature) {
                *sum += addend;
            }
        }
        let gradient = gradient.into_iter().map(|sum| (sum / self.total) as f32).collect();
        Evaluation { value: value / self.total, gradient, own_curvature, other_curvature, right }
    }

    /// Xᵀ·S·X, `[dimension][dimension]`.
    pub(super) fn scatter(&self) -> Vec<f64> {
        let parts = self.in_parts(|rows| {
            let mut scatter = vec![0.0f32; self.dimensions * self.dimensions];
            for rows in blocks(rows, self.dimensions) {
                let mut weighted = self.rows(&rows).to_vec();
                for (row, &weight) in
                    weighted.chunks_exact_mut(self.dimensions).zip(&self.weights[rows.clone()])
                {
                    for component in row {
                        *component *= weight;
                    }
                }
                let weighted = View::new(&weighted, rows.len(), self.dimensions);
                let plain = View::new(self.rows(&rows), rows.len(), self.dimensions);
                add_product(&mut scatter, weighted.transposed(), plain);
            }
            scatter
        });
        let mut sum = vec![0.0; self.dimensions * self.dimensions];
        for part in parts {
            for (sum, addend) in sum.iter_mut().zip(part) {
                *sum += f64::from(addend);
            }
        }
        sum
    }

    fn rows(&self, rows: &Range<usize>) -> &[f32] {
        &self.features[rows.start * self.dimensions..rows.end * self.dimensions]
    }

    fn in_parts<T: Send>(&self, of: impl Fn(Range<usize>) -> T + Sync) -> Vec<T> {
        let rows = self.len().div_ceil(PARTS).max(BLOCK_ROWS[1]);
        let starts: Vec<usize> = (0..self.len()).step_by(rows).collect();
        let part = |start: usize| of(start..self.len().min(start + rows));
        starts.into_par_iter().map(part).collect()
    }

    fn part(&self, rows: Range<usize>, weights: &[f32]) -> Part {
        let mut part = Part {
            loss: 0.0,
            gradient: vec![0.0; self.parameters()],
            own_curvature: vec![0.0; self.classes],
            other_curvature: 0.0,
            right: 0,
        };
        let weights = View::new(weights, self.classes, self.dimensions);
        let mut logits = Vec::new();
        for rows in blocks(rows, self.classes) {
            let features = View::new(self.rows(&rows), rows.len(), self.dimensions);
            logits.resize(rows.len() * self.classes, 0.0);
            multiply(&mut logits, features, weights.transposed());
            for (row, example) in logits.chunks_exact_mut(self.classes).zip(rows.clone()) {
                let (label, weight) = (self.labels[example], self.weights[example]);
                let outcome = residuals(row, label, weight);
                let weight = f64::from(weight);
                part.loss += weight * outcome.loss;
                part.own_curvature[label] += weight * outcome.own_curvature;
                part.other_curvature += weight * outcome.other_curvature;
                part.right += usize::from(outcome.is_right);
            }
            let residuals = View::new(&logits, rows.len(), self.classes);
            add_product(&mut part.gradient, residuals.transposed(), features);
        }
        part
    }
}

/// Cuts rows into blocks, each with a number of logits (or whatever is made per row) that fits the cache.
fn blocks(rows: Range<usize>, columns: usize) -> impl Iterator<Item = Range<usize>> {
    let size = (BLOCK / columns).clamp(BLOCK_ROWS[0], BLOCK_ROWS[1]);
    let end = rows.end;
    rows.step_by(size).map(move |start| start..end.min(start + size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::softmax;

    const DIMENSIONS: usize = 5;
    const CLASSES: usize = 3;
    const L2: f64 = 0.7;

    /// Features, labels, weights of the examples, and weights to evaluate at.
    fn problem() -> (Vec<f32>, Vec<usize>, Vec<f32>, Vec<f32>) {
        let examples = 2 * BLOCK_ROWS[1] + 7;
        let features = (0..examples * DIMENSIONS).map(|i| ((i * 29 % 31) as f32 - 15.0) / 10.0).collect();
        let labels = (0..examples).map(|i| i % CLASSES).collect();
        let example_weights = (0..examples).map(|i| (i % 4) as f32 + 0.5).collect();
        let weights = (0..CLASSES * DIMENSIONS).map(|i| ((i * 17 % 23) as f32 - 11.0) / 8.0).collect();
        (features, labels, example_weights, weights)
    }

    /// By the definition, in f64.
    fn plain_value(features: &[f32], labels: &[usize], example_weights: &[f32], weights: &[f64]) -> f64 {
        let mut sum = 0.5 * L2 * weights.iter().map(|weight| weight * weight).sum::<f64>();
        for ((row, &label), &weight) in features.chunks(DIMENSIONS).zip(labels).zip(example_weights) {
            let product = |class: &[f64]| class.iter().zip(row).map(|(w, &x)| w * f64::from(x)).sum();
            let mut logits: Vec<f64> = weights.chunks(DIMENSIONS).map(product).collect();
            let own = logits[label];
            sum += f64::from(weight) * (softmax(&mut logits) - own);
        }
        sum / example_weights.iter().copied().map(f64::from).sum::<f64>()
    }

    #[test]
    fn values_and_gradients_agree_with_the_definition_and_its_differences() {
        let (features, labels, example_weights, weights) = problem();
        let objective = Objective::new((&features, DIMENSIONS), (&labels, CLASSES), &example_weights, L2);
        let evaluation = objective.evaluate(&weights);
        let wide: Vec<f64> = weights.iter().copied().map(f64::from).collect();
        let value = |weights: &[f64]| plain_value(&features, &labels, &example_weights, weights);
        assert!((evaluation.value / value(&wide) - 1.0).abs() < 1e-6);
        let step = 1e-5;
        for position in 0..wide.len() {
            let moved = |by: f64| {
                let mut moved = wide.clone();
                moved[position] += by;
                value(&moved)
            };
            let difference = (moved(step) - moved(-step)) / (2.0 * step);
            assert!((f64::from(evaluation.gradient[position]) - difference).abs() < 1e-6, "{position}");
        }
    }

    #[test]
    fn without_weights_the_loss_is_that_of_guessing() {
        let (features, labels, example_weights, weights) = problem();
        let objective = Objective::new((&features, DIMENSIONS), (&labels, CLASSES), &example_weights, L2);
        let evaluation = objective.evaluate(&vec![0.0; weights.len()]);
        assert!((evaluation.value - 3f64.ln()).abs() < 1e-7);
        let curvature = 2.0 / 9.0 * objective.total();
        assert!((evaluation.own_curvature.iter().sum::<f64>() / curvature - 1.0).abs() < 1e-6);
        assert!((evaluation.other_curvature / (2.0 * curvature) - 1.0).abs() < 1e-6);
        assert_eq!(evaluation.right, labels.iter().filter(|&&label| label == 0).count());
    }

    #[test]
    fn means_are_weighted_and_weigh_as_much_as_their_examples() {
        let features = [1.0, 0.0, 0.0, 1.0, 3.0, 4.0];
        let (labels, example_weights) = ([1, 1, 0], [1.0, 3.0, 5.0]);
        let objective = Objective::new((&features, 2), (&labels, 2), &example_weights, L2);
        let means = objective.of_means().unwrap();
        assert_eq!(&means.features[..], [3.0, 4.0, 0.25, 0.75]);
        assert_eq!((&means.labels[..], &means.weights[..]), (&[0, 1][..], &[5.0, 4.0][..]));
        assert!((means.total() - objective.total()).abs() < 1e-12);
        assert!(means.of_means().is_none());
        let scatter = objective.scatter();
        assert_eq!(scatter, [46.0, 60.0, 60.0, 83.0]);
    }
}
