//! Multinomial logistic regression, L2, no intercept: the low-shot protocol of MSN (arXiv 2204.07141, §5).

mod minimize;
mod objective;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Head, Logit};
use crate::vector::checked_norm;
use crate::{ClassKey, Error};
use objective::Objective;

/// How to fit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogisticOptions {
    /// λ of (1/n) Σ −log p + λ/(2n)·‖W‖²; scikit-learn's C is 1/λ.
    pub l2: f64,
    /// Stop when the gradient's largest component is at most this.
    pub gradient_tolerance: f64,
    /// Give up after this many iterations.
    pub max_iterations: usize,
}

impl Default for LogisticOptions {
    /// λ = 0.3 is the best of six between 0.0025 and 1 for the shipped weights with 5 and 13 labels per class of mini-ImageNet's
    /// validation part (models/weights/default/README.md). A gradient of 1e-7 puts the
    /// objective within about 1e-9 of its minimum on such problems, in 20 to 30 iterations for 20 to 100 classes.
    fn default() -> Self {
        Self { l2: 0.3, gradient_tolerance: 1e-7, max_iterations: 2000 }
    }
}

impl LogisticOptions {
    fn check(&self) -> Result<(), Error> {
        let positive = |name, value: f64| {
            if value.is_finite() && value > 0.0 {
                Ok(())
            } else {
                Err(Error::InvalidOption { name, value: value.to_string(), range: "a finite number above 0" })
            }
        };
        // Without a penalty separable examples, the usual case, have no minimum to converge to.
        positive("l2", self.l2)?;
        positive("gradient_tolerance", self.gradient_tolerance)
    }
}

/// What the fit did.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FitReport {
    /// Final value of the objective.
    pub objective: f64,
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
    /// `[class][dimension]`, contiguous. Fitted in f64, kept in f32: half the bytes, and the rounding of 6e-8 is below
    /// that of the vectors.
    weights: Vec<f32>,
    /// Length of each weight row.
    norms: Vec<f64>,
}

/// The stored form. `format` changes whenever its meaning does.
#[derive(Serialize, Deserialize)]
struct StoredLogisticHead {
    format: u32,
    dimensions: usize,
    classes: Vec<ClassKey>,
    weights: Vec<f32>,
}

impl LogisticHead {
    /// Version of the stored form written and read by this code.
    pub const FORMAT: u32 = 1;

    /// Fits on unit vectors. Needs two classes or more.
    pub fn fit(
        examples: &[(ClassKey, &[f32])],
        options: &LogisticOptions,
    ) -> Result<(Self, FitReport), Error> {
        options.check()?;
        let dimensions = examples.first().map_or(0, |(_, vector)| vector.len());
        for (_, vector) in examples {
            checked_norm(vector, dimensions)?;
        }
        // Classes ascending, so that the rows do not depend on the order of the examples.
        let mut rows: BTreeMap<ClassKey, usize> = examples.iter().map(|(class, _)| (*class, 0)).collect();
        if rows.len() < 2 {
            return Err(Error::TooFewClasses { needed: 2, actual: rows.len() });
        }
        for (position, row) in rows.values_mut().enumerate() {
            *row = position;
        }
        let labels: Vec<usize> = examples.iter().map(|(class, _)| rows[class]).collect();
        let features: Vec<f64> = examples
            .iter()
            .flat_map(|(_, vector)| vector.iter().map(|&component| f64::from(component)))
            .collect();
        let objective = Objective::new(features, labels, dimensions, rows.len(), options.l2);
        let minimum = minimize::minimize(&objective, options.gradient_tolerance, options.max_iterations)?;

        let report = FitReport {
            objective: minimum.value,
            gradient_norm: minimum.gradient_norm,
            iterations: minimum.iterations,
            training_accuracy: objective.accuracy(&minimum.logits),
        };
        let weights = minimum.weights.iter().map(|&weight| weight as f32).collect();
        Ok((Self::with_rows(dimensions, rows.into_keys().collect(), weights), report))
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

impl From<LogisticHead> for StoredLogisticHead {
    fn from(head: LogisticHead) -> Self {
        Self {
            format: LogisticHead::FORMAT,
            dimensions: head.dimensions,
            classes: head.classes,
            weights: head.weights,
        }
    }
}

impl TryFrom<StoredLogisticHead> for LogisticHead {
    type Error = Error;

    fn try_from(stored: StoredLogisticHead) -> Result<Self, Error> {
        let refuse = |reason: String| Err(Error::StoredHead { reason });
        let StoredLogisticHead { format, dimensions, classes, weights } = stored;
        if format != Self::FORMAT {
            return refuse(format!("its format is {format}, this version reads {}", Self::FORMAT));
        }
        if dimensions == 0
            || classes.is_empty()
            || classes.len().checked_mul(dimensions) != Some(weights.len())
        {
            return refuse(format!(
                "{} weights do not fill {} classes of {dimensions} dimensions",
                weights.len(),
                classes.len()
            ));
        }
        if !classes.is_sorted_by(|a, b| a < b) {
            return refuse("its classes are not in ascending order".to_owned());
        }
        if weights.iter().any(|weight| !weight.is_finite()) {
            return refuse("a weight is not finite".to_owned());
        }
        Ok(Self::with_rows(dimensions, classes, weights))
    }
}

impl Head for LogisticHead {
    fn classes(&self) -> Vec<ClassKey> {
        self.classes.clone()
    }

    fn logits(&self, vector: &[f32]) -> Result<Vec<Logit>, Error> {
        let vector_norm = checked_norm(vector, self.dimensions)?;
        let rows = self.weights.chunks_exact(self.dimensions).zip(&self.norms);
        let logit = |(&class, (row, &norm)): (&ClassKey, (&[f32], &f64))| {
            let logit: f64 =
                row.iter().zip(vector).map(|(&weight, &x)| f64::from(weight) * f64::from(x)).sum();
            let similarity = if norm == 0.0 { 0.0 } else { logit / (norm * vector_norm) };
            Logit { class, logit, similarity }
        };
        Ok(self.classes.iter().zip(rows).map(logit).collect())
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "a share of 1 is exact")]
mod tests;
