//! Kernels over the elements or the rows of a matrix.

use super::{Element, Launch, MOST_BLOCKS, THREADS, WARP, WARPS};

/// Partial sums of a sum over rows: bounds the memory they take and the length of their own sum.
const MOST_STRIPES: usize = 256;

/// Rows that make up one partial sum.
fn stripe(rows: usize) -> usize {
    rows.div_ceil(MOST_STRIPES).next_multiple_of(WARPS)
}

/// Number of partial sums over `rows` rows.
pub(in super::super) fn stripes(rows: usize) -> usize {
    rows.div_ceil(stripe(rows))
}

/// Neighbours a thread takes at a time. Arrays begin at multiples of 16 bytes, rows only where the width allows it.
fn pack(width: usize) -> usize {
    if width.is_multiple_of(4) { 4 } else { 1 }
}

/// A packed matrix of activations `[rows, width]`.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_field_names, reason = "rows are what it has")]
pub(in crate::vit) struct Rows {
    pub(in crate::vit) element: Element,
    pub(in crate::vit) rows: usize,
    pub(in crate::vit) width: usize,
}

/// Activations whose shape does not matter.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Elements {
    pub(in super::super) element: Element,
    pub(in super::super) count: usize,
}

impl Rows {
    fn kernel(self, name: &str) -> String {
        format!("{name}_{}_{}", self.element.name(), pack(self.width))
    }

    fn over_elements(self, name: &str) -> Launch {
        let blocks = (self.rows * self.width).div_ceil(THREADS as usize * pack(self.width));
        Launch::new(self.kernel(name), [blocks.min(MOST_BLOCKS), 1, 1], THREADS)
    }

    fn over_rows(self, kernel: String) -> Launch {
        Launch::new(kernel, [self.rows.div_ceil(WARPS), 1, 1], THREADS)
    }

    /// `y` from `[x, weight, bias, y]`.
    pub(in crate::vit) fn layer_norm(self, arrays: [u64; 4], eps: f32) -> Launch {
        let kernel = self.kernel("layer_norm_forward");
        self.over_rows(kernel).addresses(arrays).ints([self.rows, self.width]).floats([eps])
    }

    /// `dx` from `[x, weight, dy, dx]`, and the gradients of weight and bias, `[2, width]`, to `sums`; `partial` is
    /// `[stripes, 2·width]`.
    pub(in super::super) fn layer_norm_backward(
        self,
        arrays: [u64; 4],
        partial: u64,
        sums: u64,
        eps: f32,
    ) -> [Launch; 2] {
        let stripes = stripes(self.rows);
        let first = Launch::new(self.kernel("layer_norm_backward"), [stripes, 1, 1], THREADS)
            .addresses(arrays)
            .addresses([partial])
            .ints([self.rows, self.width, stripe(self.rows)])
            .floats([eps]);
        [first, sum_stripes(partial, sums, stripes, 2 * self.width)]
    }

    /// Adds `bias` `[width]` to `y`.
    pub(in super::super) fn add_bias(self, y: u64, bias: u64) -> Launch {
        self.over_elements("add_bias").addresses([y, bias]).long(self.rows * self.width).ints([self.width])
    }

    /// Adds `bias` to `h`, and gelu(h) to `y`.
    pub(in super::super) fn add_bias_gelu(self, h: u64, bias: u64, y: u64) -> Launch {
        self.over_elements("add_bias_gelu")
            .addresses([h, bias, y])
            .long(self.rows * self.width)
            .ints([self.width])
    }

    /// The sums of the columns of `dy` `[width]`; `partial` is `[stripes, width]`.
    pub(in super::super) fn column_sums(self, dy: u64, partial: u64, sums: u64) -> [Launch; 2] {
        self.sums("column_sums", &[dy], partial, sums)
    }

    /// `dh` = dy ⊙ gelu'(h) from `[dy, h, dh]`, and the sums of its columns.
    pub(in super::super) fn gelu_column_sums(self, arrays: [u64; 3], partial: u64, sums: u64) -> [Launch; 2] {
        self.sums("gelu_column_sums", &arrays, partial, sums)
    }

    fn sums(self, name: &str, arrays: &[u64], partial: u64, sums: u64) -> [Launch; 2] {
        let stripes = stripes(self.rows);
        let columns = self.width.div_ceil(WARP * pack(self.width));
        let mut first = Launch::new(self.kernel(name), [columns, stripes, 1], THREADS);
        for &array in arrays {
            first = first.addresses([array]);
        }
        let first = first.addresses([partial]).ints([self.rows, self.width, stripe(self.rows)]);
        [first, sum_stripes(partial, sums, stripes, self.width)]
    }

    /// Unit rows and the inverse lengths `[rows]` from `[x, unit, inverse]`; f32.
    pub(in super::super) fn unit_rows(self, arrays: [u64; 3]) -> Launch {
        self.over_rows("unit_rows_forward".into()).addresses(arrays).ints([self.rows, self.width])
    }

    /// From `[unit, inverse, gradient, dx]`; f32.
    pub(in super::super) fn unit_rows_backward(self, arrays: [u64; 4]) -> Launch {
        self.over_rows("unit_rows_backward".into()).addresses(arrays).ints([self.rows, self.width])
    }

    /// `logits` becomes the logarithm of the softmax of `scale · logits`; f32.
    pub(in super::super) fn log_softmax(self, logits: u64, scale: f32) -> Launch {
        self.over_rows("log_softmax_forward".into())
            .addresses([logits])
            .ints([self.rows, self.width])
            .floats([scale])
    }

    /// The gradient of the unscaled logits from `[out, gradient, dx]`; f32.
    pub(in super::super) fn log_softmax_backward(self, arrays: [u64; 3], scale: f32) -> Launch {
        self.over_rows("log_softmax_backward".into())
            .addresses(arrays)
            .ints([self.rows, self.width])
            .floats([scale])
    }
}

impl Elements {
    /// `[x, y]`.
    pub(in super::super) fn gelu(self, arrays: [u64; 2]) -> Launch {
        self.launch("gelu_forward").addresses(arrays).long(self.count)
    }

    /// `[x, dy, dx]`.
    pub(in super::super) fn gelu_backward(self, arrays: [u64; 3]) -> Launch {
        self.launch("gelu_backward").addresses(arrays).long(self.count)
    }

    fn launch(self, name: &str) -> Launch {
        Rows { element: self.element, rows: 1, width: self.count }.over_elements(name)
    }
}

fn sum_stripes(partial: u64, sums: u64, stripes: usize, width: usize) -> Launch {
    Launch::new("sum_stripes".into(), [width.div_ceil(WARP), 1, 1], THREADS)
        .addresses([partial, sums])
        .ints([stripes, width])
}
