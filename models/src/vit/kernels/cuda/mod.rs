//! Kernels for CUDA devices: a ViT forward and backward as candle custom operations, the optimiser, augmented views; f32 or
//! bf16 activations, f32 LayerNorm parameters and biases, f32 sums in a fixed order. Embedding images launches some of them
//! too, and some of its own, in f16 as well ([`crate::vit::cuda`]).
//!
//! `source/` holds the kernels in CUDA C++, [`plan`] what is launched for an operation, the other modules the operations.
//! Plans and sources are tested without a GPU, on an emulator (docs/adr/0005-cuda-kernels.md). As for the fused CPU
//! kernels, each function answers `None` where it does not apply.

#[cfg(feature = "cuda")]
mod assignment;
#[cfg(feature = "cuda")]
mod attention;
#[cfg(feature = "cuda")]
mod device;
#[cfg(feature = "cuda")]
mod layer_norm;
#[cfg(feature = "cuda")]
mod linear;
#[cfg(feature = "cuda")]
mod operations;
pub(in crate::vit) mod plan;
#[cfg(test)]
pub(in crate::vit) mod tests;
#[cfg(feature = "cuda")]
pub mod update;
#[cfg(feature = "cuda")]
pub mod views;

#[cfg(feature = "cuda")]
pub(in crate::vit) use device::KERNELS;
#[cfg(feature = "cuda")]
pub(super) use operations::{attention, gelu, layer_norm, linear, linear_gelu, log_assignment};
