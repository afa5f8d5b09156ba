//! The loss of a step and its gradient.
//!
//! Every class has one prototype or several; p(prototype) = softmax(x·prototype), and a class has the sum over its own.
//! With targets q, as labels give them or as MSN makes them (`targets`), the loss is
//!
//! > Σ_labelled w·(−log p(label)) + l2/(2n)·‖prototypes‖² + λ·(mean over the pool of −Σ q·log p) + λ·ν·KL(p̄‖π)
//!
//! where p̄ is the mean of p over the pool and π the prior: MSN's mean-entropy term (arXiv 2204.07141, eq. 2) for a
//! uniform π, and up to a constant. Targets and weights are constants to the gradient, as in MSN.

use crate::matrix::{View, multiply, softmax};

/// What belongs to which class.
pub(super) struct Assignment {
    pub(super) dimensions: usize,
    pub(super) classes: usize,
    /// Position of each prototype's class.
    pub(super) class_of: Vec<usize>,
}

/// How likely rows belong to prototypes and to classes.
pub(super) struct Probabilities {
    /// `[row][prototype]`.
    prototypes: Vec<f64>,
    /// `[row][class]`.
    pub(super) classes: Vec<f64>,
}

impl Assignment {
    /// Of rows `[row][dimension]`.
    pub(super) fn probabilities(&self, prototypes: &[f64], rows: &[f64]) -> Probabilities {
        let (count, columns) = (rows.len() / self.dimensions, self.class_of.len());
        let mut of_prototypes = vec![0.0; count * columns];
        let right = View::new(prototypes, columns, self.dimensions).transposed();
        multiply(&mut of_prototypes, View::new(rows, count, self.dimensions), right);
        let mut of_classes = vec![0.0; count * self.classes];
        for (row, sums) in
            of_prototypes.chunks_exact_mut(columns).zip(of_classes.chunks_exact_mut(self.classes))
        {
            softmax(row);
            for (probability, &class) in row.iter().zip(&self.class_of) {
                sums[class] += probability;
            }
        }
        Probabilities { prototypes: of_prototypes, classes: of_classes }
    }

    /// Σ weight·(−Σ q·log p), and its derivative by the logits, `[row][prototype]`; one target and weight per row.
    pub(super) fn cross_entropy(
        &self,
        found: &Probabilities,
        targets: &[f64],
        weights: impl Iterator<Item = f64>,
    ) -> (f64, Vec<f64>) {
        let mut loss = 0.0;
        let mut slopes = found.prototypes.clone();
        let rows = found.classes.chunks_exact(self.classes).zip(targets.chunks_exact(self.classes));
        for ((slopes, (classes, targets)), weight) in
            slopes.chunks_exact_mut(self.class_of.len()).zip(rows).zip(weights)
        {
            for (probability, target) in classes.iter().zip(targets) {
                loss -= weight * target * logarithm(*probability);
            }
            for (slope, &class) in slopes.iter_mut().zip(&self.class_of) {
                // A class that has vanished has prototypes that have, too.
                *slope *= weight * (1.0 - targets[class] / classes[class].max(f64::MIN_POSITIVE));
            }
        }
        (loss, slopes)
    }

    /// weight·KL(p̄‖π); adds its derivative by the logits to `slopes`.
    pub(super) fn unevenness(
        &self,
        found: &Probabilities,
        prior: &[f64],
        weight: f64,
        slopes: &mut [f64],
    ) -> f64 {
        let mean = mean_rows(&found.classes, self.classes);
        let ratios: Vec<f64> = mean.iter().zip(prior).map(|(mean, prior)| logarithm(mean / prior)).collect();
        let share = weight * self.classes as f64 / found.classes.len() as f64;
        let rows = found.prototypes.chunks_exact(self.class_of.len());
        for ((slopes, prototypes), classes) in slopes
            .chunks_exact_mut(self.class_of.len())
            .zip(rows)
            .zip(found.classes.chunks_exact(self.classes))
        {
            let expected: f64 = classes.iter().zip(&ratios).map(|(p, ratio)| p * ratio).sum();
            for ((slope, probability), &class) in slopes.iter_mut().zip(prototypes).zip(&self.class_of) {
                *slope += share * probability * (ratios[class] - expected);
            }
        }
        weight * mean.iter().zip(&ratios).map(|(mean, ratio)| mean * ratio).sum::<f64>()
    }

    /// The derivative by the prototypes, of that by the logits of these rows.
    pub(super) fn gradient(&self, slopes: &[f64], rows: &[f64]) -> Vec<f64> {
        let (count, columns) = (rows.len() / self.dimensions, self.class_of.len());
        let mut gradient = vec![0.0; columns * self.dimensions];
        let left = View::new(slopes, count, columns).transposed();
        multiply(&mut gradient, left, View::new(rows, count, self.dimensions));
        gradient
    }
}

/// Of a probability that may have vanished.
fn logarithm(probability: f64) -> f64 {
    probability.max(f64::MIN_POSITIVE).ln()
}

/// The mean of rows with so many columns; zeros without rows.
pub(super) fn mean_rows(rows: &[f64], columns: usize) -> Vec<f64> {
    let mut mean = vec![0.0; columns];
    for row in rows.chunks_exact(columns) {
        for (mean, value) in mean.iter_mut().zip(row) {
            *mean += value;
        }
    }
    let count = (rows.len() / columns).max(1) as f64;
    for mean in &mut mean {
        *mean /= count;
    }
    mean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_agree_with_finite_differences() {
        for class_of in [vec![0, 1, 2], vec![0, 0, 1, 2, 2]] {
            let (dimensions, classes, count) = (4, 3, 6);
            let assignment = Assignment { dimensions, classes, class_of };
            let number = |i: usize| ((i * 29 % 31) as f64 - 15.0) / 10.0;
            let rows: Vec<f64> = (0..count * dimensions).map(number).collect();
            let prototypes: Vec<f64> =
                (0..assignment.class_of.len() * dimensions).map(|i| number(i + 7) / 2.0).collect();
            let targets: Vec<f64> = (0..count)
                .flat_map(|row| [[1.0, 0.0, 0.0], [0.2, 0.5, 0.3], [0.0, 0.0, 1.0]][row % 3])
                .collect();
            let prior = [0.5, 0.3, 0.2];
            let loss = |prototypes: &[f64]| {
                let found = assignment.probabilities(prototypes, &rows);
                let weights = (0..count).map(|row| 0.1 + row as f64);
                let (mut loss, mut slopes) = assignment.cross_entropy(&found, &targets, weights);
                loss += assignment.unevenness(&found, &prior, 2.5, &mut slopes);
                (loss, assignment.gradient(&slopes, &rows))
            };
            let gradient = loss(&prototypes).1;
            let step = 1e-5;
            for position in 0..prototypes.len() {
                let moved = |by: f64| {
                    let mut moved = prototypes.clone();
                    moved[position] += by;
                    loss(&moved).0
                };
                let difference = (moved(step) - moved(-step)) / (2.0 * step);
                assert!((gradient[position] - difference).abs() < 1e-7, "{position}: {difference}");
            }
        }
    }

    #[test]
    fn what_has_vanished_is_not_divided_by() {
        let assignment = Assignment { dimensions: 1, classes: 2, class_of: vec![0, 1] };
        let found = assignment.probabilities(&[1e6, -1e6], &[1.0]);
        let (loss, mut slopes) = assignment.cross_entropy(&found, &[0.0, 1.0], std::iter::once(1.0));
        let uneven = assignment.unevenness(&found, &[0.5, 0.5], 1.0, &mut slopes);
        assert!(loss.is_finite() && uneven.is_finite() && slopes.iter().all(|slope| slope.is_finite()));
    }
}
