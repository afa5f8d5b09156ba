//! The operations a ViT is made of, behind one switch.
//!
//! The network in [`super::reference`] is written once, over these functions; each execution computes the same values
//! and the same gradients.

#[cfg(any(feature = "cuda", test))]
pub mod cuda;
pub(super) mod fused;
pub(super) mod packed;
mod reference;

pub use reference::{log_softmax, unit_rows};

use candle_core::{Result, Tensor};

/// Which execution of the operations to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kernels {
    /// Compositions of candle's elementary operations: any floating-point type, any device, exact gradients. The truth
    /// the others are tested against.
    #[default]
    Reference,
    /// Fused kernels, forward and backward: on every CPU core for f32, on CUDA devices for f32 and bf16; for another type
    /// or device the reference.
    Fused,
}

/// Weight and bias of a linear map (`[out, in]`, `[out]`) or of a LayerNorm (`[D]`, `[D]`).
#[derive(Clone, Debug)]
pub struct Affine {
    /// The factor.
    pub weight: Tensor,
    /// The offset.
    pub bias: Tensor,
}

/// The parameters of one transformer block.
#[derive(Clone, Debug)]
pub struct BlockParameters {
    /// LayerNorm before the attention.
    pub norm1: Affine,
    /// Queries, keys and values, `[3·D, D]`.
    pub qkv: Affine,
    /// After the attention, `[D, D]`.
    pub projection: Affine,
    /// LayerNorm before the MLP.
    pub norm2: Affine,
    /// Into the MLP, `[F, D]`.
    pub fc1: Affine,
    /// Out of the MLP, `[D, F]`.
    pub fc2: Affine,
}

/// How a block runs.
#[derive(Clone, Copy, Debug)]
pub struct BlockOptions {
    /// Attention heads.
    pub heads: usize,
    /// Added to the variance by the LayerNorms.
    pub eps: f64,
    /// Which tokens' output is wanted.
    pub outputs: Outputs,
    /// Keep no activations for the backward pass but compute them again there (gradient checkpointing, arXiv 1604.06174):
    /// the same gradients bit for bit, less memory, about a third more work. The reference keeps them all the same.
    pub recompute: bool,
}

/// The tokens whose output a block computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// All of them.
    All,
    /// The first token's (CLS): what the last block of a network that reads nothing else needs.
    First,
}

/// The fused operation of the device its first argument is on.
macro_rules! fused {
    ($operation:ident($first:expr $(, $more:expr)*)) => {{
        #[cfg(feature = "cuda")]
        let result = if $first.device().is_cuda() {
            cuda::$operation($first $(, $more)*)
        } else {
            fused::$operation($first $(, $more)*)
        };
        #[cfg(not(feature = "cuda"))]
        let result = fused::$operation($first $(, $more)*);
        result
    }};
}

impl Kernels {
    /// Normalises the last dimension of `x` to mean 0 and variance 1 (biased), then scales and shifts it.
    pub fn layer_norm(self, x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
        if self == Self::Fused
            && let Some(y) = fused!(layer_norm(x, weight, bias, eps))?
        {
            return Ok(y);
        }
        reference::layer_norm(x, weight, bias, eps)
    }

    /// `x·weightᵀ + bias` over the last dimension; `weight` is `[out, in]` as PyTorch stores it.
    pub fn linear(self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
        if self == Self::Fused
            && let Some(y) = fused!(linear(x, weight, bias))?
        {
            return Ok(y);
        }
        reference::linear(x, weight, bias)
    }

    /// The exact Gaussian error linear unit, x·Φ(x).
    pub fn gelu(self, x: &Tensor) -> Result<Tensor> {
        if self == Self::Fused
            && let Some(y) = fused!(gelu(x))?
        {
            return Ok(y);
        }
        reference::gelu(x)
    }

    /// [`Self::gelu`] of [`Self::linear`].
    pub fn linear_gelu(self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if self == Self::Fused
            && x.device().is_cuda()
            && let Some(y) = cuda::linear_gelu(x, weight, bias)?
        {
            return Ok(y);
        }
        self.gelu(&self.linear(x, weight, bias)?)
    }

    /// Multi-head self-attention from packed `[B, T, 3·D]` (`[q | k | v]`, heads contiguous inside each) to `[B, T, D]`.
    pub fn attention(self, qkv: &Tensor, heads: usize) -> Result<Tensor> {
        if self == Self::Fused
            && let Some(y) = fused!(attention(qkv, heads))?
        {
            return Ok(y);
        }
        reference::attention(qkv, heads)
    }

    /// Logarithm of the assignment of the rows of x `[n, d]` to the prototypes `[K, d]`: of the softmax over the prototypes
    /// of cosines divided by `temperature`. Rows shorter than 1e-12 count as that long.
    pub fn log_assignment(self, x: &Tensor, prototypes: &Tensor, temperature: f64) -> Result<Tensor> {
        if self == Self::Fused
            && let Some(y) = fused!(log_assignment(x, prototypes, temperature))?
        {
            return Ok(y);
        }
        reference::log_assignment(x, prototypes, temperature)
    }

    /// A whole pre-norm block over `[B, T, D]`: `m = x + projection(attention(qkv(norm1(x))))`, then
    /// `m + fc2(gelu(fc1(norm2(m))))`; `[B, T, D]` or `[B, 1, D]`, as the options say.
    pub fn block(self, x: &Tensor, parameters: &BlockParameters, options: &BlockOptions) -> Result<Tensor> {
        if self == Self::Fused
            && let Some(y) = fused::block(x, parameters, options)?
        {
            return Ok(y);
        }
        let BlockParameters { norm1, qkv, projection, norm2, fc1, fc2 } = parameters;
        let BlockOptions { heads, eps, outputs, .. } = *options;
        let normed = self.layer_norm(x, &norm1.weight, &norm1.bias, eps)?;
        let mut mixed = self.attention(&self.linear(&normed, &qkv.weight, &qkv.bias)?, heads)?;
        let mut residual = x.clone();
        if outputs == Outputs::First {
            // Only the attention looks at other tokens.
            (mixed, residual) = (mixed.narrow(1, 0, 1)?.contiguous()?, x.narrow(1, 0, 1)?.contiguous()?);
        }
        let middle = (residual + self.linear(&mixed, &projection.weight, &projection.bias)?)?;
        let normed = self.layer_norm(&middle, &norm2.weight, &norm2.bias, eps)?;
        let wide = self.linear_gelu(&normed, &fc1.weight, &fc1.bias)?;
        middle + self.linear(&wide, &fc2.weight, &fc2.bias)?
    }
}
