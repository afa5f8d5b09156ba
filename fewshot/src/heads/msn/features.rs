//! Where prototypes live: coordinates in which what is known without labels has the identity for its covariance.
//!
//! Directions in which pictures of every class vary most, light and background say, decide cosines of raw vectors. Here
//! they count as much as any other. The covariance is shrunk as Ledoit and Wolf found best, so that few vectors change
//! little and many take out all of it.

use crate::matrix::{ShrunkCovariance, View, dot, multiply};

/// x ↦ W·(x − μ)/r, with r such that vectors have the mean length 1.
pub(super) struct Features {
    dimensions: usize,
    /// μ.
    centre: Vec<f64>,
    /// W/r, `[dimension][dimension]`.
    map: Vec<f64>,
}

impl Features {
    /// Of rows, `[row][dimension]`, at least one, around a centre. Rows that are all there are only centred.
    pub(super) fn new(rows: &[f64], centre: Vec<f64>) -> Self {
        let dimensions = centre.len();
        let count = rows.len() / dimensions;
        let mut features = Self { dimensions, centre, map: identity(dimensions) };
        let residuals = features.apply(rows);
        if let Some(covariance) = ShrunkCovariance::new(&residuals, dimensions, count.saturating_sub(1)) {
            features.map = covariance.whitening();
            let lengths = features.apply(rows);
            let total: f64 = lengths.chunks_exact(dimensions).map(|row| dot(row, row).sqrt()).sum();
            for entry in &mut features.map {
                *entry *= count as f64 / total;
            }
        }
        features
    }

    /// Of rows, `[row][dimension]`.
    pub(super) fn apply(&self, rows: &[f64]) -> Vec<f64> {
        let mut centred = rows.to_vec();
        for row in centred.chunks_exact_mut(self.dimensions) {
            for (component, centre) in row.iter_mut().zip(&self.centre) {
                *component -= centre;
            }
        }
        let mut out = vec![0.0; rows.len()];
        let map = View::new(&self.map, self.dimensions, self.dimensions).transposed();
        multiply(&mut out, View::new(&centred, rows.len() / self.dimensions, self.dimensions), map);
        out
    }

    /// Products with these prototypes as functions of the vectors themselves: weights, `[prototype][dimension]`, and offsets.
    pub(super) fn fold(&self, prototypes: &[f64], scale: f64) -> (Vec<f64>, Vec<f64>) {
        let mut weights = vec![0.0; prototypes.len()];
        let rows = View::new(prototypes, prototypes.len() / self.dimensions, self.dimensions);
        multiply(&mut weights, rows, View::new(&self.map, self.dimensions, self.dimensions));
        for weight in &mut weights {
            *weight *= scale;
        }
        let offsets = weights.chunks_exact(self.dimensions).map(|row| -dot(row, &self.centre)).collect();
        (weights, offsets)
    }
}

fn identity(order: usize) -> Vec<f64> {
    let mut matrix = vec![0.0; order * order];
    for diagonal in matrix.iter_mut().step_by(order + 1) {
        *diagonal = 1.0;
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heads::msn::objective::mean_rows;

    fn rows(count: usize, dimensions: usize) -> Vec<f64> {
        (0..count * dimensions).map(|i| ((i * i * 29 + i * 7) % 31) as f64 / 10.0 - 1.0).collect()
    }

    fn around_mean(rows: &[f64], dimensions: usize) -> Features {
        Features::new(rows, mean_rows(rows, dimensions))
    }

    #[test]
    fn folding_changes_no_product() {
        let (rows, dimensions) = (rows(9, 4), 4);
        let features = around_mean(&rows, dimensions);
        let prototypes = [0.5, -0.5, 0.1, 0.7, 1.0, 0.0, -2.0, 0.3];
        let (weights, offsets) = features.fold(&prototypes, 3.0);
        for (row, feature) in rows.chunks(dimensions).zip(features.apply(&rows).chunks(dimensions)) {
            for prototype in 0..2 {
                let own = prototype * dimensions..(prototype + 1) * dimensions;
                let folded = dot(row, &weights[own.clone()]) + offsets[prototype];
                assert!((folded - 3.0 * dot(feature, &prototypes[own])).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn many_rows_lose_their_covariance() {
        let dimensions = 3;
        let mut rows = rows(4000, dimensions);
        for row in rows.chunks_mut(dimensions) {
            row[1] = 5.0 * row[1] + row[0];
        }
        let features = around_mean(&rows, dimensions).apply(&rows);
        let entry = |a: usize, b: usize| features.chunks(dimensions).map(|row| row[a] * row[b]).sum::<f64>();
        for a in 0..dimensions {
            for b in 0..a {
                assert!(entry(a, b).abs() < 0.02 * entry(a, a), "{a} {b}");
            }
        }
        let length: f64 = features.chunks(dimensions).map(|row| dot(row, row).sqrt()).sum::<f64>() / 4000.0;
        assert!((length - 1.0).abs() < 1e-12);
    }

    #[test]
    fn rows_that_are_alike_are_centred() {
        let features = Features::new(&[0.6, 0.8, 0.6, 0.8], vec![0.6, 0.8]);
        assert_eq!(features.apply(&[0.6, 0.8, 1.6, 0.8]), [0.0, 0.0, 1.0, 0.0]);
    }
}
