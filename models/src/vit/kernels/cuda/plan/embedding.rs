//! What embedding images launches beside LayerNorm and attention; see source/embedding.cuh.

use super::{Element, Launch, MOST_BLOCKS, Rows, THREADS, WARPS};

/// Bytes a thread moves at a time.
const PACK: usize = 16;

/// Tokens of images that are cut out of crops.
#[derive(Clone, Copy, Debug)]
pub(in crate::vit) struct PatchRows {
    pub(in crate::vit) element: Element,
    pub(in crate::vit) images: usize,
    /// Of an image: CLS and patches.
    pub(in crate::vit) tokens: usize,
    /// Width of a token.
    pub(in crate::vit) width: usize,
    /// Width of a patch's row: its bytes, and zeros up to a multiple of 4 at least.
    pub(in crate::vit) inputs: usize,
    /// Side of a patch in pixels.
    pub(in crate::vit) side: usize,
    /// Patches in a row of the image.
    pub(in crate::vit) grid: usize,
    /// Side of a crop in pixels.
    pub(in crate::vit) line: usize,
    /// Levels of the channels that become 0.
    pub(in crate::vit) middle: [u8; 3],
}

impl PatchRows {
    /// From `[crops, table, cls, offsets, patches, x]`, of which the last two are written.
    pub(in crate::vit) fn embed(self, arrays: [u64; 6]) -> Launch {
        let Self { element, images, tokens, width, inputs, side, grid, line, middle } = self;
        let rows = images * tokens;
        Launch::new(format!("embed_patches_{}", element.name()), [rows.div_ceil(WARPS), 1, 1], THREADS)
            .addresses(arrays)
            .ints([rows, tokens, width, inputs, side, grid, line])
            .ints(middle.map(usize::from))
    }
}

impl Rows {
    /// `h` becomes gelu(h + bias), `bias` being f32 `[width]`; the width is a multiple of 8.
    pub(in crate::vit) fn bias_gelu(self, h: u64, bias: u64) -> Launch {
        let count = self.rows * self.width;
        let blocks = count.div_ceil(THREADS as usize * PACK / self.element.size());
        let kernel = format!("bias_gelu_{}", self.element.name());
        Launch::new(kernel, [blocks.min(MOST_BLOCKS), 1, 1], THREADS)
            .addresses([h, bias])
            .ints([count, self.width])
    }

    /// f32 `out` `[images, width]`: the mean of each image's rows but the `skipped` first, from `[x, out]`.
    pub(in crate::vit) fn mean_of_rows(self, images: usize, skipped: usize, arrays: [u64; 2]) -> Launch {
        let kernel = format!("mean_of_rows_{}", self.element.name());
        Launch::new(kernel, [self.width.div_ceil(THREADS as usize), images, 1], THREADS)
            .addresses(arrays)
            .ints([self.rows / images, skipped, self.width])
    }
}
