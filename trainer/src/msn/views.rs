//! What one step sees.

use super::masking::Mask;
use crate::Error;
use candle_core::{Device, Tensor};
use dozen_models::vit::reference::{ForwardOptions, Keep};

/// The views of B images.
pub struct Views {
    /// Full views `[B, 3, S, S]`.
    pub target: Tensor,
    /// The anchors, by size.
    pub anchors: Vec<AnchorGroup>,
}

/// Anchors of one size: one forward pass and one BatchNorm batch. View-major: row v·B + i is view v of image i.
pub struct AnchorGroup {
    /// `[views·B, 3, s, s]`.
    pub pixels: Tensor,
    /// The patches that stay; all where there is none.
    pub mask: Option<Mask>,
    /// Factors `[depth, 2, views·B]` of the blocks' branches (stochastic depth).
    pub branch_scales: Option<Tensor>,
}

impl Views {
    /// Random and focal anchors as the paper's code groups them: views of equal size form one group, and only the first
    /// group is masked.
    pub fn new(
        target: Tensor,
        random: Option<Tensor>,
        focal: Option<Tensor>,
        mask: Option<Mask>,
    ) -> Result<Self, Error> {
        let group = |pixels, mask| AnchorGroup { pixels, mask, branch_scales: None };
        let anchors = match (random, focal) {
            (Some(random), Some(focal)) if random.dim(3)? == focal.dim(3)? => {
                vec![group(Tensor::cat(&[random, focal], 0)?, mask)]
            }
            (Some(random), Some(focal)) => vec![group(random, mask), group(focal, None)],
            (Some(only), None) | (None, Some(only)) => vec![group(only, mask)],
            (None, None) => {
                return Err(Error::Config { file: "views".into(), reason: "there is no anchor view".into() });
            }
        };
        Ok(Self { target, anchors })
    }
}

impl AnchorGroup {
    /// Runs `body` with the options of this group's forward pass.
    pub(super) fn with_options<R>(
        &self,
        body: impl FnOnce(&ForwardOptions<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let per_view = match &self.mask {
            Some(Mask::PerView { indices, kept }) => {
                Some(index_tensor(indices, *kept, self.pixels.device())?)
            }
            _ => None,
        };
        let keep = match (&self.mask, &per_view) {
            (Some(Mask::Shared(indices)), _) => Some(Keep::Shared(indices)),
            (_, Some(indices)) => Some(Keep::PerImage(indices)),
            _ => None,
        };
        body(&ForwardOptions { keep, branch_scales: self.branch_scales.as_ref() })
    }
}

fn index_tensor(indices: &[u32], kept: usize, device: &Device) -> Result<Tensor, Error> {
    Ok(Tensor::from_slice(indices, (indices.len() / kept.max(1), kept), device)?)
}
