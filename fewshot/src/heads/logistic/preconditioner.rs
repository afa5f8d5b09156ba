//! A cheap inverse of the objective's curvature, which L-BFGS starts from.
//!
//! The curvature between the weights of one class c is λ·I + Σᵢ sᵢ·pᵢ(1 − pᵢ)·xᵢxᵢᵀ with pᵢ the probability of c. Its own
//! examples, near each other, make one strong direction: their mean m. All other examples together make what is nearly
//! the same for all classes. So
//!
//! > H_c ≈ A + a_c·m·mᵀ,  A = λ·I + b·Σᵢ sᵢ·xᵢxᵢᵀ,
//!
//! where a_c is the weight of the class's own examples and b the mean weight, over the classes, of the others'. A is inverted
//! once, and the rank-one part by Sherman and Morrison's formula. Curvature between different classes is left to L-BFGS.

use rayon::prelude::*;

use super::objective::{Evaluation, Objective};
use super::vectors::dot;
use crate::matrix::{Cholesky, View, multiply};

/// Classes whose vectors are multiplied by A⁻¹ at a time.
const CLASSES: usize = 128;

/// H⁻¹ for every class by itself.
pub(super) struct Preconditioner {
    dimensions: usize,
    shared: Shared,
    /// A⁻¹·m, `[class][dimension]`.
    solved_means: Vec<f32>,
    /// mᵀ·A⁻¹·m of each class.
    lengths: Vec<f64>,
    /// a / (1 + a·mᵀ·A⁻¹·m) of each class.
    shares: Vec<f64>,
    /// Σs: gradients are means.
    total: f64,
}

/// A⁻¹.
enum Shared {
    /// `[dimension][dimension]`.
    Full(Vec<f32>),
    /// A multiple of I, as if examples spread alike in all directions.
    Scale(f32),
}

impl Preconditioner {
    /// For the curvature where the evaluation was made.
    pub(super) fn new(objective: &Objective<'_>, evaluation: &Evaluation) -> Self {
        let dimensions = objective.dimensions();
        let other = evaluation.other_curvature / (objective.total() * objective.classes() as f64);
        let shared = Shared::new(objective, other);
        let (means, _) = objective.means();
        let solved_means = shared.solve(&means, dimensions);
        let lengths = means
            .chunks_exact(dimensions)
            .zip(solved_means.chunks_exact(dimensions))
            .map(|(mean, solved)| dot(mean, solved))
            .collect();
        let shares = Vec::new();
        let mut new = Self { dimensions, shared, solved_means, lengths, shares, total: objective.total() };
        new.follow(evaluation);
        new
    }

    /// Takes over the weight of every class's own examples, which changes most and costs least.
    pub(super) fn follow(&mut self, evaluation: &Evaluation) {
        let own = evaluation.own_curvature.iter().zip(&self.lengths);
        self.shares = own.map(|(own, length)| own / (1.0 + own * length)).collect();
    }

    /// H⁻¹·v for v of the shape of the weights.
    pub(super) fn solve(&self, vector: &[f32]) -> Vec<f32> {
        let mut solved = self.shared.solve(vector, self.dimensions);
        let classes = solved.chunks_exact_mut(self.dimensions).zip(vector.chunks_exact(self.dimensions));
        let means = self.solved_means.chunks_exact(self.dimensions).zip(&self.shares);
        for ((solved, vector), (mean, share)) in classes.zip(means) {
            let along = share * dot(mean, vector);
            for (component, mean) in solved.iter_mut().zip(mean) {
                *component = (self.total * (f64::from(*component) - along * f64::from(*mean))) as f32;
            }
        }
        solved
    }
}

impl Shared {
    fn new(objective: &Objective<'_>, other: f64) -> Self {
        let dimensions = objective.dimensions();
        // Inverting costs as much as some evaluations of a problem of this size.
        if objective.len() * objective.classes() >= dimensions * dimensions {
            let mut matrix = objective.scatter();
            for (place, entry) in matrix.iter_mut().enumerate() {
                *entry *= other;
                if place % (dimensions + 1) == 0 {
                    *entry += objective.l2();
                }
            }
            if let Some(cholesky) = Cholesky::new(&matrix, dimensions) {
                return Self::Full(cholesky.inverse().into_iter().map(|entry| entry as f32).collect());
            }
        }
        let spread = other * objective.total() / dimensions as f64;
        Self::Scale((1.0 / (objective.l2() + spread)) as f32)
    }

    fn solve(&self, vectors: &[f32], dimensions: usize) -> Vec<f32> {
        match self {
            Self::Scale(scale) => vectors.iter().map(|component| scale * component).collect(),
            Self::Full(inverse) => {
                let mut solved = vec![0.0; vectors.len()];
                let blocks = solved.par_chunks_mut(CLASSES * dimensions);
                blocks.zip(vectors.par_chunks(CLASSES * dimensions)).for_each(|(solved, vectors)| {
                    let inverse = View::new(inverse, dimensions, dimensions);
                    multiply(solved, View::new(vectors, vectors.len() / dimensions, dimensions), inverse);
                });
                solved
            }
        }
    }
}
