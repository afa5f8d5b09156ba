//! Multinomial logistic regression, L2, no intercept (spec §5.1).

use super::{Head, Score};
use crate::{ClassKey, Error};
use serde::{Deserialize, Serialize};

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
pub struct LogisticHead {}

impl LogisticHead {
    /// Fits on unit vectors. Needs two classes or more.
    pub fn fit(_examples: &[(ClassKey, &[f32])], _options: &LogisticOptions) -> Result<(Self, FitReport), Error> {
        todo!()
    }
}

impl Head for LogisticHead {
    fn classes(&self) -> Vec<ClassKey> {
        todo!()
    }
    fn predict(&self, _vector: &[f32], _accept: &dyn Fn(ClassKey) -> bool) -> Result<Vec<Score>, Error> {
        todo!()
    }
}
