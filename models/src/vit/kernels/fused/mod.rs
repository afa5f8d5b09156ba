//! Kernels for training on CPUs, forward and backward, as candle custom operations on f32 slices.
//!
//! candle's own elementwise and reduction operations run on one thread, and its backward pass spells LayerNorm,
//! softmax and GELU out in a dozen passes over memory each. These share the rows out among rayon's threads, call the
//! `gemm` crate for matrix products, and repeat bit for bit whatever the number of threads (see [`partition`]).
//!
//! Each function answers `None` where it does not apply (another device or element type, shapes that do not fit): the
//! caller then takes the reference composition, which runs everywhere and names what is wrong with a shape.

mod assignment;
mod attention;
mod block;
mod buffers;
pub(in crate::vit) mod gelu;
mod laid_out;
pub(in crate::vit) mod layer_norm;
mod linear;
mod matrix;
mod partition;
mod storage;
#[cfg(test)]
mod tests;
pub(in crate::vit) mod vector;

use super::{BlockOptions, BlockParameters, Outputs};
use block::PARAMETERS;
use candle_core::{Result, Tensor};
use std::sync::OnceLock;
use storage::supported;

/// LayerNorm over the last dimension.
pub(super) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Option<Tensor>> {
    let width = x.dims().last();
    if !supported(&[x, weight, bias]) || weight.dims().first() != width || bias.dims() != weight.dims() {
        return Ok(None);
    }
    let operation = layer_norm::LayerNorm { eps: eps as f32 };
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, operation).map(Some)
}

/// `x·weightᵀ + bias` over the last dimension, `weight` being `[out, in]`.
pub(super) fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Option<Tensor>> {
    let (out, width) = weight.dims2()?;
    if !supported(&[x, weight, bias]) || x.dims().last() != Some(&width) || bias.dims() != [out] {
        return Ok(None);
    }
    let operation = linear::Linear { differentiate_input: x.track_op() };
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, operation).map(Some)
}

/// Exact GELU.
pub(super) fn gelu(x: &Tensor) -> Result<Option<Tensor>> {
    if !supported(&[x]) {
        return Ok(None);
    }
    x.contiguous()?.apply_op1(gelu::Gelu).map(Some)
}

/// Multi-head self-attention: packed `[B, T, 3·D]` to `[B, T, D]`.
pub(super) fn attention(qkv: &Tensor, heads: usize) -> Result<Option<Tensor>> {
    let (_, tokens, packed) = qkv.dims3()?;
    if !supported(&[qkv]) || packed % (3 * heads) != 0 {
        return Ok(None);
    }
    let operation = attention::Attention { tokens, queries: tokens, width: packed / 3, heads };
    qkv.contiguous()?.apply_op1(operation).map(Some)
}

/// Logarithm of the assignment of `[n, d]` to the prototypes `[K, d]`.
pub(super) fn log_assignment(x: &Tensor, prototypes: &Tensor, temperature: f64) -> Result<Option<Tensor>> {
    let fit = x.rank() == 2 && prototypes.rank() == 2 && x.dims()[1] == prototypes.dims()[1];
    if !fit || !supported(&[x, prototypes]) {
        return Ok(None);
    }
    let operation = assignment::Assignment { temperature: temperature as f32 };
    x.contiguous()?.apply_op2(&prototypes.contiguous()?, operation).map(Some)
}

/// A whole pre-norm block over `[B, T, D]`.
pub(super) fn block(
    x: &Tensor,
    parameters: &BlockParameters,
    options: &BlockOptions,
) -> Result<Option<Tensor>> {
    let BlockParameters { norm1, qkv, projection, norm2, fc1, fc2 } = parameters;
    let parameters = [norm1, qkv, projection, norm2, fc1, fc2].map(|affine| [&affine.weight, &affine.bias]);
    let parameters = parameters.as_flattened();
    let (_, tokens, width) = x.dims3()?;
    let BlockOptions { heads, eps, outputs, recompute } = *options;
    let queries = match outputs {
        Outputs::All => tokens,
        Outputs::First => 1,
    };
    let hidden = fc1.bias.elem_count();
    let shapes: [&[usize]; PARAMETERS] = [
        &[width],
        &[width],
        &[3 * width, width],
        &[3 * width],
        &[width, width],
        &[width],
        &[width],
        &[width],
        &[hidden, width],
        &[hidden],
        &[width, hidden],
        &[width],
    ];
    let fit =
        width % heads == 0 && parameters.iter().zip(shapes).all(|(tensor, shape)| tensor.dims() == shape);
    if !fit || !supported(&[x]) || !supported(parameters) {
        return Ok(None);
    }
    let flat: Vec<_> = parameters.iter().map(|tensor| tensor.flatten_all()).collect::<Result<_>>()?;
    let flat = Tensor::cat(&flat, 0)?;
    let operation = block::Block {
        attention: attention::Attention { tokens, queries, width, heads },
        hidden,
        eps: eps as f32,
        keep_activations: !recompute && (x.track_op() || flat.track_op()),
        kept: OnceLock::new(),
    };
    x.contiguous()?.apply_op2(&flat, operation).map(Some)
}
