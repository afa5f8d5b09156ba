//! Working memory, kept from one call to the next.

use super::Precision;
use super::attention::{Operands, QUERIES};
use crate::vit::kernels::packed::{ByteRows, Instructions, TILE_ROWS};

/// Activations of some images.
#[derive(Default)]
pub(super) struct Workspace {
    /// The residual stream, `[images · T, D]`.
    pub(super) x: Vec<f32>,
    /// Queries, keys and values `[images · T, 3·D]`; in a block that computes CLS alone, keys and values `[images · T, 2·D]`.
    pub(super) qkv: Vec<f32>,
    /// What heads attended to, `[images, heads, queries, D / heads]`.
    pub(super) attended: Vec<f32>,
    /// CLS rows `[images, D]`.
    pub(super) cls: Vec<f32>,
    /// Their queries, `[images, D]`.
    pub(super) queries: Vec<f32>,
    /// All patches of a crop that several images share, `[grid², D]`.
    pub(super) patches: Vec<f32>,
}

impl Workspace {
    /// Of x, qkv and the attended, in widths.
    pub(super) const FLOATS_PER_ROW: usize = 5;

    pub(super) fn make_room(&mut self, images: usize, tokens: usize, width: usize) {
        let rows = images * tokens * width;
        let lengths = [rows, 3 * rows, rows, images * width, images * width];
        let Self { x, qkv, attended, cls, queries, .. } = self;
        for (buffer, length) in [x, qkv, attended, cls, queries].into_iter().zip(lengths) {
            if buffer.len() < length {
                buffer.resize(length, 0.0);
            }
        }
    }
}

/// How many rows, the widest of so many numbers, may be under way at a time: what lies between two maps is to stay in the
/// second-level cache.
pub(super) fn most_rows(widest: usize) -> usize {
    const HALF_OF_CACHE: usize = 1 << 17;
    (HALF_OF_CACHE / widest).clamp(4 * TILE_ROWS, 16 * TILE_ROWS) / TILE_ROWS * TILE_ROWS
}

/// What decides how much scratch a thread needs.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    /// The most tokens of an image.
    pub(super) tokens: usize,
    pub(super) width: usize,
    pub(super) hidden: usize,
    /// Width of a head.
    pub(super) head: usize,
    /// Numbers of a patch.
    pub(super) patch: usize,
    /// The most rows of tokens that go through linear maps at a time.
    pub(super) rows: usize,
    pub(super) precision: Precision,
    pub(super) instructions: Instructions,
}

/// Working memory of one thread.
pub(super) struct Scratch {
    /// Some rows of D.
    pub(super) rows: Vec<f32>,
    /// The same rows inside the MLP; pixels of some patches.
    pub(super) hidden: Vec<f32>,
    /// Scores of some queries against all keys.
    pub(super) scores: Vec<f32>,
    pub(super) operands: Operands,
    /// Rows of activations on their way into a product of bytes.
    pub(super) bytes: ByteRows,
}

impl Scratch {
    pub(super) fn new(sizes: &Sizes) -> Self {
        let &Sizes { tokens, width, hidden, head, patch, rows, precision, instructions } = sizes;
        Self {
            rows: vec![0.0; rows * width],
            hidden: vec![0.0; rows * hidden.max(patch)],
            scores: vec![0.0; QUERIES * tokens],
            operands: Operands::new(tokens, head, precision, instructions),
            bytes: match precision {
                Precision::F32 => ByteRows::default(),
                Precision::Int8 | Precision::Mixed => ByteRows::new(rows, width.max(hidden)),
            },
        }
    }
}
