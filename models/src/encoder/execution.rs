//! What runs a network.

use super::arithmetic::Arithmetic;
use crate::Error;
use crate::checkpoint::Feature;
use crate::image::Preprocessor;
use crate::vit::Vit;
use crate::vit::cpu::{CpuVit, Precision};
#[cfg(feature = "cuda")]
use crate::vit::cuda::{self, CudaVit};
use crate::vit::kernels::Outputs;
use candle_core::Device;

/// What runs the network.
pub(super) enum Execution {
    /// Packed weights and buffers of its own, on the CPU.
    Packed(Box<CpuVit>),
    /// The same on a CUDA device.
    #[cfg(feature = "cuda")]
    Cuda(Box<CudaVit>),
    /// Tensors, on any device: what the others do not know.
    Tensors(Vit, Device),
}

impl Execution {
    /// The fastest that knows the network; `arithmetic` is one that it has.
    pub(super) fn new(
        vit: Vit,
        device: Device,
        preprocessor: &Preprocessor,
        feature: Feature,
        arithmetic: Arithmetic,
    ) -> Result<Self, Error> {
        let side = preprocessor.crop_size() as usize;
        let outputs = match feature {
            Feature::MeanPatches => Outputs::All,
            Feature::ClsBeforeNorm | Feature::ClsAfterNorm => Outputs::First,
        };
        let &Preprocessor { mean, std: deviation, .. } = preprocessor;
        if device.is_cpu() {
            let precision = match arithmetic {
                Arithmetic::Int8 => Precision::Int8,
                Arithmetic::Int8AndF32 => Precision::Mixed,
                Arithmetic::F32 | Arithmetic::Tf32 | Arithmetic::F16 | Arithmetic::Bf16 => Precision::F32,
            };
            let grid = side / vit.config().patch_size;
            if let Some(packed) = CpuVit::new(&vit, grid, mean, deviation, outputs, precision)? {
                return Ok(Self::Packed(Box::new(packed)));
            }
        }
        #[cfg(feature = "cuda")]
        if let Device::Cuda(on) = &device {
            let normalised = feature != Feature::ClsBeforeNorm;
            let task = cuda::Task { side, mean, deviation, outputs, normalised };
            let precision = match arithmetic {
                Arithmetic::F32 | Arithmetic::Int8 | Arithmetic::Int8AndF32 => cuda::Precision::F32,
                Arithmetic::Tf32 => cuda::Precision::Tf32,
                Arithmetic::F16 => cuda::Precision::F16,
                Arithmetic::Bf16 => cuda::Precision::Bf16,
            };
            if let Some(trunk) = CudaVit::new(&vit, on, &task, precision)? {
                return Ok(Self::Cuda(Box::new(trunk)));
            }
        }
        Ok(Self::Tensors(vit, device))
    }
}
