//! Logarithm of the softmax over prototypes of cosines divided by a temperature; f32.

use super::device::{address, address_of, allocate, empty, launch, only_cuda, packed_detached, whole};
use super::plan::{Element, Rows};
use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CudaDevice, CudaStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};

/// `x` `[n, d]` and `prototypes` `[K, d]` to `[n, K]`.
pub(super) struct Assignment {
    pub(super) temperature: f32,
}

fn plan(shape: &Shape) -> Result<Rows> {
    let (rows, width) = shape.dims2()?;
    Ok(Rows { element: Element::F32, rows, width })
}

/// Unit rows and the inverses of the lengths.
fn unit_rows(device: &CudaDevice, x: u64, plan: Rows) -> Result<[CudaStorage; 2]> {
    let unit = allocate(device, DType::F32, plan.rows * plan.width)?;
    let inverse = allocate(device, DType::F32, plan.rows)?;
    launch(device, &[plan.unit_rows([x, whole(&unit)?, whole(&inverse)?])])?;
    Ok([unit, inverse])
}

/// A tensor's unit rows, and the gradient of the tensor from theirs.
struct Unit {
    unit: Tensor,
    inverse: Tensor,
    plan: Rows,
}

impl Unit {
    fn of(device: &CudaDevice, x: &Tensor) -> Result<Self> {
        let plan = plan(x.shape())?;
        let [unit, inverse] = unit_rows(device, address_of(x)?, plan)?;
        let unit = super::device::tensor(unit, x.shape());
        Ok(Self { unit, inverse: super::device::tensor(inverse, plan.rows), plan })
    }

    fn backward(&self, device: &CudaDevice, gradient: &Tensor) -> Result<Tensor> {
        let out = empty(device, DType::F32, self.unit.shape())?;
        let inputs = [&self.unit, &self.inverse, gradient];
        let [unit, inverse, gradient] = inputs.map(address_of);
        launch(device, &[self.plan.unit_rows_backward([unit?, inverse?, gradient?, address_of(&out)?])])?;
        Ok(out)
    }
}

impl CustomOp2 for Assignment {
    fn name(&self) -> &'static str {
        "cuda-assignment"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        only_cuda(self.name())
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        prototypes: &CudaStorage,
        prototypes_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let device = x.device();
        let (rows, columns) = (plan(x_layout.shape())?, plan(prototypes_layout.shape())?);
        let [x, _] = unit_rows(device, address(x, x_layout)?, rows)?;
        let [prototypes, _] = unit_rows(device, address(prototypes, prototypes_layout)?, columns)?;
        let transposed = Layout::contiguous(prototypes_layout.shape()).transpose(0, 1)?;
        let shape = (1, rows.rows, columns.rows, rows.width);
        let logits = x.matmul(&prototypes, shape, &Layout::contiguous(x_layout.shape()), &transposed)?;
        let out = Rows { width: columns.rows, ..rows };
        launch(device, &[out.log_softmax(whole(&logits)?, 1.0 / self.temperature)])?;
        Ok((logits, (rows.rows, columns.rows).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        prototypes: &Tensor,
        out: &Tensor,
        out_gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let device = x.device().as_cuda_device()?;
        let out_gradient = packed_detached(out_gradient)?;
        let logits = empty(device, DType::F32, out.shape())?;
        let arrays = [address_of(out)?, address_of(&out_gradient)?, address_of(&logits)?];
        launch(device, &[plan(out.shape())?.log_softmax_backward(arrays, 1.0 / self.temperature)])?;
        let (x, prototypes) = (Unit::of(device, x)?, Unit::of(device, prototypes)?);
        let x_gradient = x.backward(device, &logits.matmul(&prototypes.unit)?)?;
        let prototypes_gradient = prototypes.backward(device, &logits.t()?.matmul(&x.unit)?)?;
        Ok((Some(x_gradient), Some(prototypes_gradient)))
    }
}
