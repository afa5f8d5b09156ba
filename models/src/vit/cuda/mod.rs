//! A trunk laid out for embedding images on CUDA devices.
//!
//! Weights lie on the device in the type of the arithmetic. A pass over some images is a list of kernels and products on
//! arrays of one piece of memory ([`plan`]): bytes of crops become operands of the patch embedding, normalised on the way;
//! biases and residuals are added by the products, everything else between two products is one kernel; the last block
//! computes CLS alone where nothing else is asked for. A [`slot`] has what a pass needs for itself (a stream, memory, pinned
//! buffers) and replays its steps as a CUDA graph. There are two, so that one batch is copied while another is computed.

mod batch;
mod plan;
#[cfg(feature = "cuda")]
mod product;
#[cfg(feature = "cuda")]
mod slot;
#[cfg(test)]
mod tests;
#[cfg(feature = "cuda")]
mod trunk;
mod weights;

#[cfg(feature = "cuda")]
pub use trunk::{CudaVit, Precision};
pub use weights::Task;

use crate::vit::kernels::Outputs;
use crate::vit::kernels::cuda::plan::Element;
use weights::{Block, Places};

/// Bytes that the arrays of a pass may take.
const MOST_BYTES: usize = 1 << 30;
/// Images of a pass at most.
const MOST_IMAGES: usize = 64;

/// Sizes of a network, and places of its parameters.
#[derive(Clone, Debug)]
struct Network {
    element: Element,
    width: usize,
    heads: usize,
    /// Width inside the MLP, padded.
    hidden: usize,
    /// Numbers of a patch, padded.
    inputs: usize,
    /// Side of a patch in pixels.
    side: usize,
    /// Patches in a row of an image.
    grid: usize,
    /// Side of a crop in pixels.
    line: usize,
    /// Levels of the channels that count as 0.
    middle: [u8; 3],
    eps: f32,
    /// Whether the vectors are CLS or the mean of the patches.
    outputs: Outputs,
    /// The patch embedding's weight.
    patches: usize,
    /// What is added to the product of each patch of the grid.
    offsets: usize,
    /// CLS with its position.
    cls: usize,
    blocks: Vec<Block>,
    /// The final LayerNorm, where the vectors go through it.
    norm: Option<Places>,
}

impl Network {
    fn crop_bytes(&self) -> usize {
        3 * self.line * self.line
    }

    /// The widest row between two maps.
    fn widest(&self) -> usize {
        self.inputs.max(3 * self.width).max(self.hidden)
    }

    /// Images of a pass at most, of so many tokens each.
    fn most_images(&self, tokens: usize) -> usize {
        let of_one = plan::Plan::new(self, 1, tokens).bytes;
        batch::bucket_within((MOST_BYTES / of_one).clamp(1, MOST_IMAGES))
    }
}
