//! Solving with a symmetric positive definite matrix.

use super::{View, dot, multiply};

/// The factor L of A = L·Lᵀ, lower triangular, row-major.
#[derive(Clone, Debug)]
pub(crate) struct Cholesky {
    order: usize,
    factor: Vec<f64>,
}

impl Cholesky {
    /// Factorises the lower triangle of `matrix`, `[order][order]`; `None` unless it is positive definite to within rounding.
    pub(crate) fn new(matrix: &[f64], order: usize) -> Option<Self> {
        assert_eq!(matrix.len(), order * order, "a matrix fills its slice");
        let mut factor = vec![0.0; order * order];
        for row in 0..order {
            for column in 0..=row {
                let (above, own) = factor.split_at_mut(row * order);
                let other = if column == row { &own[..column] } else { &above[column * order..][..column] };
                let rest = matrix[row * order + column] - dot(&own[..column], other);
                if column == row {
                    if rest.is_nan() || rest <= f64::EPSILON * matrix[row * order + row] {
                        return None;
                    }
                    own[column] = rest.sqrt();
                } else {
                    own[column] = rest / above[column * order + column];
                }
            }
        }
        Some(Self { order, factor })
    }

    /// L⁻¹·v in place: coordinates in which A is the identity.
    pub(crate) fn whiten(&self, vector: &mut [f64]) {
        self.whiten_from(0, vector);
    }

    /// [`Cholesky::whiten`] of a vector that is 0 before its entry `first`.
    fn whiten_from(&self, first: usize, vector: &mut [f64]) {
        for row in first..self.order {
            let (done, rest) = vector.split_at_mut(row);
            let factor = &self.factor[row * self.order..];
            rest[0] = (rest[0] - dot(&factor[first..row], &done[first..])) / factor[row];
        }
    }

    /// A⁻¹ = L⁻ᵀ·L⁻¹, `[order][order]`.
    pub(crate) fn inverse(&self) -> Vec<f64> {
        let order = self.order;
        // Row r of L⁻ᵀ is the r-th column of L⁻¹, which is 0 above its r-th entry.
        let mut transposed = vec![0.0; order * order];
        for (place, column) in transposed.chunks_exact_mut(order).enumerate() {
            column[place] = 1.0;
            self.whiten_from(place, column);
        }
        let mut inverse = vec![0.0; order * order];
        let view = View::new(&transposed, order, order);
        multiply(&mut inverse, view, view.transposed());
        inverse
    }

    /// A⁻¹·v in place.
    pub(crate) fn solve(&self, vector: &mut [f64]) {
        self.whiten(vector);
        for row in (0..self.order).rev() {
            vector[row] /= self.factor[row * self.order + row];
            let (rest, done) = vector.split_at_mut(row);
            for (value, factor) in rest.iter_mut().zip(&self.factor[row * self.order..]) {
                *value -= factor * done[0];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solutions_satisfy_the_equations() {
        for order in [1, 2, 9, 20] {
            let root: Vec<f64> = (0..order * order).map(|i| ((i * 29 % 31) as f64 - 15.0) / 10.0).collect();
            let mut matrix = vec![0.0; order * order];
            for row in 0..order {
                for column in 0..order {
                    matrix[row * order + column] =
                        dot(&root[row * order..][..order], &root[column * order..][..order])
                            + f64::from(u8::from(row == column));
                }
            }
            let cholesky = Cholesky::new(&matrix, order).unwrap();
            let right: Vec<f64> = (0..order).map(|i| i as f64 - 1.5).collect();
            let mut solution = right.clone();
            cholesky.solve(&mut solution);
            for (row, right) in matrix.chunks(order).zip(&right) {
                assert!((dot(row, &solution) - right).abs() < 1e-9);
            }
            for (row, solution) in cholesky.inverse().chunks(order).zip(&solution) {
                assert!((dot(row, &right) - solution).abs() < 1e-9);
            }
            // |L⁻¹v|² = vᵀA⁻¹v.
            let mut white = right.clone();
            cholesky.whiten(&mut white);
            assert!((dot(&white, &white) - dot(&right, &solution)).abs() < 1e-9);
        }
    }

    #[test]
    fn what_is_not_positive_definite_has_no_factor() {
        assert!(Cholesky::new(&[1.0, 1.0, 1.0, 1.0], 2).is_none());
        assert!(Cholesky::new(&[-1.0], 1).is_none());
        assert!(Cholesky::new(&[0.0], 1).is_none());
        assert!(Cholesky::new(&[f64::NAN], 1).is_none());
    }
}
