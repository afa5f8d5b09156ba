//! Products of bytes: activations as u8 with a scale and a lowest value for each row, weights as i8 with a scale for each
//! column, sums in i32.
//!
//! A row x is taken as low + scale·u with u in 0..=255, a column w as scale·q with q in −127..=127, so
//! Σ x·w = scale_x·scale_w·Σ u·q + low·scale_w·Σ q: integers, two factors, and a sum known beforehand.

#![expect(unsafe_code, reason = "vector instructions on raw pointers")]

use super::{Onto, RowsMut, TILE_ROWS};
use rayon::prelude::*;

/// Columns of a panel: four vectors of 16 sums.
const PANEL: usize = 64;
/// Bytes that one instruction multiplies and adds into each sum.
const GROUP: usize = 4;

/// A weight as bytes.
pub(in crate::vit) struct BytePanels {
    /// Panel after panel; in each, for every four depths, four bytes of each of 64 columns.
    values: Vec<i8>,
    /// Of the columns, padded to whole panels, as the sums are.
    scales: Vec<f32>,
    /// scale·Σ q of each column.
    sums: Vec<f32>,
    depth: usize,
    width: usize,
}

/// Rows of activations as bytes, and room for more.
#[derive(Default)]
pub(in crate::vit) struct ByteRows {
    /// Rows padded to whole groups.
    values: Vec<u8>,
    scales: Vec<f32>,
    lows: Vec<f32>,
}

impl ByteRows {
    /// Room for so many rows of the longest length.
    pub(in crate::vit) fn new(rows: usize, longest: usize) -> Self {
        let values = vec![0; rows * longest.next_multiple_of(GROUP)];
        Self { values, scales: vec![0.0; rows], lows: vec![0.0; rows] }
    }

    /// Takes over rows of `depth` numbers.
    pub(in crate::vit) fn fill(&mut self, x: &[f32], depth: usize) {
        let stride = depth.next_multiple_of(GROUP);
        let rows = self.values.chunks_exact_mut(stride).zip(x.chunks_exact(depth));
        for ((bytes, x), (scale, low)) in rows.zip(self.scales.iter_mut().zip(&mut self.lows)) {
            (*scale, *low) = quantise(&mut bytes[..depth], x);
            bytes[depth..].fill(0);
        }
    }
}

/// Writes the bytes of a row; its scale and lowest value.
fn quantise(bytes: &mut [u8], x: &[f32]) -> (f32, f32) {
    assert_eq!(bytes.len(), x.len(), "a byte for each number");
    #[cfg(target_arch = "x86_64")]
    if BytePanels::are_fast() {
        // SAFETY: the CPU has the instructions, and the lengths are as just checked.
        return unsafe { vnni::quantise(bytes, x) };
    }
    plain_quantise(bytes, x)
}

/// In any CPU's instructions.
fn plain_quantise(bytes: &mut [u8], x: &[f32]) -> (f32, f32) {
    let low = x.iter().copied().fold(f32::INFINITY, f32::min);
    let high = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (scale, inverse) = steps(low, high);
    for (byte, &value) in bytes.iter_mut().zip(x) {
        // From 0.5 to 255.5: truncation rounds to the nearest.
        *byte = (value - low).mul_add(inverse, 0.5) as u8;
    }
    (scale, low)
}

/// The distance of two levels between `low` and `high`, and its inverse.
fn steps(low: f32, high: f32) -> (f32, f32) {
    let scale = (high - low) / 255.0;
    (scale, if scale > 0.0 { 1.0 / scale } else { 0.0 })
}

impl BytePanels {
    /// Of a weight `[width, depth]`.
    pub(in crate::vit) fn new(weight: &[f32], depth: usize) -> Self {
        let width = weight.len() / depth;
        let (padded, groups) = (width.next_multiple_of(PANEL), depth.div_ceil(GROUP));
        let mut scales = vec![0.0; padded];
        let mut sums = vec![0.0; padded];
        let mut values = vec![0; padded * groups * GROUP];
        let panels = values.par_chunks_mut(PANEL * groups * GROUP);
        let panels = panels.zip(scales.par_chunks_mut(PANEL)).zip(sums.par_chunks_mut(PANEL));
        panels.zip(weight.par_chunks(PANEL * depth)).for_each(|(((values, scales), sums), weight)| {
            for (column, weight) in weight.chunks_exact(depth).enumerate() {
                let largest = weight.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
                let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
                let mut sum = 0;
                for (k, &value) in weight.iter().enumerate() {
                    let byte = (value * inverse).round() as i8;
                    sum += i32::from(byte);
                    values[(k / GROUP * PANEL + column) * GROUP + k % GROUP] = byte;
                }
                scales[column] = largest / 127.0;
                sums[column] = scales[column] * sum as f32;
            }
        });
        Self { values, scales, sums, depth, width }
    }

    /// Whether this CPU multiplies bytes faster than floats.
    pub(in crate::vit) fn are_fast() -> bool {
        #[cfg(target_arch = "x86_64")]
        return is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni");
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// `y = x · weight + onto` for the first `rows` rows of x.
    pub(in crate::vit) fn product(&self, y: RowsMut<'_>, x: &ByteRows, rows: usize, onto: Onto<'_>) {
        self.product_by(y, x, rows, onto, Self::are_fast());
    }

    fn product_by(&self, y: RowsMut<'_>, x: &ByteRows, rows: usize, onto: Onto<'_>, fast: bool) {
        if rows == 0 {
            return;
        }
        let stride = self.depth.next_multiple_of(GROUP);
        assert!(
            rows * stride <= x.values.len()
                && rows <= x.scales.len()
                && y.stride >= self.width
                && (rows - 1) * y.stride + self.width <= y.values.len(),
            "a product's shapes differ"
        );
        let (bias, accumulate) = match onto {
            Onto::Nothing => (None, false),
            Onto::Bias(bias) => (Some(bias), false),
            Onto::Old => (None, true),
            Onto::OldAndBias(bias) => (Some(bias), true),
        };
        assert!(bias.is_none_or(|bias| bias.len() == self.width), "a bias has an element for each column");
        let job = Job { panels: self, y, x, stride, bias, accumulate };
        #[cfg(target_arch = "x86_64")]
        if fast {
            // SAFETY: the CPU has the instructions, and the shapes are as just checked.
            return unsafe { vnni::product(job, rows) };
        }
        let _ = fast;
        plain(job, rows);
    }
}

/// A product with its shapes checked.
struct Job<'a> {
    panels: &'a BytePanels,
    y: RowsMut<'a>,
    x: &'a ByteRows,
    /// Of the rows of x.
    stride: usize,
    bias: Option<&'a [f32]>,
    accumulate: bool,
}

/// In any CPU's instructions.
fn plain(job: Job<'_>, rows: usize) {
    let Job { panels, y, x, stride, bias, accumulate } = job;
    for (row, bytes) in x.values.chunks_exact(stride).take(rows).enumerate() {
        for column in 0..panels.width {
            let panel = &panels.values[column / PANEL * PANEL * stride..];
            let place = column % PANEL * GROUP;
            let of_group = |(group, bytes): (usize, &[u8])| -> i32 {
                let weights = &panel[group * PANEL * GROUP + place..][..GROUP];
                bytes.iter().zip(weights).map(|(&u, &q)| i32::from(u) * i32::from(q)).sum()
            };
            let sum: i32 = bytes.chunks_exact(GROUP).enumerate().map(of_group).sum();
            let scaled = x.scales[row] * (panels.scales[column] * sum as f32);
            let value = x.lows[row].mul_add(panels.sums[column], scaled);
            let value = value + bias.map_or(0.0, |bias| bias[column]);
            let place = &mut y.values[row * y.stride + column];
            *place = if accumulate { *place + value } else { value };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod vnni {
    use super::{GROUP, Job, PANEL, TILE_ROWS, steps};
    use crate::vit::kernels::packed::vnni::{Bytes, LANES, sums};
    use std::arch::x86_64::{
        __m512i, _mm512_add_ps, _mm512_cvtepi32_ps, _mm512_cvttps_epi32, _mm512_fmadd_ps, _mm512_loadu_ps,
        _mm512_mask_cvtusepi32_storeu_epi8, _mm512_mask_max_ps, _mm512_mask_min_ps, _mm512_mask_storeu_ps,
        _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_reduce_max_ps, _mm512_reduce_min_ps, _mm512_set1_ps,
        _mm512_sub_ps,
    };

    /// Of a panel.
    const VECTORS: usize = PANEL / LANES;

    /// [`super::quantise`].
    ///
    /// # Safety
    /// The CPU has the instructions, and there are as many bytes as numbers.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn quantise(bytes: &mut [u8], x: &[f32]) -> (f32, f32) {
        let mask_of = |first: usize| 0xffff_u16 >> (LANES - (x.len() - first).min(LANES));
        let mut lows = _mm512_set1_ps(f32::INFINITY);
        let mut highs = _mm512_set1_ps(f32::NEG_INFINITY);
        for first in (0..x.len()).step_by(LANES) {
            // SAFETY: the mask leaves out what lies behind the row.
            unsafe {
                let mask = mask_of(first);
                let values = _mm512_maskz_loadu_ps(mask, x.as_ptr().add(first));
                lows = _mm512_mask_min_ps(lows, mask, lows, values);
                highs = _mm512_mask_max_ps(highs, mask, highs, values);
            }
        }
        let low = _mm512_reduce_min_ps(lows);
        let (scale, inverse) = steps(low, _mm512_reduce_max_ps(highs));
        let (low_of_all, inverse) = (_mm512_set1_ps(low), _mm512_set1_ps(inverse));
        let half = _mm512_set1_ps(0.5);
        for first in (0..x.len()).step_by(LANES) {
            // SAFETY: as above.
            unsafe {
                let mask = mask_of(first);
                let values = _mm512_maskz_loadu_ps(mask, x.as_ptr().add(first));
                let level = _mm512_fmadd_ps(_mm512_sub_ps(values, low_of_all), inverse, half);
                let level = _mm512_cvttps_epi32(level);
                _mm512_mask_cvtusepi32_storeu_epi8(bytes.as_mut_ptr().add(first).cast(), mask, level);
            }
        }
        (scale, low)
    }

    /// # Safety
    /// The CPU has the instructions, and shapes are as [`super::BytePanels::product`] checks them.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) unsafe fn product(mut job: Job<'_>, rows: usize) {
        let panels = job.panels.width.div_ceil(PANEL);
        for panel in 0..panels {
            for row in (0..rows).step_by(TILE_ROWS) {
                // SAFETY: the caller's; no more rows than there are.
                unsafe {
                    match rows - row {
                        1 => tile::<1>(&mut job, panel, row),
                        2 => tile::<2>(&mut job, panel, row),
                        3 => tile::<3>(&mut job, panel, row),
                        4 => tile::<4>(&mut job, panel, row),
                        5 => tile::<5>(&mut job, panel, row),
                        _ => tile::<TILE_ROWS>(&mut job, panel, row),
                    }
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn tile<const ROWS: usize>(job: &mut Job<'_>, panel: usize, row: usize) {
        // SAFETY: the rows lie in x; panels are whole.
        unsafe {
            let weights = job.panels.values.as_ptr().add(panel * PANEL * job.stride);
            let x = job.x.values.as_ptr().add(row * job.stride);
            let sums = sums::<Bytes, ROWS, VECTORS>(x.cast(), job.stride, weights.cast(), job.stride / GROUP);
            finish(job, panel, row, &sums);
        }
    }

    /// From integers to numbers.
    #[target_feature(enable = "avx512f")]
    unsafe fn finish<const ROWS: usize>(
        job: &mut Job<'_>,
        panel: usize,
        first_row: usize,
        sums: &[[__m512i; VECTORS]; ROWS],
    ) {
        for vector in 0..VECTORS {
            let column = panel * PANEL + vector * LANES;
            if column >= job.panels.width {
                return;
            }
            let count = (job.panels.width - column).min(LANES);
            let mask = 0xffff_u16 >> (LANES - count);
            // SAFETY: scales and sums are padded to whole panels; the mask leaves out columns that do not exist; the rows
            // lie in y.
            unsafe {
                let scales = _mm512_loadu_ps(job.panels.scales.as_ptr().add(column));
                let totals = _mm512_loadu_ps(job.panels.sums.as_ptr().add(column));
                let bias = job.bias.map(|bias| _mm512_maskz_loadu_ps(mask, bias.as_ptr().add(column)));
                for (row, sums) in sums.iter().enumerate() {
                    let row = first_row + row;
                    let place = job.y.values.as_mut_ptr().add(row * job.y.stride + column);
                    let scaled = _mm512_mul_ps(scales, _mm512_cvtepi32_ps(sums[vector]));
                    let scaled = _mm512_mul_ps(_mm512_set1_ps(job.x.scales[row]), scaled);
                    let mut value = _mm512_fmadd_ps(_mm512_set1_ps(job.x.lows[row]), totals, scaled);
                    if let Some(bias) = bias {
                        value = _mm512_add_ps(value, bias);
                    }
                    if job.accumulate {
                        value = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, place), value);
                    }
                    _mm512_mask_storeu_ps(place, mask, value);
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

    /// Both ways to the same bytes, at lengths with and without a last vector that is not full.
    #[test]
    fn rows_become_the_same_bytes() {
        for length in [1, 15, 16, 17, 48, 131] {
            let x = values(length, 0.7);
            let [mut one, mut other] = [vec![0; length], vec![0; length]];
            assert_eq!(quantise(&mut one, &x), plain_quantise(&mut other, &x));
            assert_eq!(one, other);
            assert_eq!(one.iter().min(), Some(&0));
            assert!(length == 1 || one.iter().max() == Some(&255));
        }
    }

    /// Both executions against each other to the bit, and against floats within what bytes can say.
    #[test]
    fn bytes_come_close_to_floats() {
        for (rows, depth, width) in [(1, 5, 1), (7, 33, 16), (13, 64, 70), (20, 130, 200)] {
            let (x, weight) = (values(rows * depth, 0.7), values(width * depth, 1.3));
            let (bias, old) = (values(width, 0.9), values(rows * (width + 3), 0.4));
            let panels = BytePanels::new(&weight, depth);
            let mut bytes = ByteRows::new(rows, depth + 9);
            bytes.fill(&x, depth);
            let run = |fast, onto: Onto<'_>| {
                let mut y = old.clone();
                panels.product_by(RowsMut { values: &mut y, stride: width + 3 }, &bytes, rows, onto, fast);
                y
            };
            for (onto, added) in [
                (Onto::Nothing, [0.0, 0.0]),
                (Onto::Bias(&bias), [1.0, 0.0]),
                (Onto::Old, [0.0, 1.0]),
                (Onto::OldAndBias(&bias), [1.0, 1.0]),
            ] {
                let y = run(false, onto);
                if BytePanels::are_fast() {
                    assert_eq!(y, run(true, onto));
                }
                for (place, (y, old)) in y.iter().zip(&old).enumerate() {
                    let (row, column) = (place / (width + 3), place % (width + 3));
                    if column >= width {
                        assert!((y - old).abs() < 1e-12, "nothing is written beside the product");
                        continue;
                    }
                    let sum: f32 = (0..depth).map(|k| x[row * depth + k] * weight[column * depth + k]).sum();
                    let expected = sum + added[0] * bias[column] + added[1] * old;
                    // Each factor is off by at most half a step of 2.4/255 or 1.2/127; errors add up like noise.
                    let tolerance = 0.02 * (depth as f32).sqrt();
                    assert!((y - expected).abs() < tolerance, "{rows}x{depth}x{width}: {y}, not {expected}");
                }
            }
        }
    }

    #[test]
    fn constant_rows_are_exact() {
        let panels = BytePanels::new(&[1.0, -1.0, 0.5, 127.0, 0.0, 64.0], 3);
        let mut bytes = ByteRows::new(2, 3);
        bytes.fill(&[2.5; 3].into_iter().chain([0.0; 3]).collect::<Vec<_>>(), 3);
        let mut y = [f32::NAN; 4];
        panels.product(RowsMut { values: &mut y, stride: 2 }, &bytes, 2, Onto::Nothing);
        assert!((y[0] - 1.25).abs() < 0.02 && (y[1] - 477.5).abs() < 1e-3, "{y:?}");
        assert!(y[2].abs() < 1e-12 && y[3].abs() < 1e-12);
    }
}
