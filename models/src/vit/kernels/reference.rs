//! The operations as compositions of candle primitives, all of them differentiable.
//!
//! `candle_nn::LayerNorm` and `softmax_last_dim` are not used: they have no backward and cut the graph silently.

use candle_core::{D, Result, Tensor};

/// LayerNorm over the last dimension.
pub(super) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_div(&(variance + eps)?.sqrt()?)?.broadcast_mul(weight)?.broadcast_add(bias)
}

/// `x·Wᵀ + b` over the last dimension; `weight` is `[out, in]`.
pub(super) fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let mut shape = x.dims().to_vec();
    let (inputs, outputs) = (weight.dim(1)?, weight.dim(0)?);
    if let Some(last) = shape.last_mut() {
        *last = outputs;
    }
    x.reshape(((), inputs))?.matmul(&weight.t()?)?.broadcast_add(bias)?.reshape(shape)
}

/// Exact GELU, x·½·(1 + erf(x/√2)); candle's own `gelu_erf` rounds a constant of its derivative to six digits.
pub(super) fn gelu(x: &Tensor) -> Result<Tensor> {
    let gate = ((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)?;
    (x * gate)? * 0.5
}

/// Multi-head self-attention from packed `[B, T, 3·D]` queries, keys and values to `[B, T, D]`.
pub(super) fn attention(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    let (batch, tokens, packed) = qkv.dims3()?;
    let width = packed / 3;
    let head = width / heads;
    let split = qkv.reshape((batch, tokens, 3, heads, head))?.permute((2, 0, 3, 1, 4))?;
    let part = |index: usize| split.narrow(0, index, 1)?.squeeze(0)?.contiguous();
    let (query, key, value) = (part(0)?, part(1)?, part(2)?);
    let scores = (query.matmul(&key.t()?)? / (head as f64).sqrt())?;
    let mixed = candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&value)?;
    mixed.transpose(1, 2)?.reshape((batch, tokens, width))
}

/// Rows divided by their length, or by 1e-12 if that is larger. The square is bounded, not the root: the root's derivative
/// at 0 is infinite, and a row of zeros must not turn every gradient into NaN.
pub fn unit_rows(x: &Tensor) -> Result<Tensor> {
    let square = x.sqr()?.sum_keepdim(D::Minus1)?.maximum(1e-24)?;
    x.broadcast_div(&square.sqrt()?)
}

/// Logarithm of the softmax over the last dimension.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    let shifted = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?;
    shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)
}

/// Logarithm of the assignment of `[n, d]` to the prototypes `[K, d]`: of the softmax of cosines over τ.
pub(super) fn log_assignment(x: &Tensor, prototypes: &Tensor, temperature: f64) -> Result<Tensor> {
    let cosines = unit_rows(x)?.matmul(&unit_rows(prototypes)?.t()?)?;
    log_softmax(&(cosines / temperature)?)
}
