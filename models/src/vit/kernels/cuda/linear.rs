//! y = x·Wᵀ + b over `[.., in]`, with W stored `[out, in]`, and optionally GELU after it. The product is cuBLAS's, which
//! reads transposed operands in place.

use super::device::{
    address, address_of, allocate, empty, launch, only_cuda, packed_detached, tensor, whole,
};
use super::plan::{Element, Elements, Rows, stripes};
use candle_core::backend::BackendStorage as _;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp3, DType, Layout, Result, Shape, Tensor, bail,
};
use std::sync::OnceLock;

/// `x` `[rows, in]`, `weight` of its type and f32 `bias` to `[rows, out]`.
pub(super) struct Linear {
    pub(super) element: Element,
    /// Whether GELU follows.
    pub(super) gelu: bool,
    /// Whether x depends on a variable; pixels do not, and their gradient would cost as much as the forward pass.
    pub(super) differentiate_input: bool,
    /// What went into the GELU, for the backward pass.
    pub(super) inner: OnceLock<Tensor>,
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "cuda-linear"
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
        let ((rows, inputs), (width, _)) = (x_layout.shape().dims2()?, weight_layout.shape().dims2()?);
        let plan = Rows { element: self.element, rows, width };
        let transposed = weight_layout.transpose(0, 1)?;
        let product = x.matmul(weight, (1, rows, width, inputs), x_layout, &transposed)?;
        let bias = address(bias, bias_layout)?;
        let shape = Shape::from((rows, width));
        if !self.gelu {
            launch(device, &[plan.add_bias(whole(&product)?, bias)])?;
            return Ok((product, shape));
        }
        let y = allocate(device, product.dtype(), rows * width)?;
        launch(device, &[plan.add_bias_gelu(whole(&product)?, bias, whole(&y)?)])?;
        // An operation runs once; a second set would be the same values.
        let _ = self.inner.set(tensor(product, &shape));
        Ok((y, shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _bias: &Tensor,
        y: &Tensor,
        y_gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let device = x.device().as_cuda_device()?;
        let (rows, width) = y.dims2()?;
        let plan = Rows { element: self.element, rows, width };
        let partial = empty(device, DType::F32, (stripes(rows), width))?;
        let bias_gradient = empty(device, DType::F32, width)?;
        let (partial, sums) = (address_of(&partial)?, address_of(&bias_gradient)?);
        let mut gradient = packed_detached(y_gradient)?;
        if self.gelu {
            let Some(inner) = self.inner.get() else { bail!("{} went backward before forward", self.name()) };
            let inner_gradient = empty(device, y.dtype(), (rows, width))?;
            let arrays = [address_of(&gradient)?, address_of(inner)?, address_of(&inner_gradient)?];
            launch(device, &plan.gelu_column_sums(arrays, partial, sums))?;
            gradient = inner_gradient;
        } else {
            launch(device, &plan.column_sums(address_of(&gradient)?, partial, sums))?;
        }
        let x_gradient =
            if self.differentiate_input { Some(gradient.matmul(&weight.detach())?) } else { None };
        let weight_gradient = gradient.t()?.matmul(&x.detach())?;
        Ok((x_gradient, Some(weight_gradient), Some(bias_gradient)))
    }
}

/// Exact GELU, element by element.
pub(super) struct Gelu {
    pub(super) element: Element,
}

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "cuda-gelu"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        only_cuda(self.name())
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let plan = Elements { element: self.element, count: layout.shape().elem_count() };
        let y = allocate(x.device(), x.dtype(), plan.count)?;
        launch(x.device(), &[plan.gelu([address(x, layout)?, whole(&y)?])])?;
        Ok((y, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, y_gradient: &Tensor) -> Result<Option<Tensor>> {
        let device = x.device().as_cuda_device()?;
        let plan = Elements { element: self.element, count: x.elem_count() };
        let y_gradient = packed_detached(y_gradient)?;
        let x_gradient = empty(device, x.dtype(), x.shape())?;
        let arrays = [address_of(x)?, address_of(&y_gradient)?, address_of(&x_gradient)?];
        launch(device, &[plan.gelu_backward(arrays)])?;
        Ok(Some(x_gradient))
    }
}
