//! The inverse discrete cosine transform, to blocks of 8, 4, 2 or 1 samples a side.
//!
//! A block of 8 becomes one of n when its coefficients are taken for those of n samples: high frequencies are left out,
//! which is what antialiasing does too.

use std::f32::consts::FRAC_1_SQRT_2;

use super::header::ZIGZAG;

/// From a block to the start of a slice of a plane, which has so many samples a line.
type Inverse = fn(&[f32; 64], &mut [f32], usize);

/// How a component's coefficients become samples.
pub(super) struct Transform {
    /// Samples of a block, horizontally and vertically.
    pub(super) size: (usize, usize),
    /// By position in the file: the factor of a coefficient, which undoes the quantisation.
    factors: [f32; 64],
    /// By position in the file: where it belongs, row by row of `size`; those left out, last.
    places: [u8; 64],
    /// The last position in the file of those that count.
    pub(super) last: usize,
    inverse: Inverse,
}

impl Transform {
    /// For blocks of `size` samples, each 1, 2, 4 or 8.
    pub(super) fn new(size: (usize, usize), quantisation: &[u16; 64]) -> Option<Self> {
        let inverse = inverse_of(size)?;
        let mut transform = Self { size, factors: [0.0; 64], places: [63; 64], last: 0, inverse };
        let factor = |frequency| if frequency == 0 { FRAC_1_SQRT_2 / 2.0 } else { 0.5 };
        for (position, &natural) in ZIGZAG.iter().enumerate() {
            let (column, row) = (usize::from(natural % 8), usize::from(natural / 8));
            if column < size.0 && row < size.1 {
                transform.factors[position] =
                    factor(column) * factor(row) * f32::from(quantisation[position]);
                transform.places[position] = (row * size.0 + column) as u8;
                transform.last = position;
            }
        }
        Some(transform)
    }

    /// Puts a coefficient into its place.
    #[expect(clippy::inline_always, reason = "called for every coefficient")]
    #[inline(always)]
    pub(super) fn put(&self, block: &mut [f32; 64], position: usize, value: i32) {
        block[usize::from(self.places[position] & 63)] = self.factors[position] * value as f32;
    }

    /// Transforms a block, and writes its samples into a plane from the start of the slice on.
    #[inline]
    pub(super) fn inverse(&self, block: &[f32; 64], plane: &mut [f32], stride: usize) {
        (self.inverse)(block, plane, stride);
    }
}

fn inverse_of(size: (usize, usize)) -> Option<Inverse> {
    Some(match size {
        (1, 1) => inverse::<1, 1>,
        (1, 2) => inverse::<1, 2>,
        (2, 1) => inverse::<2, 1>,
        (2, 2) => inverse::<2, 2>,
        (2, 4) => inverse::<2, 4>,
        (4, 2) => inverse::<4, 2>,
        (4, 4) => inverse::<4, 4>,
        (4, 8) => inverse::<4, 8>,
        (8, 4) => inverse::<8, 4>,
        (8, 8) => inverse::<8, 8>,
        _ => return None,
    })
}

/// Columns, then rows.
fn inverse<const WIDTH: usize, const HEIGHT: usize>(block: &[f32; 64], plane: &mut [f32], stride: usize) {
    let mut rows: [[f32; WIDTH]; HEIGHT] =
        std::array::from_fn(|row| std::array::from_fn(|column| block[row * WIDTH + column]));
    combine(&mut rows);
    let mut columns: [[f32; HEIGHT]; WIDTH] =
        std::array::from_fn(|column| std::array::from_fn(|row| rows[row][column]));
    combine(&mut columns);
    for (row, samples) in plane.chunks_mut(stride).take(HEIGHT).enumerate() {
        if let Some(samples) = samples.first_chunk_mut::<WIDTH>() {
            *samples = std::array::from_fn(|column| columns[column][row]);
        }
    }
}

/// One-dimensional transforms side by side: `lines[u]` holds frequency u of each, then sample u.
#[inline]
fn combine<const SIDE: usize, const COUNT: usize>(lines: &mut [[f32; SIDE]; COUNT]) {
    match &mut lines[..] {
        [a, b] => {
            for (a, b) in a.iter_mut().zip(b) {
                let odd = FRAC_1_SQRT_2 * *b;
                (*a, *b) = (*a + odd, *a - odd);
            }
        }
        [a, b, c, d] => {
            for index in 0..SIDE {
                let [w, x, y, z] = four([a[index], b[index], c[index], d[index]]);
                (a[index], b[index], c[index], d[index]) = (w, x, y, z);
            }
        }
        [a, b, c, d, e, f, g, h] => {
            for index in 0..SIDE {
                let even = four([a[index], c[index], e[index], g[index]]);
                let odd = four_odd([b[index], d[index], f[index], h[index]]);
                (a[index], h[index]) = (even[0] + odd[0], even[0] - odd[0]);
                (b[index], g[index]) = (even[1] + odd[1], even[1] - odd[1]);
                (c[index], f[index]) = (even[2] + odd[2], even[2] - odd[2]);
                (d[index], e[index]) = (even[3] + odd[3], even[3] - odd[3]);
            }
        }
        _ => {}
    }
}

/// Four frequencies to four samples.
#[inline]
fn four([a, b, c, d]: [f32; 4]) -> [f32; 4] {
    // cos π/8 and cos 3π/8.
    const LONG: f32 = 0.923_879_5;
    const SHORT: f32 = 0.382_683_43;
    let middle = FRAC_1_SQRT_2 * c;
    let (outer, inner) = (a + middle, a - middle);
    let (first, second) = (LONG * b + SHORT * d, SHORT * b - LONG * d);
    [outer + first, inner + second, inner - second, outer - first]
}

/// The odd four of eight frequencies to their share of the first four samples; the last four have it negated.
#[inline]
fn four_odd([a, b, c, d]: [f32; 4]) -> [f32; 4] {
    // cos nπ/16 for n = 1, 3, 5, 7.
    const ONE: f32 = 0.980_785_25;
    const THREE: f32 = 0.831_469_6;
    const FIVE: f32 = 0.555_570_24;
    const SEVEN: f32 = 0.195_090_32;
    [
        ONE * a + THREE * b + FIVE * c + SEVEN * d,
        THREE * a - SEVEN * b - ONE * c - FIVE * d,
        FIVE * a - ONE * b + SEVEN * c + THREE * d,
        SEVEN * a - FIVE * b + THREE * c - ONE * d,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition (ITU-T T.81, A.3.3), for any number of samples.
    fn definition(block: &[[f64; 8]; 8], (width, height): (usize, usize), x: usize, y: usize) -> f64 {
        let cosine = |place: usize, frequency: usize, count: usize| {
            let scale = if frequency == 0 { 0.5_f64.sqrt() / 2.0 } else { 0.5 };
            scale
                * ((2 * place + 1) as f64 * frequency as f64 * std::f64::consts::PI / (2 * count) as f64)
                    .cos()
        };
        let terms = (0..height).flat_map(|v| (0..width).map(move |u| (u, v)));
        terms.map(|(u, v)| block[v][u] * cosine(x, u, width) * cosine(y, v, height)).sum()
    }

    #[test]
    fn all_sizes_follow_the_definition() {
        let quantisation: [u16; 64] = std::array::from_fn(|position| position as u16 % 7 + 1);
        let values: [i32; 64] = std::array::from_fn(|position| (position as i32 * 37) % 41 - 20);
        let mut coefficients = [[0.0; 8]; 8];
        for (position, &natural) in ZIGZAG.iter().enumerate() {
            coefficients[usize::from(natural / 8)][usize::from(natural % 8)] =
                f64::from(values[position]) * f64::from(quantisation[position]);
        }
        for size in [(1, 1), (1, 2), (2, 1), (2, 2), (2, 4), (4, 2), (4, 4), (4, 8), (8, 4), (8, 8)] {
            let transform = Transform::new(size, &quantisation).unwrap();
            let mut block = [0.0; 64];
            for (position, &value) in values.iter().enumerate() {
                transform.put(&mut block, position, value);
            }
            let mut plane = [0.0; 80];
            transform.inverse(&block, &mut plane, 10);
            for y in 0..size.1 {
                for x in 0..size.0 {
                    let expected = definition(&coefficients, size, x, y);
                    let difference = f64::from(plane[10 * y + x]) - expected;
                    assert!(difference.abs() < 1e-3, "{size:?} at {x}, {y}: {difference} off {expected}");
                }
            }
        }
    }
}
