//! y = x·Wᵀ + b over `[.., in]`, with W stored `[out, in]`.

use super::matrix::{Matrix, MatrixMut, multiply, multiply_add};
use super::partition::{chunks_per_group, sum_in_order};
use super::storage::{output, rows_of, slice, tensor, with_slices};
use super::vector;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Rows per parallel task: enough for the product to outweigh its packing of W.
const ROWS_PER_TASK: usize = 512;

/// Rows of a weight's gradient per parallel task: enough for the product to outweigh its packing of x.
pub(super) const OUTPUTS_PER_TASK: usize = 128;

/// `x`, `weight`, `bias` to `y`.
pub(super) struct Linear {
    /// Whether x depends on a variable; pixels do not, and their gradient would cost as much as the forward pass.
    pub(super) differentiate_input: bool,
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "fused-linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = rows_of(x_layout.shape())?;
        let (x, weight, bias) =
            (slice(x, x_layout)?, slice(weight, weight_layout)?, slice(bias, bias_layout)?);
        let out = bias.len();
        let mut y = vec![0.0; rows * out];
        y.par_chunks_mut(ROWS_PER_TASK * out).zip(x.par_chunks(ROWS_PER_TASK * width)).for_each(|(y, x)| {
            vector::fill_rows(y, bias);
            let weight = Matrix::packed(weight, width);
            multiply_add(MatrixMut::packed(y, out), Matrix::packed(x, width), weight.transposed());
        });
        let mut dims = x_layout.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = out;
        }
        Ok(output(y, dims))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        y_gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (_, width) = rows_of(x.shape())?;
        let out = bias.elem_count();
        let y_gradient = y_gradient.contiguous()?;
        let (x_gradient, (weight_gradient, bias_gradient)) =
            with_slices([x, weight, &y_gradient], |[x, weight, y_gradient]| {
                let x_gradient =
                    self.differentiate_input.then(|| input_gradient(y_gradient, weight, width, out));
                (x_gradient, parameter_gradients(y_gradient, x, width, out))
            })?;
        Ok((
            x_gradient.map(|gradient| tensor(gradient, x.shape())).transpose()?,
            Some(tensor(weight_gradient, weight.shape())?),
            Some(tensor(bias_gradient, bias.shape())?),
        ))
    }
}

/// dx = dy·W.
fn input_gradient(y_gradient: &[f32], weight: &[f32], width: usize, out: usize) -> Vec<f32> {
    let mut x_gradient = vec![0.0; y_gradient.len() / out * width];
    x_gradient
        .par_chunks_mut(ROWS_PER_TASK * width)
        .zip(y_gradient.par_chunks(ROWS_PER_TASK * out))
        .for_each(|(x_gradient, y_gradient)| {
            let (y_gradient, weight) = (Matrix::packed(y_gradient, out), Matrix::packed(weight, width));
            multiply(MatrixMut::packed(x_gradient, width), 1.0, y_gradient, weight);
        });
    x_gradient
}

/// dW = dyᵀ·x and db = Σ dy.
fn parameter_gradients(y_gradient: &[f32], x: &[f32], width: usize, out: usize) -> (Vec<f32>, Vec<f32>) {
    let mut weight_gradient = vec![0.0; out * width];
    weight_gradient.par_chunks_mut(OUTPUTS_PER_TASK * width).enumerate().for_each(|(task, gradient)| {
        accumulate_weight(gradient, y_gradient, x, task * OUTPUTS_PER_TASK, [out, width]);
    });
    let rows = ROWS_PER_TASK * chunks_per_group(y_gradient.len().div_ceil(ROWS_PER_TASK * out), out);
    let partial_sums = y_gradient.par_chunks(rows * out).map(|y_gradient| {
        let mut sums = vec![0.0; out];
        vector::add_row_sums(&mut sums, y_gradient);
        sums
    });
    (weight_gradient, sum_in_order(partial_sums.collect()))
}

/// Adds to some rows of dW, from `first_output` on, those of dyᵀ·x; W is `[out, width]`.
///
/// Sharing out the rows of dW, not those of dy and x, leaves no partial sums to clear and to add.
pub(super) fn accumulate_weight(
    gradient: &mut [f32],
    y_gradient: &[f32],
    x: &[f32],
    first_output: usize,
    [out, width]: [usize; 2],
) {
    let (rows, outputs) = (x.len() / width, gradient.len() / width);
    let y_gradient = Matrix::strided(&y_gradient[first_output..], rows, outputs, out);
    multiply_add(MatrixMut::packed(gradient, width), y_gradient.transposed(), Matrix::packed(x, width));
}
