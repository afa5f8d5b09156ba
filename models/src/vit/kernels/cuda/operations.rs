//! The operations, where their shapes and types have kernels.

use super::assignment::Assignment;
use super::attention::Attention;
use super::device::{element, packed};
use super::layer_norm::LayerNorm;
use super::linear::{Gelu, Linear};
use super::plan;
use candle_core::{DType, Result, Tensor};
use std::sync::OnceLock;

/// LayerNorm over the last dimension.
pub(in super::super) fn layer_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
) -> Result<Option<Tensor>> {
    let (Some(element), Some(&width)) = (element(x), x.dims().last()) else { return Ok(None) };
    if x.elem_count() == 0 || weight.dims() != [width] || bias.dims() != [width] {
        return Ok(None);
    }
    let (weight, bias) = (packed(&weight.to_dtype(DType::F32)?)?, packed(&bias.to_dtype(DType::F32)?)?);
    packed(x)?.apply_op3(&weight, &bias, LayerNorm { element, width, eps: eps as f32 }).map(Some)
}

/// `x·weightᵀ + bias` over the last dimension, `weight` being `[out, in]`.
pub(in super::super) fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Option<Tensor>> {
    product(x, weight, bias, false)
}

/// GELU of [`linear`].
pub(in super::super) fn linear_gelu(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Option<Tensor>> {
    product(x, weight, bias, true)
}

fn product(x: &Tensor, weight: &Tensor, bias: &Tensor, gelu: bool) -> Result<Option<Tensor>> {
    let (out, width) = weight.dims2()?;
    let fit = x.elem_count() > 0 && x.dims().last() == Some(&width) && bias.dims() == [out];
    let (Some(element), true) = (element(x), fit) else { return Ok(None) };
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = out;
    }
    let operation = Linear { element, gelu, differentiate_input: x.track_op(), inner: OnceLock::new() };
    let (weight, bias) = (packed(&weight.to_dtype(x.dtype())?)?, packed(&bias.to_dtype(DType::F32)?)?);
    packed(x)?.reshape(((), width))?.apply_op3(&weight, &bias, operation)?.reshape(shape).map(Some)
}

/// Exact GELU.
pub(in super::super) fn gelu(x: &Tensor) -> Result<Option<Tensor>> {
    match element(x) {
        Some(element) if x.elem_count() > 0 => packed(x)?.apply_op1(Gelu { element }).map(Some),
        _ => Ok(None),
    }
}

/// Multi-head self-attention with heads of 32 or 64: packed `[B, T, 3·D]` to `[B, T, D]`.
pub(in super::super) fn attention(qkv: &Tensor, heads: usize) -> Result<Option<Tensor>> {
    let (batch, tokens, packed_width) = qkv.dims3()?;
    let Some(element) = element(qkv) else { return Ok(None) };
    let plan = plan::Attention { element, batch, tokens, width: packed_width / 3, heads };
    if packed_width % 3 != 0 || !plan.is_supported() {
        return Ok(None);
    }
    packed(qkv)?.apply_op1(Attention { plan, logsums: OnceLock::new() }).map(Some)
}

/// Logarithm of the assignment of `[n, d]` to the prototypes `[K, d]`.
pub(in super::super) fn log_assignment(
    x: &Tensor,
    prototypes: &Tensor,
    temperature: f64,
) -> Result<Option<Tensor>> {
    let fit = x.rank() == 2 && prototypes.rank() == 2 && x.dims()[1] == prototypes.dims()[1];
    let filled = x.elem_count() > 0 && prototypes.elem_count() > 0;
    if !fit || !filled || [x, prototypes].iter().any(|tensor| tensor.dtype() != DType::F32) {
        return Ok(None);
    }
    packed(x)?.apply_op2(&packed(prototypes)?, Assignment { temperature: temperature as f32 }).map(Some)
}
