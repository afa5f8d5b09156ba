//! Bicubic resizing of position embeddings (arXiv 2204.07141 trains one set of embeddings at several view sizes).
//!
//! Resizing is linear in the embeddings and separable, so it is two products with constant matrices: it carries
//! gradient without further ado. The conventions are those of PyTorch's `interpolate(mode="bicubic",
//! align_corners=False)`, which every published MSN checkpoint was trained with.

use candle_core::{Result, Tensor};

/// PyTorch's cubic coefficient (Keys' kernel; Pillow uses −0.5).
const CUBIC: f64 = -0.75;

/// The 1-D weights `[n_out, n_in]`, row-major: bicubic (a = −0.75), `align_corners = false`, border taps clamped, no antialias.
pub fn bicubic_weights(n_in: usize, n_out: usize) -> Vec<f64> {
    let mut weights = vec![0.0; n_out * n_in];
    if n_in == 0 {
        return weights;
    }
    for (out, row) in weights.chunks_exact_mut(n_in).enumerate() {
        let source = (out as f64 + 0.5) * (n_in as f64 / n_out as f64) - 0.5;
        let floor = source.floor();
        for tap in -1..=2 {
            let position = floor as i64 + tap;
            let column = position.clamp(0, n_in as i64 - 1) as usize;
            row[column] += cubic((source - position as f64).abs());
        }
    }
    weights
}

/// Keys' cubic convolution kernel at distance `x` ≥ 0.
fn cubic(x: f64) -> f64 {
    if x <= 1.0 {
        ((CUBIC + 2.0) * x - (CUBIC + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((CUBIC * x - 5.0 * CUBIC) * x + 8.0 * CUBIC) * x - 4.0 * CUBIC
    } else {
        0.0
    }
}

/// Resizes the embeddings of a square grid, `[grid², D]` row-major, to `[rows · columns, D]`. Differentiable.
pub fn resize_grid(embeddings: &Tensor, grid: usize, rows: usize, columns: usize) -> Result<Tensor> {
    let width = embeddings.dim(1)?;
    if (rows, columns) == (grid, grid) {
        return Ok(embeddings.clone());
    }
    let weights = |n_out: usize| {
        Tensor::from_vec(bicubic_weights(grid, n_out), (n_out, grid), embeddings.device())?
            .to_dtype(embeddings.dtype())
    };
    let vertical = weights(rows)?.matmul(&embeddings.reshape((grid, grid * width))?)?;
    weights(columns)?
        .broadcast_matmul(&vertical.reshape((rows, grid, width))?)?
        .reshape((rows * columns, width))
}

/// The 1-D weights `[n_out, n_in]`, row-major, of PyTorch's `mode="bilinear"`, `align_corners = false`, no antialias.
fn linear_weights(n_in: usize, n_out: usize) -> Vec<f64> {
    let mut weights = vec![0.0; n_out * n_in];
    for (out, row) in weights.chunks_exact_mut(n_in.max(1)).enumerate() {
        let source = ((out as f64 + 0.5) * (n_in as f64 / n_out as f64) - 0.5).max(0.0);
        let (left, share) = (source.floor() as usize, source.fract());
        row[left] += 1.0 - share;
        row[(left + 1).min(n_in - 1)] += share;
    }
    weights
}

/// Resizes `[rows · columns, C]` bilinearly from one `(rows, columns)` to another. Differentiable.
pub(super) fn resize_bilinear(values: &Tensor, from: (usize, usize), to: (usize, usize)) -> Result<Tensor> {
    if from == to {
        return Ok(values.clone());
    }
    let channels = values.dim(1)?;
    let weights = |n_in: usize, n_out: usize| {
        Tensor::from_vec(linear_weights(n_in, n_out), (n_out, n_in), values.device())?
            .to_dtype(values.dtype())
    };
    let vertical = weights(from.0, to.0)?.matmul(&values.reshape((from.0, from.1 * channels))?)?;
    weights(from.1, to.1)?
        .broadcast_matmul(&vertical.reshape((to.0, from.1, channels))?)?
        .reshape((to.0 * to.1, channels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn assert_row(weights: &[f64], n_in: usize, row: usize, expected: &[(usize, f64)]) {
        for (column, &weight) in weights[row * n_in..(row + 1) * n_in].iter().enumerate() {
            let wanted = expected.iter().find(|&&(at, _)| at == column).map_or(0.0, |&(_, weight)| weight);
            assert!(
                (weight - wanted).abs() < 1e-12,
                "row {row} column {column}: {weight}, expected {wanted}"
            );
        }
    }

    #[test]
    fn fourteen_to_six_matches_the_hand_calculation() {
        let weights = bicubic_weights(14, 6);
        // Output 0 lies at 2/3: taps −1 (clamped to 0), 0, 1, 2.
        assert_row(&weights, 14, 0, &[(0, 17.0 / 54.0), (1, 43.0 / 54.0), (2, -1.0 / 9.0)]);
        // Output 2 lies at 16/3.
        assert_row(&weights, 14, 2, &[(4, -1.0 / 9.0), (5, 43.0 / 54.0), (6, 10.0 / 27.0), (7, -1.0 / 18.0)]);
    }

    #[test]
    fn four_to_two_matches_the_hand_calculation() {
        // Output 0 lies at 0.5: the half-way taps are −3/32, 19/32, 19/32, −3/32 and the first is clamped onto 0.
        let weights = bicubic_weights(4, 2);
        assert_row(&weights, 4, 0, &[(0, 0.5), (1, 19.0 / 32.0), (2, -3.0 / 32.0)]);
        assert_row(&weights, 4, 1, &[(1, -3.0 / 32.0), (2, 19.0 / 32.0), (3, 0.5)]);
    }

    #[test]
    fn every_row_sums_to_one_and_mirrors_its_opposite() {
        for (n_in, n_out) in [(14, 6), (4, 2), (28, 12), (56, 24), (32, 13), (3, 7), (1, 5), (8, 8)] {
            let weights = bicubic_weights(n_in, n_out);
            assert_eq!(weights.len(), n_out * n_in);
            for row in 0..n_out {
                let values = &weights[row * n_in..(row + 1) * n_in];
                assert!((values.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{n_in}→{n_out} row {row}");
                let opposite = &weights[(n_out - 1 - row) * n_in..(n_out - row) * n_in];
                for (value, mirrored) in values.iter().zip(opposite.iter().rev()) {
                    assert!((value - mirrored).abs() < 1e-12, "{n_in}→{n_out} row {row}");
                }
            }
        }
    }

    #[test]
    fn the_same_size_is_the_identity() {
        let weights = bicubic_weights(5, 5);
        for row in 0..5 {
            assert_row(&weights, 5, row, &[(row, 1.0)]);
        }
    }

    #[test]
    fn two_passes_equal_the_kronecker_product() {
        let (grid, rows, columns, width) = (4, 2, 3, 5);
        let values: Vec<f64> = (0..grid * grid * width).map(|i| ((i * 37 % 101) as f64).sin()).collect();
        let embeddings = Tensor::from_vec(values.clone(), (grid * grid, width), &Device::Cpu).unwrap();
        let resized = resize_grid(&embeddings, grid, rows, columns).unwrap();
        assert_eq!(resized.dtype(), DType::F64);
        let resized = resized.to_vec2::<f64>().unwrap();
        let (vertical, horizontal) = (bicubic_weights(grid, rows), bicubic_weights(grid, columns));
        for row in 0..rows {
            for column in 0..columns {
                for channel in 0..width {
                    let mut expected = 0.0;
                    for y in 0..grid {
                        for x in 0..grid {
                            expected += vertical[row * grid + y]
                                * horizontal[column * grid + x]
                                * values[(y * grid + x) * width + channel];
                        }
                    }
                    assert!((resized[row * columns + column][channel] - expected).abs() < 1e-12);
                }
            }
        }
    }
}
