//! What the examples say of the covariance, and what is assumed besides.

use crate::heads::PrototypeHead;
use crate::matrix::{Cholesky, View, multiply};
use crate::{Error, Examples};

/// A mean squared distance from the class mean below this is the rounding of f32, not a scatter.
const NONE: f64 = 1e-12;

/// Further examples, scattered alike in every direction: shrinkage in a form that does not depend on the examples.
///
/// The covariance (W + κ·σ²·I)/(f + κ) of scatter W with f degrees of freedom is (1 − ρ)·W/f + ρ·σ²·I for ρ = κ/(f + κ).
#[derive(Clone, Copy, Debug)]
pub(super) struct Prior {
    /// κ.
    pub(super) examples: f64,
    /// σ².
    pub(super) variance: f64,
}

/// Class means, and the scatter of the examples around them.
pub(super) struct Scatter {
    dimensions: usize,
    /// `[example][dimension]`, of length 1.
    rows: Vec<f64>,
    /// `[class][dimension]`.
    means: Vec<f64>,
    /// Σ (x − μ)(x − μ)ᵀ, `[dimension][dimension]`.
    matrix: Vec<f64>,
    /// Examples less classes.
    freedom: f64,
}

impl Scatter {
    pub(super) fn new(examples: &Examples) -> Self {
        let (dimensions, rows) = (examples.dimensions(), examples.unit_rows());
        let mut means = examples.class_sums(&rows);
        for (mean, count) in means.chunks_exact_mut(dimensions.max(1)).zip(examples.counts()) {
            for component in mean {
                *component /= count as f64;
            }
        }
        let mut deviations = rows.clone();
        for (row, &label) in deviations.chunks_exact_mut(dimensions.max(1)).zip(examples.labels()) {
            for (component, mean) in row.iter_mut().zip(&means[label * dimensions..]) {
                *component -= mean;
            }
        }
        let mut matrix = vec![0.0; dimensions * dimensions];
        let deviations = View::new(&deviations, examples.len(), dimensions);
        multiply(&mut matrix, deviations.transposed(), deviations);
        let freedom = (examples.len() - examples.classes().len()) as f64;
        Self { dimensions, rows, means, matrix, freedom }
    }

    /// What a strength amounts to with these examples.
    ///
    /// Where nothing scatters, with one example per class say, σ² is the temperature that prototypes have by default.
    pub(super) fn prior(&self, strength: f64) -> Prior {
        let trace: f64 = self.matrix.iter().step_by(self.dimensions + 1).sum();
        let scattered = trace > NONE * self.freedom;
        let freedom = self.freedom.max(1.0);
        Prior {
            examples: freedom * strength / (1.0 - strength),
            variance: if scattered {
                trace / (freedom * self.dimensions as f64)
            } else {
                PrototypeHead::TEMPERATURE
            },
        }
    }

    /// The inverse of A = W + κ·σ²·I, and what follows from it.
    pub(super) fn solve(&self, prior: Prior) -> Result<Solved, Error> {
        let (dimensions, penalty) = (self.dimensions, prior.examples * prior.variance);
        let mut matrix = self.matrix.clone();
        for diagonal in matrix.iter_mut().step_by(dimensions + 1) {
            *diagonal += penalty;
        }
        let factor = Cholesky::new(&matrix, dimensions).ok_or_else(|| Error::InvalidOption {
            name: "strength",
            value: format!("too small for a scatter of {} degrees of freedom", self.freedom),
            range: "large enough for a covariance with an inverse",
        })?;
        let mut inverse = vec![0.0; dimensions * dimensions];
        for (position, row) in inverse.chunks_exact_mut(dimensions.max(1)).enumerate() {
            row[position] = 1.0;
            factor.solve(row);
        }
        let mut means = vec![0.0; self.means.len()];
        let classes = self.means.len() / dimensions.max(1);
        let right = View::new(&inverse, dimensions, dimensions);
        multiply(&mut means, View::new(&self.means, classes, dimensions), right);
        let trace: f64 = inverse.iter().step_by(dimensions + 1).sum();
        let scale = Scale {
            weight: self.freedom + prior.examples,
            scattered: dimensions as f64 - penalty * trace,
            freedom: self.freedom,
            penalty,
        };
        Ok(Solved { inverse, means, scale })
    }

    pub(super) fn rows(&self) -> &[f64] {
        &self.rows
    }

    pub(super) fn means(&self) -> &[f64] {
        &self.means
    }
}

/// A⁻¹ and what follows from it.
pub(super) struct Solved {
    /// A⁻¹, `[dimension][dimension]`.
    pub(super) inverse: Vec<f64>,
    /// A⁻¹·μ, `[class][dimension]`.
    pub(super) means: Vec<f64>,
    pub(super) scale: Scale,
}

/// From products under A⁻¹ to discriminant functions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// f + κ: Σ⁻¹ is this times A⁻¹.
    pub(super) weight: f64,
    /// tr(A⁻¹·W).
    scattered: f64,
    freedom: f64,
    /// κ·σ².
    penalty: f64,
}

impl Scale {
    /// With one example less, by which tr A⁻¹ grows so much.
    pub(super) fn without_one(self, trace_growth: f64) -> Self {
        Self {
            weight: self.weight - 1.0,
            scattered: self.scattered - self.penalty * trace_growth,
            freedom: self.freedom - 1.0,
            ..self
        }
    }

    /// The constant of a discriminant function, for a mean of so many examples with this μᵀA⁻¹μ.
    ///
    /// The square of a mean exceeds that of what it estimates by the scatter over the number of examples: what is taken off
    /// here, or classes of few examples would be held to be further away (Moran and Murphy 1979).
    pub(super) fn offset(self, mean_square: f64, examples: f64) -> f64 {
        let excess = if self.freedom > 0.0 { self.scattered / (self.freedom * examples) } else { 0.0 };
        -0.5 * self.weight * (mean_square - excess)
    }
}
