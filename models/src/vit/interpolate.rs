//! Bicubic resizing of position embeddings as a constant matrix, so that it carries gradient.
//!
//! The same numbers as PyTorch's `interpolate(mode="bicubic", align_corners=False)` without antialiasing, which the
//! published MSN and DINO models use for views whose grid is not the native one.

/// PyTorch's cubic convolution coefficient.
const A: f64 = -0.75;

/// The 1-D weights `[n_out, n_in]`, row-major. Sample indices are clamped at the border; clamped taps accumulate.
pub fn bicubic_weights(n_in: usize, n_out: usize) -> Vec<f64> {
    let mut weights = vec![0.0; n_out * n_in];
    if n_in == 0 {
        return weights;
    }
    for (out, row) in weights.chunks_exact_mut(n_in).enumerate() {
        let source = (out as f64 + 0.5) * (n_in as f64 / n_out as f64) - 0.5;
        let (floor, fraction) = (source.floor(), source - source.floor());
        for tap in -1..=2_i32 {
            let index = (floor + f64::from(tap)).clamp(0.0, (n_in - 1) as f64) as usize;
            row[index] += cubic(f64::from(tap) - fraction);
        }
    }
    weights
}

fn cubic(x: f64) -> f64 {
    let x = x.abs();
    if x <= 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
    } else {
        0.0
    }
}

/// The 2-D matrix `[n_out², n_in²]`, row-major: the Kronecker square of [`bicubic_weights`].
pub fn bicubic_matrix(n_in: usize, n_out: usize) -> Vec<f64> {
    let line = bicubic_weights(n_in, n_out);
    let mut matrix = Vec::with_capacity(n_out * n_out * n_in * n_in);
    for out in 0..n_out * n_out {
        let (row_weights, column_weights) = (&line[out / n_out * n_in..], &line[out % n_out * n_in..]);
        for row in &row_weights[..n_in] {
            matrix.extend(column_weights[..n_in].iter().map(|column| row * column));
        }
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(actual: &[f64], expected: &[f64]) {
        for (position, (actual, expected)) in actual.iter().zip(expected).enumerate() {
            assert!((actual - expected).abs() < 1e-9, "column {position}: {actual} instead of {expected}");
        }
    }

    #[test]
    fn fourteen_to_six_is_pytorchs() {
        let weights = bicubic_weights(14, 6);
        assert_close(&weights[..4], &[17.0 / 54.0, 0.796_296_296_296, -1.0 / 9.0, 0.0]);
        let expected =
            [0.0, 0.0, 0.0, 0.0, -1.0 / 9.0, 0.796_296_296_296, 0.370_370_370_370, -1.0 / 18.0, 0.0];
        assert_close(&weights[2 * 14..], &expected);
    }

    #[test]
    fn rows_sum_to_one() {
        for (n_in, n_out) in [(4, 2), (14, 6), (28, 12), (56, 24), (32, 13), (8, 4), (8, 14)] {
            let matrix = bicubic_matrix(n_in, n_out);
            assert_eq!(matrix.len(), n_in * n_in * n_out * n_out);
            for row in matrix.chunks_exact(n_in * n_in) {
                assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{n_in} to {n_out}");
            }
        }
    }

    #[test]
    fn the_native_grid_is_the_identity() {
        let matrix = bicubic_matrix(3, 3);
        for (position, value) in matrix.iter().enumerate() {
            assert!((value - f64::from(u8::from(position / 9 == position % 9))).abs() < 1e-12);
        }
    }
}
