//! The pool's pictures as each other's views.
//!
//! MSN asks that two views of a picture be assigned alike. The nearest pictures, whether labelled or not, are taken for
//! further views: a target is not what the prototypes say of one picture, but what they say of it and of those around it.
//! Labels flow along the same graph (arXiv 1904.04717, eq. 9: cosines to the third power, made symmetric).

use crate::Error;
use crate::matrix::{dot, for_each_row};
use crate::progress::{Progress, report};

/// Cosines are raised to this.
const POWER: i32 = 3;
/// A neighbour at a right angle or beyond still counts this much, so that weights have a sum to be divided by.
const LEAST: f64 = 1e-6;

/// The nearest others of every row, both ways, with weights that sum to 1.
pub(super) struct Neighbours(Vec<Vec<(usize, f64)>>);

impl Neighbours {
    /// Of rows `[row][dimension]`: `count` each, and those that have it among theirs.
    pub(super) fn find(
        rows: &[f64],
        dimensions: usize,
        count: usize,
        progress: Progress<'_>,
    ) -> Result<Self, Error> {
        let mut units = rows.to_vec();
        for row in units.chunks_exact_mut(dimensions) {
            let norm = dot(row, row).sqrt();
            for component in row {
                *component /= norm.max(f64::MIN_POSITIVE);
            }
        }
        let len = rows.len() / dimensions;
        let mut weights = vec![Vec::with_capacity(2 * count); len];
        let mut order: Vec<usize> = Vec::with_capacity(len);
        for_each_row(&units, &units, dimensions, |row, cosines| {
            if row.is_multiple_of(512) {
                report(&mut *progress, row as f64 / len as f64)?;
            }
            order.clear();
            order.extend((0..len).filter(|&other| other != row));
            let nearest = |a: &usize, b: &usize| cosines[*b].total_cmp(&cosines[*a]).then(a.cmp(b));
            if count < order.len() {
                order.select_nth_unstable_by(count, nearest);
            }
            for &other in order.iter().take(count) {
                let weight = cosines[other].max(LEAST).powi(POWER);
                weights[row].push((other, weight));
                weights[other].push((row, weight));
            }
            Ok(())
        })?;
        for list in &mut weights {
            let total: f64 = list.iter().map(|(_, weight)| weight).sum();
            for (_, weight) in list {
                *weight /= total;
            }
        }
        Ok(Self(weights))
    }

    /// The neighbours of a row; none if it is the only one.
    pub(super) fn of(&self, row: usize) -> &[(usize, f64)] {
        &self.0[row]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::ControlFlow;

    #[test]
    fn neighbours_are_mutual_and_weighted_by_nearness() {
        let rows = [1.0, 0.0, 2.0, 0.2, 1.0, 1.0, -1.0, 0.0];
        let found = Neighbours::find(&rows, 2, 1, &mut |_| ControlFlow::Continue(())).unwrap();
        let others = |row: usize| -> Vec<usize> { found.of(row).iter().map(|&(other, _)| other).collect() };
        // 0 and 1 have each other; 2 has 1, and so has 3 2, the nearest of those behind it.
        assert_eq!((others(0), others(2)), (vec![1, 1], vec![1, 3]));
        assert_eq!((others(1), others(3)), (vec![0, 0, 2], vec![2]));
        for row in 0..4 {
            assert!((found.of(row).iter().map(|(_, weight)| weight).sum::<f64>() - 1.0).abs() < 1e-12);
        }
        assert!(found.of(2)[0].1 > 0.99, "what lies behind hardly counts");
    }

    #[test]
    fn one_row_has_none_and_zero_rows_do_no_harm() {
        let mut go_on = |_| ControlFlow::Continue(());
        assert!(Neighbours::find(&[1.0, 0.0], 2, 3, &mut go_on).unwrap().of(0).is_empty());
        let zero = Neighbours::find(&[0.0, 0.0, 1.0, 0.0], 2, 3, &mut go_on).unwrap();
        assert_eq!(zero.of(0)[0].0, 1);
        let mut stop = |_| ControlFlow::Break(());
        assert_eq!(Neighbours::find(&[1.0, 0.0], 2, 3, &mut stop).err(), Some(Error::Cancelled));
    }
}
