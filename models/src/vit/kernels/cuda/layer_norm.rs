//! LayerNorm over the last dimension.

use super::device::{self, address, address_of, allocate, empty, launch, only_cuda, packed_detached, whole};
use super::plan::{Element, Rows, stripes};
use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CudaStorage, CustomOp3, DType, Layout, Result, Shape, Tensor};

/// `x`, f32 `weight` and f32 `bias` to the normalised `x`.
pub(super) struct LayerNorm {
    pub(super) element: Element,
    pub(super) width: usize,
    pub(super) eps: f32,
}

impl LayerNorm {
    fn plan(&self, shape: &Shape) -> Rows {
        Rows { element: self.element, rows: shape.elem_count() / self.width, width: self.width }
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "cuda-layer-norm"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        only_cuda(self.name())
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        weight: &CudaStorage,
        weight_layout: &Layout,
        bias: &CudaStorage,
        bias_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let device = x.device();
        let shape = x_layout.shape();
        let y = allocate(device, device::dtype(self.element), shape.elem_count())?;
        let (x, weight) = (address(x, x_layout)?, address(weight, weight_layout)?);
        let arrays = [x, weight, address(bias, bias_layout)?, whole(&y)?];
        launch(device, &[self.plan(shape).layer_norm(arrays, self.eps)])?;
        Ok((y, shape.clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _bias: &Tensor,
        _y: &Tensor,
        y_gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let device = x.device().as_cuda_device()?;
        let (plan, y_gradient) = (self.plan(x.shape()), packed_detached(y_gradient)?);
        let x_gradient = empty(device, x.dtype(), x.shape())?;
        let partial = empty(device, DType::F32, (stripes(plan.rows), 2 * self.width))?;
        let sums = empty(device, DType::F32, (2, self.width))?;
        let arrays =
            [address_of(x)?, address_of(weight)?, address_of(&y_gradient)?, address_of(&x_gradient)?];
        launch(
            device,
            &plan.layer_norm_backward(arrays, address_of(&partial)?, address_of(&sums)?, self.eps),
        )?;
        Ok((Some(x_gradient), Some(sums.get(0)?), Some(sums.get(1)?)))
    }
}
