//! Products of many short runs of rows with one weight, laid out once for all of them.
//!
//! A general matrix product lays both operands out anew on every call. The rows at hand are few beside the columns of a
//! weight, so that took a tenth of a training step. Here a weight is cut into panels of a few vectors' columns, which a
//! kernel reads from front to back while it keeps a tile of the product in registers.

mod bytes;
mod tile;
mod vectors;
#[cfg(target_arch = "x86_64")]
mod vnni;
mod words;

pub(in crate::vit) use bytes::{BytePanels, ByteRows};
pub(in crate::vit) use tile::TILE_ROWS;
pub(in crate::vit) use words::{WordPanels, WordRows};

use rayon::prelude::*;

/// Elements from which on packing is shared among threads.
const WORTH_SHARING: usize = 1 << 16;

/// A matrix inside a slice: rows `stride` elements apart.
#[derive(Clone, Copy)]
pub(in crate::vit) struct Rows<'a> {
    pub(in crate::vit) values: &'a [f32],
    pub(in crate::vit) stride: usize,
}

/// The same to be written.
pub(in crate::vit) struct RowsMut<'a> {
    pub(in crate::vit) values: &'a mut [f32],
    pub(in crate::vit) stride: usize,
}

/// What a product is added to.
#[derive(Clone, Copy)]
pub(in crate::vit) enum Onto<'a> {
    Nothing,
    /// A row of as many elements as the weight has columns.
    Bias(&'a [f32]),
    /// What the destination holds.
    Old,
    OldAndBias(&'a [f32]),
}

/// The instruction set of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::vit) enum Instructions {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Instructions {
    /// All that this CPU has, the best first.
    pub(in crate::vit) fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let vectors = [
            is_x86_feature_detected!("avx512f").then_some(Self::Avx512),
            (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self::Avx2),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let vectors = [];
        vectors.into_iter().flatten().chain([Self::Portable])
    }

    /// The best.
    pub(in crate::vit) fn best() -> Self {
        Self::available().next().unwrap_or(Self::Portable)
    }

    /// Elements of a vector; the rows of the last panel are padded to a multiple of it.
    fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => 16,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 8,
            Self::Portable => 4,
        }
    }

    /// Columns of a panel.
    fn panel(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => 64,
            _ => 16,
        }
    }

    /// Elements that panels of a weight take.
    pub(in crate::vit) fn packed_length(self, depth: usize, width: usize) -> usize {
        depth * width.next_multiple_of(self.lanes())
    }
}

/// A weight `[depth, width]` in panels, each row-major.
#[derive(Clone, Copy)]
pub(in crate::vit) struct Panels<'a> {
    values: &'a [f32],
    depth: usize,
    width: usize,
    instructions: Instructions,
}

impl<'a> Panels<'a> {
    /// What [`pack`] or [`pack_transposed`] wrote.
    pub(in crate::vit) fn new(
        values: &'a [f32],
        [depth, width]: [usize; 2],
        instructions: Instructions,
    ) -> Self {
        let values = &values[..instructions.packed_length(depth, width)];
        Self { values, depth, width, instructions }
    }

    /// `y = x · weight + onto` for `rows` rows of x.
    pub(in crate::vit) fn product(&self, mut y: RowsMut<'_>, x: Rows<'_>, rows: usize, onto: Onto<'_>) {
        if rows == 0 || self.width == 0 {
            return;
        }
        let fits = |length: usize, stride: usize, columns: usize| (rows - 1) * stride + columns <= length;
        assert!(
            fits(x.values.len(), x.stride, self.depth)
                && fits(y.values.len(), y.stride, self.width)
                && (rows == 1 || y.stride >= self.width),
            "a product's shapes differ"
        );
        if let Onto::Bias(bias) | Onto::OldAndBias(bias) = onto {
            assert_eq!(bias.len(), self.width, "a bias has an element for each column");
        }
        #[expect(unsafe_code, reason = "vector instructions on raw pointers")]
        // SAFETY: instructions come from `available`, and the shapes are as just checked.
        unsafe {
            tile::product(self, &mut y, &x, rows, onto);
        }
    }
}

/// Writes `weight` `[depth, width]` in panels.
pub(in crate::vit) fn pack(
    panels: &mut [f32],
    weight: Rows<'_>,
    shape: [usize; 2],
    instructions: Instructions,
) {
    each_panel(panels, shape, instructions, |panel, row, first, columns| {
        for (k, panel) in panel.chunks_exact_mut(row).enumerate() {
            let from = k * weight.stride + first;
            panel[..columns].copy_from_slice(&weight.values[from..from + columns]);
        }
    });
}

/// Writes the transpose of `weight` `[width, depth]` in panels.
pub(in crate::vit) fn pack_transposed(
    panels: &mut [f32],
    weight: Rows<'_>,
    shape: [usize; 2],
    instructions: Instructions,
) {
    /// Depths at a time, so that both sides stay in the cache.
    const DEPTHS: usize = 16;
    each_panel(panels, shape, instructions, |panel, row, first, columns| {
        for start in (0..shape[0]).step_by(DEPTHS) {
            let depths = start..shape[0].min(start + DEPTHS);
            for column in 0..columns {
                let from = &weight.values[(first + column) * weight.stride..][depths.clone()];
                for (k, &value) in depths.clone().zip(from) {
                    panel[k * row + column] = value;
                }
            }
        }
    });
}

/// Hands each panel to `write`, with the length of its rows, its first column and how many it has; clears the padding.
fn each_panel(
    panels: &mut [f32],
    [depth, width]: [usize; 2],
    instructions: Instructions,
    write: impl Fn(&mut [f32], usize, usize, usize) + Sync,
) {
    let panel = instructions.panel();
    let panels = &mut panels[..instructions.packed_length(depth, width)];
    let write = |(index, values): (usize, &mut [f32])| {
        let (first, row) = (index * panel, values.len() / depth);
        let columns = panel.min(width - first);
        if columns < row {
            values.fill(0.0);
        }
        write(values, row, first, columns);
    };
    if panels.len() < WORTH_SHARING {
        panels.chunks_mut(depth * panel).enumerate().for_each(write);
    } else {
        panels.par_chunks_mut(depth * panel).enumerate().for_each(write);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every instruction set against sums written out, at widths with every kind of last panel and tile.
    #[test]
    fn products_are_sums_of_products() {
        let values =
            |count: usize, pace: f32| (0..count).map(|n| (n as f32 * pace).sin()).collect::<Vec<f32>>();
        let shapes =
            [(1, 5, 1), (7, 33, 16), (13, 16, 40), (6, 3, 64), (20, 70, 150), (4, 128, 129), (5, 9, 27)];
        for (instructions, (rows, depth, width)) in
            Instructions::available().flat_map(|one| shapes.map(|shape| (one, shape)))
        {
            let (x_stride, y_stride) = (depth + 3, width + 5);
            let (x, weight) = (values(rows * x_stride, 0.7), values(depth * width, 1.3));
            let (bias, old) = (values(width, 0.9), values(rows * y_stride, 0.4));
            let mut turned = vec![0.0; weight.len()];
            for (place, value) in weight.iter().enumerate() {
                turned[(place % width) * depth + place / width] = *value;
            }
            let length = instructions.packed_length(depth, width);
            let (mut stored, mut transposed) = (vec![f32::NAN; length], vec![f32::NAN; length]);
            let shape = [depth, width];
            pack(&mut stored, Rows { values: &weight, stride: width }, shape, instructions);
            pack_transposed(&mut transposed, Rows { values: &turned, stride: depth }, shape, instructions);
            assert_eq!(stored, transposed);
            let panels = Panels::new(&stored, shape, instructions);
            for (onto, added) in [
                (Onto::Nothing, [0.0, 0.0]),
                (Onto::Bias(&bias), [1.0, 0.0]),
                (Onto::Old, [0.0, 1.0]),
                (Onto::OldAndBias(&bias), [1.0, 1.0]),
            ] {
                let mut y = old.clone();
                let to = RowsMut { values: &mut y, stride: y_stride };
                panels.product(to, Rows { values: &x, stride: x_stride }, rows, onto);
                for (place, (y, old)) in y.iter().zip(&old).enumerate() {
                    let (row, column) = (place / y_stride, place % y_stride);
                    if column >= width {
                        assert!((y - old).abs() < 1e-12, "nothing is written beside the product");
                        continue;
                    }
                    let term =
                        |k: usize| f64::from(x[row * x_stride + k]) * f64::from(weight[k * width + column]);
                    let sum: f64 = (0..depth).map(term).sum();
                    let expected = sum + added[0] * f64::from(bias[column]) + added[1] * f64::from(*old);
                    let error = (f64::from(*y) - expected).abs();
                    assert!(
                        error < 1e-4,
                        "{instructions:?} {rows}x{depth}x{width}: {y} instead of {expected}"
                    );
                }
            }
        }
    }
}
