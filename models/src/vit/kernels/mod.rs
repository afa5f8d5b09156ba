//! The operations a ViT is made of, behind one switch: the reference composition or a faster execution of the same.

mod reference;

use candle_core::{Result, Tensor};

/// Which execution of the operations to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kernels {
    /// Compositions of candle primitives: any type, any device; the truth the others are tested against.
    #[default]
    Reference,
}

impl Kernels {
    /// LayerNorm over the last dimension with affine `weight` and `bias` `[D]`.
    pub fn layer_norm(self, x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
        match self {
            Self::Reference => reference::layer_norm(x, weight, bias, eps),
        }
    }

    /// `x·Wᵀ + b` over the last dimension of `[.., in]`; `weight` is `[out, in]`.
    pub fn linear(self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
        match self {
            Self::Reference => reference::linear(x, weight, bias),
        }
    }

    /// Exact (erf) GELU.
    pub fn gelu(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Reference => reference::gelu(x),
        }
    }

    /// Multi-head self-attention from packed `[B, T, 3·D]` (`[q | k | v]`, heads contiguous inside each) to `[B, T, D]`.
    pub fn attention(self, qkv: &Tensor, heads: usize) -> Result<Tensor> {
        match self {
            Self::Reference => reference::attention(qkv, heads),
        }
    }
}
