//! Products of two matrices that both come from activations, in 16-bit words: queries with keys, shares with values.
//!
//! Words have so many more levels than bytes that one step serves a whole matrix, and that what they lose is nothing beside
//! what the bytes of the maps around attention lose; a product takes half the time of one of floats.

#![expect(clippy::inline_always, reason = "code is compiled for an instruction set only where it is inlined")]

use super::{Rows, RowsMut, bytes::BytePanels};
use crate::vit::kernels::fused::vector::{self, vectorized};

/// Columns of a panel: four vectors of 16 sums.
const PANEL: usize = 64;
/// Columns of a vector; those of the last panel are padded to whole vectors.
const LANES: usize = 16;

/// Two neighbours in depth, as an instruction takes them.
type Pair = [i16; 2];

/// The number furthest from zero that words of a product may hold: as large as sums over the depth allow.
fn levels(depth: usize) -> f32 {
    (i32::MAX as f32 / depth as f32).sqrt().floor().min(32_000.0)
}

/// The step that takes numbers up to `largest` to words, and its inverse.
fn steps(largest: f32, depth: usize) -> (f32, f32) {
    // What is smaller has an inverse beyond f32, and is nothing beside the rest of a network.
    if largest > 1e-30 { (largest / levels(depth), levels(depth) / largest) } else { (0.0, 0.0) }
}

/// The largest magnitude of some rows.
fn largest(rows: Rows<'_>, [count, width]: [usize; 2]) -> f32 {
    vectorized(
        #[inline(always)]
        || {
            let mut largest = 0.0_f32;
            for row in 0..count {
                largest = largest.max(vector::largest(&rows.values[row * rows.stride..][..width]));
            }
            largest
        },
    )
}

/// Rows as words, padded to pairs.
#[derive(Default)]
pub(in crate::vit) struct WordRows {
    values: Vec<Pair>,
    step: f32,
}

impl WordRows {
    /// Room for so many rows of the longest length.
    pub(in crate::vit) fn new(rows: usize, longest: usize) -> Self {
        Self { values: vec![[0; 2]; rows * longest.div_ceil(2)], step: 0.0 }
    }

    /// Takes over rows `[rows, depth]`.
    pub(in crate::vit) fn fill(&mut self, x: Rows<'_>, [rows, depth]: [usize; 2]) {
        let (step, inverse) = steps(largest(x, [rows, depth]), depth);
        self.step = step;
        let pairs = self.values.chunks_exact_mut(depth.div_ceil(2)).take(rows);
        vectorized(
            #[inline(always)]
            || {
                for (row, words) in pairs.enumerate() {
                    fill_pairs(words, &x.values[row * x.stride..][..depth], inverse);
                }
            },
        );
    }
}

#[inline(always)]
fn fill_pairs(words: &mut [Pair], numbers: &[f32], inverse: f32) {
    let (pairs, last) = numbers.as_chunks::<2>();
    for (words, pair) in words.iter_mut().zip(pairs) {
        *words = pair.map(
            #[inline(always)]
            |number| vector::word(number * inverse),
        );
    }
    if let (Some(words), Some(&last)) = (words.last_mut(), last.first()) {
        *words = [vector::word(last * inverse), 0];
    }
}

/// A matrix `[depth, width]` as words, in panels of 64 columns.
#[derive(Default)]
pub(in crate::vit) struct WordPanels {
    /// Panel after panel; in each, for every two depths, a pair of each column.
    values: Vec<Pair>,
    step: f32,
    depth: usize,
    width: usize,
    /// A row of the other side on its way.
    row: Vec<Pair>,
}

impl WordPanels {
    /// Room for matrices up to that size.
    pub(in crate::vit) fn new(depth: usize, width: usize) -> Self {
        let length = depth.div_ceil(2) * width.next_multiple_of(LANES);
        Self { values: vec![[0; 2]; length], row: vec![[0; 2]; depth.div_ceil(2)], ..Self::default() }
    }

    /// Whether this CPU multiplies words faster than floats.
    pub(in crate::vit) fn are_fast() -> bool {
        BytePanels::are_fast()
    }

    /// Takes over the transpose of rows `[width, depth]`.
    pub(in crate::vit) fn fill_transposed(&mut self, rows: Rows<'_>, [depth, width]: [usize; 2]) {
        let (step, inverse) = steps(largest(rows, [width, depth]), depth);
        (self.step, self.depth, self.width) = (step, depth, width);
        let pairs = depth.div_ceil(2);
        let words = &mut self.row[..pairs];
        for (number, panel) in self.values.chunks_mut(pairs * PANEL).enumerate() {
            let first = number * PANEL;
            if first >= width {
                break;
            }
            let across = (width - first).min(PANEL).next_multiple_of(LANES);
            let panel = &mut panel[..pairs * across];
            vectorized(
                #[inline(always)]
                || {
                    for column in 0..across {
                        let words = if first + column < width {
                            let numbers = &rows.values[(first + column) * rows.stride..][..depth];
                            fill_pairs(words, numbers, inverse);
                            &*words
                        } else {
                            words.fill([0; 2]);
                            &*words
                        };
                        for (row, &pair) in panel.chunks_exact_mut(across).zip(words) {
                            row[column] = pair;
                        }
                    }
                },
            );
        }
    }

    /// Takes over rows `[depth, width]`.
    pub(in crate::vit) fn fill(&mut self, rows: Rows<'_>, [depth, width]: [usize; 2]) {
        let (step, inverse) = steps(largest(rows, [depth, width]), depth);
        (self.step, self.depth, self.width) = (step, depth, width);
        let pairs = depth.div_ceil(2);
        for (number, panel) in self.values.chunks_mut(pairs * PANEL).enumerate() {
            let first = number * PANEL;
            if first >= width {
                break;
            }
            let columns = (width - first).min(PANEL);
            let across = columns.next_multiple_of(LANES);
            let panel = &mut panel[..pairs * across];
            vectorized(
                #[inline(always)]
                || {
                    for (pair, row) in panel.chunks_exact_mut(across).enumerate() {
                        let even = &rows.values[2 * pair * rows.stride + first..][..columns];
                        row[columns..].fill([0; 2]);
                        if 2 * pair + 1 < depth {
                            let odd = &rows.values[(2 * pair + 1) * rows.stride + first..][..columns];
                            for ((words, &even), &odd) in row.iter_mut().zip(even).zip(odd) {
                                *words = [vector::word(even * inverse), vector::word(odd * inverse)];
                            }
                        } else {
                            for (words, &even) in row.iter_mut().zip(even) {
                                *words = [vector::word(even * inverse), 0];
                            }
                        }
                    }
                },
            );
        }
    }

    /// `y = x · panels` for the first `rows` rows of x.
    pub(in crate::vit) fn product(&self, y: RowsMut<'_>, x: &WordRows, rows: usize) {
        self.product_by(y, x, rows, Self::are_fast());
    }

    fn product_by(&self, mut y: RowsMut<'_>, x: &WordRows, rows: usize, fast: bool) {
        if rows == 0 || self.width == 0 {
            return;
        }
        assert!(
            rows * self.depth.div_ceil(2) <= x.values.len()
                && (rows == 1 || y.stride >= self.width)
                && (rows - 1) * y.stride + self.width <= y.values.len(),
            "a product's shapes differ"
        );
        #[cfg(target_arch = "x86_64")]
        if fast {
            #[expect(unsafe_code, reason = "vector instructions on raw pointers")]
            // SAFETY: the CPU has the instructions, and the shapes are as just checked.
            return unsafe { tiles::product(self, &mut y, x, rows) };
        }
        let _ = fast;
        self.plain(&mut y, x, rows);
    }

    /// In any CPU's instructions.
    fn plain(&self, y: &mut RowsMut<'_>, x: &WordRows, rows: usize) {
        let pairs = self.depth.div_ceil(2);
        for (row, words) in x.values.chunks_exact(pairs).take(rows).enumerate() {
            for column in 0..self.width {
                let first = column / PANEL * PANEL;
                let across = (self.width - first).min(PANEL).next_multiple_of(LANES);
                let panel = &self.values[first * pairs..];
                let product = |(pair, words): (usize, &Pair)| -> i32 {
                    let [even, odd] = panel[pair * across + column - first];
                    i32::from(words[0]) * i32::from(even) + i32::from(words[1]) * i32::from(odd)
                };
                let sum: i32 = words.iter().enumerate().map(product).sum();
                y.values[row * y.stride + column] = sum as f32 * (x.step * self.step);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod tiles {
    #![expect(unsafe_code, reason = "vector instructions on raw pointers")]

    use super::{LANES, PANEL, Pair, RowsMut, WordPanels, WordRows};
    use crate::vit::kernels::packed::TILE_ROWS;
    use crate::vit::kernels::packed::vnni::{Words, sums};
    use std::arch::x86_64::{_mm512_cvtepi32_ps, _mm512_mask_storeu_ps, _mm512_mul_ps, _mm512_set1_ps};

    /// A tile's surroundings.
    #[derive(Clone, Copy)]
    struct Tile {
        y: *mut f32,
        y_stride: usize,
        x: *const Pair,
        pairs: usize,
        panel: *const Pair,
        columns: usize,
        step: f32,
    }

    /// # Safety
    /// The CPU has the instructions, and shapes are as [`WordPanels::product_by`] checks them.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) unsafe fn product(panels: &WordPanels, y: &mut RowsMut<'_>, x: &WordRows, rows: usize) {
        let pairs = panels.depth.div_ceil(2);
        for first in (0..panels.width).step_by(PANEL) {
            let columns = (panels.width - first).min(PANEL);
            for row in (0..rows).step_by(TILE_ROWS) {
                // SAFETY: rows and columns lie within x and y; the panels before this one hold first · pairs pairs.
                unsafe {
                    let tile = Tile {
                        y: y.values.as_mut_ptr().add(row * y.stride + first),
                        y_stride: y.stride,
                        x: x.values.as_ptr().add(row * pairs),
                        pairs,
                        panel: panels.values.as_ptr().add(first * pairs),
                        columns,
                        step: x.step * panels.step,
                    };
                    match columns.div_ceil(LANES) {
                        1 => rows_of_tile::<1>(tile, rows - row),
                        2 => rows_of_tile::<2>(tile, rows - row),
                        3 => rows_of_tile::<3>(tile, rows - row),
                        _ => rows_of_tile::<4>(tile, rows - row),
                    }
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn rows_of_tile<const VECTORS: usize>(tile: Tile, rows: usize) {
        // SAFETY: the caller's; no more rows than there are.
        unsafe {
            match rows {
                1 => multiply::<1, VECTORS>(tile),
                2 => multiply::<2, VECTORS>(tile),
                3 => multiply::<3, VECTORS>(tile),
                4 => multiply::<4, VECTORS>(tile),
                5 => multiply::<5, VECTORS>(tile),
                _ => multiply::<TILE_ROWS, VECTORS>(tile),
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn multiply<const ROWS: usize, const VECTORS: usize>(tile: Tile) {
        let Tile { y, y_stride, x, pairs, panel, columns, step } = tile;
        let step = _mm512_set1_ps(step);
        // SAFETY: the tile's rows and columns lie in x, y and the panel; the mask leaves out columns that do not exist.
        unsafe {
            let sums = sums::<Words, ROWS, VECTORS>(x.cast(), pairs * size_of::<Pair>(), panel.cast(), pairs);
            for (row, sums) in sums.iter().enumerate() {
                for (vector, &sum) in sums.iter().enumerate() {
                    let first = vector * LANES;
                    let mask = 0xffff_u16 >> (LANES - (columns - first).min(LANES));
                    let place = y.add(row * y_stride + first);
                    _mm512_mask_storeu_ps(place, mask, _mm512_mul_ps(_mm512_cvtepi32_ps(sum), step));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, pace: f32) -> Vec<f32> {
        (0..count).map(|n| (n as f32 * pace).sin() + 0.2).collect()
    }

    /// Both executions to the bit, both ways of filling, and all of it against floats, at shapes that fill no tile.
    #[test]
    fn words_come_very_close_to_floats() {
        for (rows, depth, width) in [(1, 5, 1), (7, 33, 16), (13, 64, 70), (24, 197, 130)] {
            let (x_stride, y_stride) = (depth + 3, width + 5);
            let (x, matrix) = (values(rows * x_stride, 0.7), values(depth * width, 1.3));
            let mut turned = vec![0.0; matrix.len()];
            for (place, value) in matrix.iter().enumerate() {
                turned[(place % width) * depth + place / width] = *value;
            }
            let (mut panels, mut transposed) =
                (WordPanels::new(depth + 2, width), WordPanels::new(depth, width + 20));
            panels.fill(Rows { values: &matrix, stride: width }, [depth, width]);
            transposed.fill_transposed(Rows { values: &turned, stride: depth }, [depth, width]);
            let length = depth.div_ceil(2) * width.next_multiple_of(LANES);
            assert_eq!(panels.values[..length], transposed.values[..length]);
            let mut words = WordRows::new(rows, depth);
            words.fill(Rows { values: &x, stride: x_stride }, [rows, depth]);
            let run = |fast| {
                let mut y = vec![f32::NAN; rows * y_stride];
                panels.product_by(RowsMut { values: &mut y, stride: y_stride }, &words, rows, fast);
                y
            };
            let y = run(false);
            if WordPanels::are_fast() {
                let bits = |y: &[f32]| y.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&y), bits(&run(true)));
            }
            for (place, y) in y.iter().enumerate() {
                let (row, column) = (place / y_stride, place % y_stride);
                if column >= width {
                    assert!(y.is_nan(), "nothing is written beside the product");
                    continue;
                }
                let term = |k: usize| x[row * x_stride + k] * matrix[k * width + column];
                let expected: f32 = (0..depth).map(term).sum();
                let tolerance = 1e-3 * (depth as f32).sqrt();
                assert!((y - expected).abs() < tolerance, "{rows}x{depth}x{width}: {y}, not {expected}");
            }
        }
    }

    /// The largest numbers there may be, all of one sign, stay within 32 bits at any depth.
    #[test]
    fn sums_do_not_overflow() {
        for depth in [1, 64, 197, 1025, 4097] {
            let ones = vec![1.0; depth];
            let (mut panels, mut x) = (WordPanels::new(depth, 1), WordRows::new(1, depth));
            panels.fill(Rows { values: &ones, stride: 1 }, [depth, 1]);
            x.fill(Rows { values: &ones, stride: depth }, [1, depth]);
            let mut y = [0.0];
            panels.product(RowsMut { values: &mut y, stride: 1 }, &x, 1);
            assert!((y[0] - depth as f32).abs() < 1e-3 * depth as f32, "{}", y[0]);
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        let (mut panels, mut x) = (WordPanels::new(3, 2), WordRows::new(1, 3));
        panels.fill(Rows { values: &[0.0; 6], stride: 2 }, [3, 2]);
        x.fill(Rows { values: &[1.0, 2.0, 3.0], stride: 3 }, [1, 3]);
        let mut y = [f32::NAN; 2];
        panels.product(RowsMut { values: &mut y, stride: 2 }, &x, 1);
        assert!(y.iter().all(|value| value.abs() < 1e-30), "{y:?}");
    }
}
