//! LayerNorm over the last dimension. The backward pass recomputes mean and deviation: cheaper than keeping them.

#![expect(clippy::inline_always, reason = "code is compiled for an instruction set only where it is inlined")]

use super::partition::{ROWS_PER_CHUNK, chunks_per_group, sum_in_order};
use super::storage::{output, rows_of, slice, tensor, with_slices};
use super::vector::{self, vectorized};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// `x`, `weight`, `bias` to the normalised `x`.
pub(super) struct LayerNorm {
    pub(super) eps: f32,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "fused-layer-norm"
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
        let (x, weight, bias) =
            (slice(x, x_layout)?, slice(weight, weight_layout)?, slice(bias, bias_layout)?);
        let mut y = vec![0.0; x.len()];
        let span = ROWS_PER_CHUNK * weight.len();
        y.par_chunks_mut(span)
            .zip(x.par_chunks(span))
            .for_each(|(y, x)| forward(y, x, weight, bias, self.eps));
        Ok(output(y, x_layout.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _bias: &Tensor,
        _y: &Tensor,
        y_gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (rows, width) = rows_of(x.shape())?;
        let y_gradient = y_gradient.contiguous()?;
        let chunks = rows.div_ceil(ROWS_PER_CHUNK);
        let span = ROWS_PER_CHUNK * chunks_per_group(chunks, 2 * width) * width;
        let (x_gradient, mut parameters) =
            with_slices([x, weight, &y_gradient], |[x, weight, y_gradient]| {
                let mut x_gradient = vec![0.0; x.len()];
                let partial_sums =
                    (x_gradient.par_chunks_mut(span), x.par_chunks(span), y_gradient.par_chunks(span))
                        .into_par_iter()
                        .map(|(x_gradient, x, y_gradient)| {
                            let mut sums = vec![0.0; 2 * width];
                            let (weight_gradient, bias_gradient) = sums.split_at_mut(width);
                            backward(
                                x_gradient,
                                weight_gradient,
                                bias_gradient,
                                x,
                                weight,
                                y_gradient,
                                self.eps,
                            );
                            sums
                        })
                        .collect();
                (x_gradient, sum_in_order(partial_sums))
            })?;
        let bias_gradient = parameters.split_off(width);
        Ok((
            Some(tensor(x_gradient, x.shape())?),
            Some(tensor(parameters, weight.shape())?),
            Some(tensor(bias_gradient, weight.shape())?),
        ))
    }
}

/// Normalises each row of `x` into `y`; the width is that of `weight`.
pub(in crate::vit) fn forward(y: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32], eps: f32) {
    vectorized(
        #[inline(always)]
        || {
            let width = weight.len();
            for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                let (mean, scale) = statistics(x, eps);
                for (((y, &x), &weight), &bias) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                    *y = ((x - mean) * scale).mul_add(weight, bias);
                }
            }
        },
    );
}

/// Adds the gradients of x, weight and bias to what their slices hold.
///
/// With x̂ the normalised row and g = dy ⊙ weight: dx = (g − mean(g) − x̂·mean(g ⊙ x̂)) / σ.
pub(super) fn backward(
    x_gradient: &mut [f32],
    weight_gradient: &mut [f32],
    bias_gradient: &mut [f32],
    x: &[f32],
    weight: &[f32],
    y_gradient: &[f32],
    eps: f32,
) {
    vectorized(
        #[inline(always)]
        || {
            let width = weight.len();
            let rows = x_gradient.chunks_exact_mut(width);
            let rows = rows.zip(x.chunks_exact(width)).zip(y_gradient.chunks_exact(width));
            for ((x_gradient, x), y_gradient) in rows {
                let (mean, scale) = statistics(x, eps);
                let mean_g = vector::dot(y_gradient, weight) / width as f32;
                let moment = vector::sum3(
                    x,
                    weight,
                    y_gradient,
                    #[inline(always)]
                    |x, weight, y_gradient| (x - mean) * weight * y_gradient,
                );
                let mean_g_x = moment * scale / width as f32;
                let inputs = x.iter().zip(weight).zip(y_gradient);
                let sums = weight_gradient.iter_mut().zip(bias_gradient.iter_mut());
                for ((x_gradient, ((&x, &weight), &y_gradient)), (weight_sum, bias_sum)) in
                    x_gradient.iter_mut().zip(inputs).zip(sums)
                {
                    let normalised = (x - mean) * scale;
                    let g = weight * y_gradient;
                    *weight_sum = y_gradient.mul_add(normalised, *weight_sum);
                    *bias_sum += y_gradient;
                    *x_gradient = scale.mul_add(normalised.mul_add(-mean_g_x, g - mean_g), *x_gradient);
                }
            }
        },
    );
}

/// Mean and 1/√(variance + eps) of one row, by two passes.
#[inline(always)]
fn statistics(row: &[f32], eps: f32) -> (f32, f32) {
    let count = row.len() as f32;
    let mean = vector::sum(
        row,
        #[inline(always)]
        |value| value,
    ) / count;
    let variance = vector::sum(
        row,
        #[inline(always)]
        |value| (value - mean) * (value - mean),
    ) / count;
    (mean, 1.0 / (variance + eps).sqrt())
}
