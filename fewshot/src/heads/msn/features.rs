//! Where prototypes live: coordinates in which what is known without labels spreads more evenly.
//!
//! Directions in which pictures of every class vary most, light and background say, decide cosines of raw vectors. Here
//! they count less, and so do those in which views of one picture differ, which say nothing of its class: vectors are
//! whitened by a mixture of the covariance of all of them, that of views around their picture's mean and the identity, each of
//! trace 1.

use super::objective::mean_rows;
use crate::matrix::{Cholesky, View, dot, multiply};

/// Share of each covariance where it is known; the rest is the multiple of the identity, which bounds how much directions
/// can count that few vectors reach.
const SHARE: f64 = 0.45;
/// Vectors per dimension at which half of that share is taken: a covariance of few vectors is mostly chance, and whitening by
/// it alone cost 3 points of accuracy on CIFAR-10 with 5 examples of each class and no pool.
const ENOUGH: f64 = 10.0;
/// A mean squared distance from the centre below this is the rounding of f32, not a spread.
const NONE: f64 = 1e-12;

/// x ↦ W·(x − μ)/r, with r such that vectors have the mean length 1.
pub(super) struct Features {
    dimensions: usize,
    /// μ.
    centre: Vec<f64>,
    /// W/r, `[dimension][dimension]`.
    map: Vec<f64>,
}

impl Features {
    /// Of rows, `[row][dimension]`, at least one, around a centre, and of views, `[image][view][dimension]`, so many of each
    /// image. Rows that are all there are only centred.
    pub(super) fn new(rows: &[f64], centre: Vec<f64>, views: &[f64], per_image: usize) -> Self {
        let dimensions = centre.len();
        let count = rows.len() / dimensions;
        let mut features = Self { dimensions, centre, map: identity(dimensions) };
        let Some(all) = scatter(&features.apply(rows), dimensions) else { return features };
        let within = scatter(&around_images(views, dimensions, per_image), dimensions);
        let share = SHARE * count as f64 / (count as f64 + ENOUGH * dimensions as f64);
        let (round, within) = match within {
            Some(within) => (1.0 - 2.0 * share, within),
            None => (1.0 - share, vec![0.0; all.len()]),
        };
        let mut covariance = all;
        for (place, (entry, within)) in covariance.iter_mut().zip(&within).enumerate() {
            let diagonal = if place % (dimensions + 1) == 0 { round / dimensions as f64 } else { 0.0 };
            *entry = share * (*entry + within) + diagonal;
        }
        let Some(cholesky) = Cholesky::new(&covariance, dimensions) else { return features };
        let mut column = vec![0.0; dimensions];
        for place in 0..dimensions {
            column.fill(0.0);
            column[place] = 1.0;
            cholesky.whiten(&mut column);
            for (row, &entry) in column.iter().enumerate() {
                features.map[row * dimensions + place] = entry;
            }
        }
        let whitened = features.apply(rows);
        let total: f64 = whitened.chunks_exact(dimensions).map(|row| dot(row, row).sqrt()).sum();
        for entry in &mut features.map {
            *entry *= count as f64 / total;
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
    pub(super) fn fold(&self, prototypes: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let mut weights = vec![0.0; prototypes.len()];
        let rows = View::new(prototypes, prototypes.len() / self.dimensions, self.dimensions);
        multiply(&mut weights, rows, View::new(&self.map, self.dimensions, self.dimensions));
        let offsets = weights.chunks_exact(self.dimensions).map(|row| -dot(row, &self.centre)).collect();
        (weights, offsets)
    }
}

/// Σ r·rᵀ over residuals, of trace 1; `None` if they vanish.
fn scatter(residuals: &[f64], dimensions: usize) -> Option<Vec<f64>> {
    let count = residuals.len() / dimensions;
    let mut scatter = vec![0.0; dimensions * dimensions];
    let view = View::new(residuals, count, dimensions);
    multiply(&mut scatter, view.transposed(), view);
    let trace: f64 = scatter.iter().step_by(dimensions + 1).sum();
    if trace <= NONE * count as f64 {
        return None;
    }
    for entry in &mut scatter {
        *entry /= trace;
    }
    Some(scatter)
}

/// Views less the mean of their image's.
fn around_images(views: &[f64], dimensions: usize, per_image: usize) -> Vec<f64> {
    let mut residuals = views.to_vec();
    for image in residuals.chunks_exact_mut((per_image * dimensions).max(1)) {
        let mean = mean_rows(image, dimensions);
        for view in image.chunks_exact_mut(dimensions) {
            for (component, mean) in view.iter_mut().zip(&mean) {
                *component -= mean;
            }
        }
    }
    residuals
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

    fn rows(count: usize, dimensions: usize) -> Vec<f64> {
        (0..count * dimensions).map(|i| ((i * i * 29 + i * 7) % 31) as f64 / 10.0 - 1.0).collect()
    }

    fn around_mean(rows: &[f64], dimensions: usize) -> Features {
        Features::new(rows, mean_rows(rows, dimensions), &[], 0)
    }

    #[test]
    fn folding_changes_no_product() {
        let (rows, dimensions) = (rows(9, 4), 4);
        let features = around_mean(&rows, dimensions);
        let prototypes = [0.5, -0.5, 0.1, 0.7, 1.0, 0.0, -2.0, 0.3];
        let (weights, offsets) = features.fold(&prototypes);
        for (row, feature) in rows.chunks(dimensions).zip(features.apply(&rows).chunks(dimensions)) {
            let functions = weights.chunks(dimensions).zip(&offsets);
            for ((weights, offset), prototype) in functions.zip(prototypes.chunks(dimensions)) {
                assert!((dot(row, weights) + offset - dot(feature, prototype)).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn the_whitening_is_of_the_mixture() {
        let dimensions = 3;
        let mut rows = rows(40, dimensions);
        for row in rows.chunks_mut(dimensions) {
            row[1] = 5.0 * row[1] + row[0];
        }
        let features = around_mean(&rows, dimensions);
        let centred: Vec<f64> = {
            let mean = mean_rows(&rows, dimensions);
            rows.chunks(dimensions).flat_map(|row| row.iter().zip(&mean).map(|(x, m)| x - m)).collect()
        };
        let entry = |a: usize, b: usize| centred.chunks(dimensions).map(|row| row[a] * row[b]).sum::<f64>();
        let variance = (0..dimensions).map(|a| entry(a, a)).sum::<f64>() / dimensions as f64;
        // map·mixture·mapᵀ is a multiple of the identity.
        let share = SHARE * 40.0 / (40.0 + ENOUGH * 3.0);
        let mixed =
            |a: usize, b: usize| share * entry(a, b) + if a == b { (1.0 - share) * variance } else { 0.0 };
        let product = |row: usize, column: usize| -> f64 {
            (0..dimensions * dimensions)
                .map(|i| (i / dimensions, i % dimensions))
                .map(|(a, b)| {
                    features.map[row * dimensions + a] * mixed(a, b) * features.map[column * dimensions + b]
                })
                .sum()
        };
        for row in 0..dimensions {
            for column in 0..dimensions {
                let expected = if row == column { product(0, 0) } else { 0.0 };
                assert!((product(row, column) - expected).abs() < 1e-9 * product(0, 0), "{row} {column}");
            }
        }
        let applied = features.apply(&rows);
        let length: f64 = applied.chunks(dimensions).map(|row| dot(row, row).sqrt()).sum::<f64>() / 40.0;
        assert!((length - 1.0).abs() < 1e-12);
    }

    #[test]
    fn directions_in_which_views_differ_count_less() {
        let rows = [1.0, 0.0, 0.0, 1.0, -1.0, 0.0, 0.0, -1.0].repeat(20);
        let views = [1.0, 0.5, 1.0, -0.5, 0.0, 1.5, 0.0, 0.5].repeat(40);
        let features = Features::new(&rows, vec![0.0, 0.0], &views, 2).apply(&rows);
        assert!(features[0].abs() > 1.3 * features[3].abs(), "{:?}", &features[..4]);
        // Views that do not differ say nothing.
        let plain = around_mean(&rows, 2).apply(&rows);
        assert_eq!(Features::new(&rows, vec![0.0, 0.0], &[1.0, 0.0, 1.0, 0.0], 2).apply(&rows), plain);
    }

    #[test]
    fn rows_that_are_alike_are_centred() {
        let features = Features::new(&[0.6, 0.8, 0.6, 0.8], vec![0.6, 0.8], &[], 0);
        assert_eq!(features.apply(&[0.6, 0.8, 1.6, 0.8]), [0.0, 0.0, 1.0, 0.0]);
    }
}
