//! Attention; see source/attention.cuh.

use super::{Element, Launch};

/// Threads of a block.
const THREADS: u32 = 128;
/// Rows of a block: 16 for each warp.
const OWN: usize = 64;
/// Largest extent of a grid's second and third dimension.
const MOST: usize = 65_535;

/// Packed `[batch, tokens, 3·width]`.
#[derive(Clone, Copy, Debug)]
pub(in crate::vit) struct Attention {
    pub(in crate::vit) element: Element,
    pub(in crate::vit) batch: usize,
    pub(in crate::vit) tokens: usize,
    pub(in crate::vit) width: usize,
    pub(in crate::vit) heads: usize,
}

impl Attention {
    /// Whether there are kernels for these shapes.
    pub(in crate::vit) fn is_supported(self) -> bool {
        let Self { batch, tokens, width, heads, .. } = self;
        let head_fits = heads > 0 && width % heads == 0 && [32, 64].contains(&(width / heads));
        head_fits && tokens > 0 && (1..=MOST).contains(&batch) && heads <= MOST
    }

    /// Length of the arrays with one number for each row of each head.
    pub(in super::super) fn rows(self) -> usize {
        self.batch * self.heads * self.tokens
    }

    /// `out` and the rows' logarithms of sums from `[qkv, out, logsums]`; `logsums` is 0 where no backward pass follows.
    pub(in crate::vit) fn forward(self, arrays: [u64; 3]) -> Launch {
        self.launch("attention_forward", OWN).addresses(arrays).ints([self.tokens, self.width])
    }

    /// The same of one query a head, the first token's: from `queries` `[batch, width]`, the packed keys and values
    /// `[batch, tokens, 2·width]`, to `out` `[batch, width]`.
    pub(in crate::vit) fn first(self, arrays: [u64; 3]) -> Launch {
        let kernel = format!("attention_first_{}_{}", self.element.name(), self.width / self.heads);
        Launch::new(kernel, [self.heads, self.batch, 1], THREADS)
            .addresses(arrays)
            .ints([self.tokens, self.width])
    }

    /// From the output, its gradient and what the forward pass kept to the gradient of qkv, which is written whole.
    pub(in super::super) fn backward(
        self,
        qkv: u64,
        [out, gradient, logsums, deltas]: [u64; 4],
        qkv_gradient: u64,
    ) -> [Launch; 3] {
        let shape = [self.tokens, self.width];
        let inputs = [qkv, gradient, logsums, deltas, qkv_gradient];
        let rows_of_deltas = THREADS as usize / 32;
        [
            self.launch("attention_delta", rows_of_deltas).addresses([out, gradient, deltas]).ints(shape),
            self.launch("attention_backward_keys", OWN).addresses(inputs).ints(shape),
            self.launch("attention_backward_queries", OWN).addresses(inputs).ints(shape),
        ]
    }

    fn launch(self, name: &str, rows: usize) -> Launch {
        let kernel = format!("{name}_{}_{}", self.element.name(), self.width / self.heads);
        Launch::new(kernel, [self.tokens.div_ceil(rows), self.heads, self.batch], THREADS)
    }
}
