//! Multi-head self-attention from packed `[B, T, 3·D]` to `[B, T, D]`.

use super::device::{
    address, address_of, allocate, empty, launch, only_cuda, packed_detached, tensor, whole,
};
use super::plan;
use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
use std::sync::OnceLock;

/// Kept for the backward pass: a number for each row of each head.
pub(super) struct Attention {
    pub(super) plan: plan::Attention,
    pub(super) logsums: OnceLock<Tensor>,
}

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        "cuda-attention"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        only_cuda(self.name())
    }

    fn cuda_fwd(&self, qkv: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let (device, plan) = (qkv.device(), self.plan);
        let out = allocate(device, qkv.dtype(), plan.batch * plan.tokens * plan.width)?;
        let logsums = allocate(device, DType::F32, plan.rows())?;
        launch(device, &[plan.forward([address(qkv, layout)?, whole(&out)?, whole(&logsums)?])])?;
        // An operation runs once; a second set would be the same values.
        let _ = self.logsums.set(tensor(logsums, plan.rows()));
        Ok((out, (plan.batch, plan.tokens, plan.width).into()))
    }

    fn bwd(&self, qkv: &Tensor, out: &Tensor, out_gradient: &Tensor) -> Result<Option<Tensor>> {
        let Some(logsums) = self.logsums.get() else { bail!("{} went backward before forward", self.name()) };
        let device = qkv.device().as_cuda_device()?;
        let out_gradient = packed_detached(out_gradient)?;
        let deltas = empty(device, DType::F32, self.plan.rows())?;
        let qkv_gradient = empty(device, qkv.dtype(), qkv.shape())?;
        let rows = [address_of(out)?, address_of(&out_gradient)?, address_of(logsums)?, address_of(&deltas)?];
        launch(device, &self.plan.backward(address_of(qkv)?, rows, address_of(&qkv_gradient)?))?;
        Ok(Some(qkv_gradient))
    }
}
