//! The covariance that classes share, shrunk until it can be inverted.
//!
//! A dozen classes of a dozen examples have fewer residuals than dimensions: their scatter is singular, and its small
//! eigenvalues are too small. Ledoit and Wolf (A well-conditioned estimator for large-dimensional covariance matrices,
//! 2004) mix it with the multiple of the identity of equal trace, in the shares that are best in mean square.

use super::{Cholesky, View, dot, multiply};
use crate::Examples;

/// (1 − strength)·S + strength·variance·I, where S is the scatter of residuals by degree of freedom.
#[derive(Clone, Debug)]
pub(crate) struct ShrunkCovariance {
    /// Share of the identity, 0 to 1.
    strength: f64,
    degrees: usize,
    order: usize,
    cholesky: Cholesky,
}

/// Examples taken apart into class means and what is left.
pub(crate) struct Centred {
    /// `[class][dimension]`.
    pub(crate) means: Vec<f64>,
    /// `[example][dimension]`.
    pub(crate) residuals: Vec<f64>,
}

impl Centred {
    pub(crate) fn new(examples: &Examples) -> Self {
        let dimensions = examples.dimensions();
        let mut means = vec![0.0; examples.classes().len() * dimensions];
        let rows = || examples.vectors().chunks_exact(dimensions.max(1)).zip(examples.labels());
        for (row, &label) in rows() {
            for (sum, &component) in means[label * dimensions..].iter_mut().zip(row) {
                *sum += f64::from(component);
            }
        }
        for (mean, count) in means.chunks_exact_mut(dimensions.max(1)).zip(examples.counts()) {
            for component in mean {
                *component /= count as f64;
            }
        }
        let residual = |(row, &label): (&[f32], &usize)| -> Vec<f64> {
            let mean = &means[label * dimensions..][..dimensions];
            row.iter().zip(mean).map(|(&component, mean)| f64::from(component) - mean).collect()
        };
        let residuals = rows().flat_map(residual).collect();
        Self { means, residuals }
    }
}

impl ShrunkCovariance {
    /// Of residuals `[row][dimension]`; `degrees` is their number less the number of means taken out of them.
    ///
    /// `None` without a degree of freedom or where all residuals vanish: nothing is known of the spread.
    pub(crate) fn new(residuals: &[f64], dimensions: usize, degrees: usize) -> Option<Self> {
        let rows = residuals.len().checked_div(dimensions)?;
        if degrees == 0 {
            return None;
        }
        let mut covariance = vec![0.0; dimensions * dimensions];
        let view = View::new(residuals, rows, dimensions);
        multiply(&mut covariance, view.transposed(), view);
        for entry in &mut covariance {
            *entry /= degrees as f64;
        }
        let variance = covariance.iter().step_by(dimensions + 1).sum::<f64>() / dimensions as f64;
        let strength = Self::best_strength(residuals, dimensions, degrees, &covariance, variance);
        for (place, entry) in covariance.iter_mut().enumerate() {
            *entry *= 1.0 - strength;
            if place % (dimensions + 1) == 0 {
                *entry += strength * variance;
            }
        }
        let cholesky = Cholesky::new(&covariance, dimensions)?;
        Some(Self { strength, degrees, order: dimensions, cholesky })
    }

    /// Ledoit and Wolf's b²/d², and at least 1 / (degrees + 1), which also bounds the condition number.
    ///
    /// Residuals count as `degrees` rows, each longer by what taking out means took from it.
    fn best_strength(
        residuals: &[f64],
        dimensions: usize,
        degrees: usize,
        covariance: &[f64],
        variance: f64,
    ) -> f64 {
        let rows = residuals.len() / dimensions;
        let stretch = rows as f64 / degrees as f64;
        let fourth_powers: f64 = residuals.chunks_exact(dimensions).map(|row| dot(row, row).powi(2)).sum();
        let square = dot(covariance, covariance);
        let distance = square - dimensions as f64 * variance * variance;
        let noise = (stretch * stretch * fourth_powers / rows as f64 - square) / degrees as f64;
        // Rounding can take a scatter that is a multiple of the identity to either side of zero.
        let strength = if distance > 0.0 { noise / distance } else { 1.0 };
        // One residual seems free of noise to the estimate; it is believed no more than one further, round one.
        strength.clamp(1.0 / (degrees + 1) as f64, 1.0)
    }

    /// L⁻¹ of the covariance L·Lᵀ, `[dimension][dimension]`, lower triangular: takes vectors to where the covariance is
    /// the identity.
    pub(crate) fn whitening(&self) -> Vec<f64> {
        let order = self.order;
        let mut inverse = vec![0.0; order * order];
        let mut column = vec![0.0; order];
        for place in 0..order {
            column.fill(0.0);
            column[place] = 1.0;
            self.cholesky.whiten(&mut column);
            for (row, &entry) in column.iter().enumerate().skip(place) {
                inverse[row * order + place] = entry;
            }
        }
        inverse
    }

    /// How much one residual r adds to the covariance: this times r·rᵀ.
    pub(crate) fn share_of_one(&self) -> f64 {
        (1.0 - self.strength) / self.degrees as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn residuals(rows: usize, dimensions: usize) -> Vec<f64> {
        (0..rows * dimensions).map(|i| ((i * i * 29 + i * 7) % 31) as f64 / 10.0 - 1.5).collect()
    }

    #[test]
    fn residuals_leave_class_means() {
        let vectors: [&[f32]; 3] = [&[1.0, 0.0], &[0.0, 1.0], &[0.6, 0.8]];
        let examples = Examples::new(2, [(5, vectors[0]), (5, vectors[1]), (3, vectors[2])]).unwrap();
        let Centred { means, residuals } = Centred::new(&examples);
        assert_eq!(means, [f64::from(0.6f32), f64::from(0.8f32), 0.5, 0.5]);
        assert_eq!(residuals, [0.5, -0.5, -0.5, 0.5, 0.0, 0.0]);
    }

    #[test]
    fn the_whitening_is_of_the_mixture() {
        let (rows, dimensions) = (9, 4);
        let residuals = residuals(rows, dimensions);
        let shrunk = ShrunkCovariance::new(&residuals, dimensions, rows).unwrap();
        let entry = |a: usize, b: usize| -> f64 {
            (0..rows)
                .map(|row| residuals[row * dimensions + a] * residuals[row * dimensions + b])
                .sum::<f64>()
                / rows as f64
        };
        let variance = (0..dimensions).map(|a| entry(a, a)).sum::<f64>() / dimensions as f64;
        let strength = shrunk.strength;
        assert!(strength > 0.0 && strength < 1.0);
        // W·S·Wᵀ = I.
        let whitening = shrunk.whitening();
        let mixed = |a: usize, b: usize| {
            (1.0 - strength) * entry(a, b) + if a == b { strength * variance } else { 0.0 }
        };
        for row in 0..dimensions {
            for column in 0..dimensions {
                let product: f64 = (0..dimensions * dimensions)
                    .map(|i| (i / dimensions, i % dimensions))
                    .map(|(a, b)| {
                        whitening[row * dimensions + a] * mixed(a, b) * whitening[column * dimensions + b]
                    })
                    .sum();
                assert!((product - f64::from(u8::from(row == column))).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn few_residuals_are_shrunk_more_than_many() {
        let strength = |rows| ShrunkCovariance::new(&residuals(rows, 12), 12, rows).unwrap().strength;
        assert!(strength(4) > strength(400));
    }

    #[test]
    fn no_spread_has_no_covariance() {
        assert!(ShrunkCovariance::new(&[], 3, 0).is_none());
        assert!(ShrunkCovariance::new(&[0.0; 6], 3, 2).is_none());
        assert!(ShrunkCovariance::new(&[], 0, 0).is_none());
        // In one of three dimensions only.
        assert!(ShrunkCovariance::new(&[1.0, 0.0, 0.0, -1.0, 0.0, 0.0], 3, 1).is_some());
    }

    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        residuals: Vec<Vec<f64>>,
        strength: f64,
        distances: Vec<f64>,
    }

    /// Fixture: xtask/python/fixtures/covariance.py.
    #[test]
    fn strength_and_distances_agree_with_scikit_learn() {
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("../../tests/fixtures/covariance.json")).unwrap();
        for Case { name, residuals, strength, distances } in cases {
            let dimensions = residuals[0].len();
            let shrunk = ShrunkCovariance::new(&residuals.concat(), dimensions, residuals.len()).unwrap();
            assert!((shrunk.strength - strength).abs() < 1e-9, "{name}: {} {strength}", shrunk.strength);
            let whitening = shrunk.whitening();
            for (residual, distance) in residuals.iter().zip(distances) {
                let ours: f64 = whitening.chunks(dimensions).map(|row| dot(row, residual).powi(2)).sum();
                assert!((ours / distance - 1.0).abs() < 1e-8, "{name}: {ours} {distance}");
            }
        }
    }
}
