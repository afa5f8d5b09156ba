//! The innermost loops: tiles of a product, kept in registers while a panel goes by.

#![expect(unsafe_code, reason = "vector instructions on raw pointers")]
#![expect(clippy::inline_always, reason = "code is compiled for an instruction set only where it is inlined")]

#[cfg(target_arch = "x86_64")]
use super::vectors::{Avx2, Avx512};
use super::vectors::{Portable, Vector};
use super::{Instructions, Onto, Panels, Rows, RowsMut};

/// Rows of a tile.
pub(in crate::vit) const TILE_ROWS: usize = 6;

/// A tile's surroundings.
#[derive(Clone, Copy)]
struct Tile<'a> {
    /// First element of the tile in y, and the distance of its rows.
    y: *mut f32,
    y_stride: usize,
    /// First of its rows in x, and their distance.
    x: *const f32,
    x_stride: usize,
    depth: usize,
    panel: *const f32,
    /// Columns of the tile that exist.
    columns: usize,
    /// Of these columns.
    bias: Option<&'a [f32]>,
    accumulate: bool,
}

/// `y = x · panels`, onto what [`Onto`] says. Shapes are checked by the caller.
///
/// # Safety
/// The CPU has the instructions; `x` is `[rows, depth]`, `y` `[rows, width]`, and a bias as long as the width.
pub(super) unsafe fn product(
    panels: &Panels<'_>,
    y: &mut RowsMut<'_>,
    x: &Rows<'_>,
    rows: usize,
    onto: Onto<'_>,
) {
    // SAFETY: the caller's.
    unsafe {
        match panels.instructions {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => with_avx512(panels, y, x, rows, onto),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => with_avx2(panels, y, x, rows, onto),
            Instructions::Portable => with::<Portable, 4>(panels, y, x, rows, onto),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn with_avx512(panels: &Panels<'_>, y: &mut RowsMut<'_>, x: &Rows<'_>, rows: usize, onto: Onto<'_>) {
    // SAFETY: the caller's.
    unsafe { with::<Avx512, 4>(panels, y, x, rows, onto) };
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn with_avx2(panels: &Panels<'_>, y: &mut RowsMut<'_>, x: &Rows<'_>, rows: usize, onto: Onto<'_>) {
    // SAFETY: the caller's.
    unsafe { with::<Avx2, 2>(panels, y, x, rows, onto) };
}

/// A panel is `VECTORS` vectors wide.
#[inline(always)]
unsafe fn with<V: Vector, const VECTORS: usize>(
    panels: &Panels<'_>,
    y: &mut RowsMut<'_>,
    x: &Rows<'_>,
    rows: usize,
    onto: Onto<'_>,
) {
    let (bias, accumulate) = match onto {
        Onto::Nothing => (None, false),
        Onto::Bias(bias) => (Some(bias), false),
        Onto::Old => (None, true),
        Onto::OldAndBias(bias) => (Some(bias), true),
    };
    let panel = VECTORS * V::LANES;
    for first in (0..panels.width).step_by(panel) {
        let columns = (panels.width - first).min(panel);
        for row in (0..rows).step_by(TILE_ROWS) {
            // SAFETY: row and column are within y, the row within x, and the panels before this one hold first · depth
            // values.
            unsafe {
                let tile = Tile {
                    y: y.values.as_mut_ptr().add(row * y.stride + first),
                    y_stride: y.stride,
                    x: x.values.as_ptr().add(row * x.stride),
                    x_stride: x.stride,
                    depth: panels.depth,
                    panel: panels.values.as_ptr().add(first * panels.depth),
                    columns,
                    bias: bias.map(|bias| &bias[first..first + columns]),
                    accumulate,
                };
                match columns.div_ceil(V::LANES) {
                    1 => rows_of_tile::<V, 1>(tile, rows - row),
                    2 => rows_of_tile::<V, 2>(tile, rows - row),
                    3 if VECTORS > 2 => rows_of_tile::<V, 3>(tile, rows - row),
                    _ => rows_of_tile::<V, VECTORS>(tile, rows - row),
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn rows_of_tile<V: Vector, const VECTORS: usize>(tile: Tile<'_>, rows: usize) {
    // SAFETY: as the caller's; no more rows than there are.
    unsafe {
        match rows {
            1 => multiply::<V, 1, VECTORS>(tile),
            2 => multiply::<V, 2, VECTORS>(tile),
            3 => multiply::<V, 3, VECTORS>(tile),
            4 => multiply::<V, 4, VECTORS>(tile),
            5 => multiply::<V, 5, VECTORS>(tile),
            _ => multiply::<V, TILE_ROWS, VECTORS>(tile),
        }
    }
}

#[inline(always)]
unsafe fn multiply<V: Vector, const ROWS: usize, const VECTORS: usize>(tile: Tile<'_>) {
    let mut sums = [[V::splat(0.0); VECTORS]; ROWS];
    // SAFETY: the tile's ROWS rows and columns lie in x, in y, and in the panel, whose rows are padded to whole vectors.
    unsafe {
        for k in 0..tile.depth {
            let mut weights = [V::splat(0.0); VECTORS];
            for (vector, weights) in weights.iter_mut().enumerate() {
                *weights = V::load(tile.panel.add((k * VECTORS + vector) * V::LANES));
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let x = V::splat(*tile.x.add(row * tile.x_stride + k));
                for (sum, &weight) in sums.iter_mut().zip(&weights) {
                    *sum = x.mul_add(weight, *sum);
                }
            }
        }
        // A copy: what is indexed by a variable lives in memory, and the sums must stay in registers above.
        let finished = sums;
        for vector in 0..VECTORS {
            let first = vector * V::LANES;
            let count = (tile.columns - first).min(V::LANES);
            let bias = tile.bias.map(|bias| V::load_first(bias.as_ptr().add(first), count));
            for (row, sums) in finished.iter().enumerate() {
                let place = tile.y.add(row * tile.y_stride + first);
                let mut sum = sums[vector];
                if let Some(bias) = bias {
                    sum = sum.add(bias);
                }
                if count == V::LANES {
                    let sum = if tile.accumulate { sum.add(V::load(place)) } else { sum };
                    sum.store(place);
                } else {
                    let sum = if tile.accumulate { sum.add(V::load_first(place, count)) } else { sum };
                    sum.store_first(place, count);
                }
            }
        }
    }
}
