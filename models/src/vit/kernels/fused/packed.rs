//! Products of many short runs of rows with one weight, laid out once for all of them.
//!
//! A general matrix product lays both operands out anew on every call. The rows of a chunk are few beside the columns of a
//! weight, so that took a tenth of a step. Here a weight is cut into panels of [`PANEL`] columns, which an AVX-512 kernel
//! reads from front to back while it keeps a tile of the product in registers; other CPUs go through the `gemm` crate.

use super::buffers::Buffer;
use super::matrix::{Matrix, MatrixMut, multiply, multiply_add};
use rayon::prelude::*;

/// Columns of a panel: four vectors of 16.
const PANEL: usize = 64;

/// Elements of a vector; the rows of the last panel are padded to a multiple of it.
const LANES: usize = 16;

/// The right-hand side `[depth, width]` of products.
pub(super) struct Packed {
    /// Panel after panel, each row-major.
    panels: Buffer,
    depth: usize,
    width: usize,
    /// Columns of a panel; all of them where there are no panels.
    panel: usize,
}

impl Packed {
    /// A weight `[out, in]` as stored: takes gradients from outputs to inputs.
    pub(super) fn stored(weight: &[f32], inputs: usize) -> Self {
        Self::pack(weight, [weight.len() / inputs, inputs], false, has_vectors())
    }

    /// A weight `[out, in]` transposed: takes inputs to outputs.
    pub(super) fn transposed(weight: &[f32], inputs: usize) -> Self {
        Self::pack(weight, [inputs, weight.len() / inputs], true, has_vectors())
    }

    fn pack(weight: &[f32], [depth, width]: [usize; 2], transposed: bool, in_panels: bool) -> Self {
        let panel = if in_panels { PANEL } else { width };
        let padded = if in_panels { width.next_multiple_of(LANES) } else { width };
        let mut panels = Buffer::new(depth * padded);
        panels.par_chunks_mut(depth * panel).enumerate().for_each(|(index, values)| {
            let (first, row) = (index * panel, values.len() / depth);
            let columns = first..width.min(first + panel);
            values.fill(0.0);
            if transposed {
                transpose_into(values, row, &weight[columns.start * depth..columns.end * depth], depth);
            } else {
                for (values, weight) in values.chunks_exact_mut(row).zip(weight.chunks_exact(width)) {
                    values[..columns.len()].copy_from_slice(&weight[columns.clone()]);
                }
            }
        });
        Self { panels, depth, width, panel }
    }

    /// `y = x · weight`, `y` `[rows, width]` and `x` `[rows, depth]`.
    pub(super) fn multiply(&self, y: &mut [f32], x: &[f32]) {
        self.product(y, x, false);
    }

    /// `y += x · weight`.
    pub(super) fn multiply_add(&self, y: &mut [f32], x: &[f32]) {
        self.product(y, x, true);
    }

    fn product(&self, y: &mut [f32], x: &[f32], accumulate: bool) {
        #[cfg(target_arch = "x86_64")]
        if self.panel == PANEL && has_vectors() {
            let rows = x.len() / self.depth;
            assert!(
                x.len() == rows * self.depth && y.len() == rows * self.width,
                "a product's shapes differ"
            );
            #[expect(unsafe_code, reason = "vector instructions on raw pointers")]
            // SAFETY: the CPU has AVX-512; x and y hold whole rows, as just checked, and the panels were made for this
            // depth and width.
            return unsafe { avx512::product(self, y, x, rows, accumulate) };
        }
        let (y, x) = (MatrixMut::packed(y, self.width), Matrix::packed(x, self.depth));
        let weight = Matrix::packed(&self.panels, self.width);
        if accumulate { multiply_add(y, x, weight) } else { multiply(y, 1.0, x, weight) }
    }
}

/// Writes the transpose of `[columns, depth]` rows to `[depth, row]`, some depths at a time so that both stay in the cache.
fn transpose_into(values: &mut [f32], row: usize, weight: &[f32], depth: usize) {
    for first in (0..depth).step_by(LANES) {
        let depths = first..depth.min(first + LANES);
        for (column, weight) in weight.chunks_exact(depth).enumerate() {
            for (place, &value) in weight[depths.clone()].iter().enumerate() {
                values[(first + place) * row + column] = value;
            }
        }
    }
}

/// Whether this CPU has the instructions of the kernel below.
fn has_vectors() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    #![expect(unsafe_code, reason = "vector instructions on raw pointers")]

    use super::{LANES, PANEL, Packed};
    use std::arch::x86_64::{
        __mmask16, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps,
        _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
    };

    /// Rows of a tile: with four vectors each, 24 of the 32 registers.
    const ROWS: usize = 6;

    /// A tile's surroundings.
    #[derive(Clone, Copy)]
    struct Tile {
        /// First element of the tile in y, and the distance of its rows.
        y: *mut f32,
        y_stride: usize,
        /// First of its rows in x.
        x: *const f32,
        depth: usize,
        panel: *const f32,
        /// Columns of the last vector that exist.
        last: __mmask16,
        accumulate: bool,
    }

    /// # Safety
    /// `x` is `[rows, depth]`, `y` `[rows, width]`, both complete, and `weight` in panels of [`PANEL`].
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn product(weight: &Packed, y: &mut [f32], x: &[f32], rows: usize, accumulate: bool) {
        let Packed { panels, depth, width, .. } = weight;
        for first in (0..*width).step_by(PANEL) {
            let columns = (width - first).min(PANEL);
            let missing = columns.next_multiple_of(LANES) - columns;
            for row in (0..rows).step_by(ROWS) {
                // SAFETY: row and column are within y, the row within x, and the panels before this one hold
                // first · depth values.
                unsafe {
                    let tile = Tile {
                        y: y.as_mut_ptr().add(row * width + first),
                        y_stride: *width,
                        x: x.as_ptr().add(row * depth),
                        depth: *depth,
                        panel: panels.as_ptr().add(first * depth),
                        last: 0xffff >> missing,
                        accumulate,
                    };
                    let vectors = columns.div_ceil(LANES);
                    match vectors {
                        1 => rows_of_tile::<1>(tile, rows - row),
                        2 => rows_of_tile::<2>(tile, rows - row),
                        3 => rows_of_tile::<3>(tile, rows - row),
                        _ => rows_of_tile::<4>(tile, rows - row),
                    }
                }
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    unsafe fn rows_of_tile<const VECTORS: usize>(tile: Tile, rows: usize) {
        // SAFETY: as the caller's; no more rows than there are.
        unsafe {
            match rows {
                1 => multiply::<1, VECTORS>(tile),
                2 => multiply::<2, VECTORS>(tile),
                3 => multiply::<3, VECTORS>(tile),
                4 => multiply::<4, VECTORS>(tile),
                5 => multiply::<5, VECTORS>(tile),
                _ => multiply::<ROWS, VECTORS>(tile),
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    unsafe fn multiply<const ROWS: usize, const VECTORS: usize>(tile: Tile) {
        let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
        // SAFETY: the tile's ROWS rows and 16 · VECTORS columns lie in x, in y up to the mask, and in the panel.
        unsafe {
            for k in 0..tile.depth {
                let mut weights = [_mm512_setzero_ps(); VECTORS];
                for (vector, weights) in weights.iter_mut().enumerate() {
                    *weights = _mm512_loadu_ps(tile.panel.add((k * VECTORS + vector) * LANES));
                }
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = _mm512_set1_ps(*tile.x.add(row * tile.depth + k));
                    for (sum, &weight) in sums.iter_mut().zip(&weights) {
                        *sum = _mm512_fmadd_ps(x, weight, *sum);
                    }
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                for (vector, &sum) in sums.iter().enumerate() {
                    let mask = if vector + 1 == VECTORS { tile.last } else { 0xffff };
                    let place = tile.y.add(row * tile.y_stride + vector * LANES);
                    let old = if tile.accumulate {
                        _mm512_maskz_loadu_ps(mask, place)
                    } else {
                        _mm512_setzero_ps()
                    };
                    _mm512_mask_storeu_ps(place, mask, _mm512_add_ps(old, sum));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both executions against sums written out, at widths with every kind of last panel and tile.
    #[test]
    fn products_are_sums_of_products() {
        let values =
            |count: usize, pace: f32| (0..count).map(|n| (n as f32 * pace).sin()).collect::<Vec<f32>>();
        for (rows, depth, width) in
            [(1, 5, 1), (7, 33, 16), (13, 16, 40), (6, 3, 64), (20, 70, 150), (4, 128, 129)]
        {
            let (x, weight) = (values(rows * depth, 0.7), values(depth * width, 1.3));
            let mut expected = vec![0.0; rows * width];
            for (place, sum) in expected.iter_mut().enumerate() {
                let (row, column) = (place / width, place % width);
                *sum = (0..depth)
                    .map(|k| f64::from(x[row * depth + k]) * f64::from(weight[k * width + column]))
                    .sum();
            }
            let mut turned = vec![0.0; weight.len()];
            for (place, value) in weight.iter().enumerate() {
                turned[(place % width) * depth + place / width] = *value;
            }
            for in_panels in [false, has_vectors()] {
                let packed = [
                    Packed::pack(&weight, [depth, width], false, in_panels),
                    Packed::pack(&turned, [depth, width], true, in_panels),
                ];
                for packed in packed {
                    let mut y = vec![f32::NAN; rows * width];
                    packed.multiply(&mut y, &x);
                    packed.multiply_add(&mut y, &x);
                    for (y, expected) in y.iter().zip(&expected) {
                        let error = (f64::from(*y) - 2.0 * expected).abs();
                        assert!(error < 1e-4, "{rows}x{depth} by {width}: {y} instead of {}", 2.0 * expected);
                    }
                }
            }
        }
    }
}
