//! The optimiser's step over all parameters in three launches, without the host waiting for the device.

use super::device::{Array, address_of, empty, launch};
use super::plan::{self, CONTROL, UpdatedArrays};
use candle_core::{DType, Device, Result, Tensor, bail};

pub use super::plan::Rates;

/// A trained tensor and what belongs to it: contiguous f32 tensors of one shape on one CUDA device. All but the gradient are
/// changed in place.
#[derive(Clone, Copy, Debug)]
pub struct Updated<'a> {
    /// The parameter.
    pub value: &'a Tensor,
    /// AdamW's first moment.
    pub first_moment: &'a Tensor,
    /// AdamW's second moment.
    pub second_moment: &'a Tensor,
    /// The moving average of the parameter, where there is one.
    pub average: Option<&'a Tensor>,
    /// The gradient of this step.
    pub gradient: &'a Tensor,
    /// Whether weight decay applies.
    pub decayed: bool,
    /// Whether it counts in the norm and is clipped.
    pub clipped: bool,
}

/// What a sequence of steps carries on the device: norm of the clipped gradients, clip factor, and whether all losses and
/// gradients so far were finite (1) or not (0). From then on steps change nothing.
#[derive(Clone, Debug)]
pub struct Control(Tensor);

impl Control {
    /// For a run that begins.
    pub fn new(device: &Device) -> Result<Self> {
        Tensor::from_vec(vec![0.0_f32, 1.0, 1.0], CONTROL, device).map(Self)
    }

    /// A copy of the three numbers as they are after the last step.
    pub fn numbers(&self) -> Result<Tensor> {
        self.0.copy()
    }

    /// Takes one step, given a scalar f32 loss; the norms of all gradients, `[parameters]`.
    pub fn step(&self, parameters: &[Updated<'_>], loss: &Tensor, rates: &Rates) -> Result<Tensor> {
        let device = self.0.device().as_cuda_device()?;
        let arrays = parameters.iter().map(addresses).collect::<Result<Vec<_>>>()?;
        let (table, chunks) = plan::table(&arrays);
        let table = Array::upload(device, &table)?;
        let squares = empty(device, DType::F32, chunks)?;
        let norms = empty(device, DType::F32, parameters.len())?;
        let loss = super::device::packed_detached(loss)?;
        let numbers = [&squares, &loss, &norms, &self.0].map(address_of);
        let [squares, loss, of_norms, control] = numbers;
        let arrays = [table.address(), squares?, loss?, of_norms?, control?];
        launch(device, &plan::update(parameters.len(), chunks, arrays, rates))?;
        Ok(norms)
    }
}

fn addresses(one: &Updated<'_>) -> Result<UpdatedArrays> {
    let array = |tensor: &Tensor| {
        if tensor.dtype() != DType::F32 || tensor.dims() != one.value.dims() {
            bail!("parameters, moments and gradients must be f32 tensors of one shape");
        }
        address_of(tensor)
    };
    Ok(UpdatedArrays {
        value: array(one.value)?,
        first_moment: array(one.first_moment)?,
        second_moment: array(one.second_moment)?,
        average: one.average.map(array).transpose()?.unwrap_or(0),
        gradient: array(one.gradient)?,
        length: one.value.elem_count(),
        decayed: one.decayed,
        clipped: one.clipped,
    })
}
