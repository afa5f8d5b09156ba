//! The views of an image that training compares (arXiv 2204.07141, §3 and appendix A): crop, flip, colour jitter, grey,
//! blur, normalise.
//!
//! Each view draws from a random stream of its own, a function of (seed, step, place in the batch, view): the result
//! does not depend on the number of threads, nor on where a run was interrupted. What is drawn ([`ViewRecipe`]) is made by
//! a [`ViewRenderer`], or in batches on a CUDA device (`dozen_models::vit::kernels::cuda::views`). Pixels stay 8-bit until the last
//! step, as they do in Pillow, whose rounding the colour operations follow.

mod affine;
mod blur;
mod colour;
mod crop;
mod randaugment;
mod recipe;
mod render;

pub(crate) use randaugment::randaugment;
pub use recipe::{Distortion, ViewRecipe};
pub use render::{MEAN, STD, ViewRenderer};

#[cfg(test)]
mod tests;
