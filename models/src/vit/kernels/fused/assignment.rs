//! Logarithm of the softmax over prototypes of cosines divided by a temperature.

use super::matrix::{Matrix, MatrixMut, multiply, multiply_add};
use super::partition::{ROWS_PER_CHUNK, chunks_per_group, sum_in_order};
use super::storage::{output, rows_of, slice, tensor, with_slices};
use super::vector::{self, vectorized};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Bound on squared lengths, below which rows are divided by 1e-12.
const SMALLEST_SQUARE: f32 = 1e-24;

/// `x` `[n, d]` and `prototypes` `[K, d]` to `[n, K]`.
pub(super) struct Assignment {
    pub(super) temperature: f32,
}

impl CustomOp2 for Assignment {
    fn name(&self) -> &'static str {
        "fused-assignment"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        prototypes: &CpuStorage,
        prototypes_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = rows_of(x_layout.shape())?;
        let (x, prototypes) = (slice(x, x_layout)?, slice(prototypes, prototypes_layout)?);
        let (prototypes, _) = unit_rows(prototypes, width);
        let count = prototypes.len() / width;
        let mut out = vec![0.0; rows * count];
        out.par_chunks_mut(ROWS_PER_CHUNK * count).zip(x.par_chunks(ROWS_PER_CHUNK * width)).for_each(
            |(out, x)| {
                let (x, _) = unit_rows(x, width);
                let prototypes = Matrix::packed(&prototypes, width).transposed();
                let scale = 1.0 / self.temperature;
                multiply(MatrixMut::packed(out, count), scale, Matrix::packed(&x, width), prototypes);
                log_softmax(out, count);
            },
        );
        Ok(output(out, (rows, count)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        prototypes: &Tensor,
        out: &Tensor,
        out_gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (rows, width) = rows_of(x.shape())?;
        let out_gradient = out_gradient.contiguous()?;
        let (x_gradient, prototypes_gradient) =
            with_slices([x, prototypes, out, &out_gradient], |[x, prototypes, out, out_gradient]| {
                let (units, inverses) = unit_rows(prototypes, width);
                let count = inverses.len();
                let mut x_gradient = vec![0.0; x.len()];
                let span = ROWS_PER_CHUNK * chunks_per_group(rows.div_ceil(ROWS_PER_CHUNK), prototypes.len());
                let partial_sums = (
                    x_gradient.par_chunks_mut(span * width),
                    x.par_chunks(span * width),
                    out.par_chunks(span * count),
                    out_gradient.par_chunks(span * count),
                )
                    .into_par_iter()
                    .map(|(x_gradient, x, out, out_gradient)| {
                        let out = Outputs { count, values: out, gradient: out_gradient };
                        self.backward(x_gradient, x, &units, out)
                    })
                    .collect();
                let mut prototypes_gradient = sum_in_order(partial_sums);
                unit_rows_backward(&mut prototypes_gradient, &units, &inverses);
                (x_gradient, prototypes_gradient)
            })?;
        Ok((Some(tensor(x_gradient, x.shape())?), Some(tensor(prototypes_gradient, prototypes.shape())?)))
    }
}

impl Assignment {
    /// Writes the gradient of some rows of x, `width` wide; returns their part of that of the unit prototypes.
    fn backward(&self, x_gradient: &mut [f32], x: &[f32], prototypes: &[f32], out: Outputs<'_>) -> Vec<f32> {
        let Outputs { count, values, gradient } = out;
        let width = prototypes.len() / count;
        let (units, inverses) = unit_rows(x, width);
        let mut logits = gradient.to_vec();
        log_softmax_backward(&mut logits, values, count, 1.0 / self.temperature);
        let logits = Matrix::packed(&logits, count);
        multiply(MatrixMut::packed(x_gradient, width), 1.0, logits, Matrix::packed(prototypes, width));
        unit_rows_backward(x_gradient, &units, &inverses);
        let mut sums = vec![0.0; prototypes.len()];
        multiply_add(MatrixMut::packed(&mut sums, width), logits.transposed(), Matrix::packed(&units, width));
        sums
    }
}

/// Some rows of the operation's result and of its gradient, `count` wide.
#[derive(Clone, Copy)]
struct Outputs<'a> {
    count: usize,
    values: &'a [f32],
    gradient: &'a [f32],
}

/// Rows divided by their length, and what they were multiplied by.
fn unit_rows(x: &[f32], width: usize) -> (Vec<f32>, Vec<f32>) {
    let (mut units, mut inverses) = (x.to_vec(), vec![0.0; x.len() / width]);
    vectorized(
        #[inline(always)]
        || {
            for (row, inverse) in units.chunks_exact_mut(width).zip(&mut inverses) {
                *inverse = 1.0 / vector::dot(row, row).max(SMALLEST_SQUARE).sqrt();
                for value in row {
                    *value *= *inverse;
                }
            }
        },
    );
    (units, inverses)
}

/// The gradient of rows from that of the unit rows, in place: (g − x̂·(x̂·g)) / |x|; a bounded length is a constant.
fn unit_rows_backward(gradients: &mut [f32], units: &[f32], inverses: &[f32]) {
    let width = units.len() / inverses.len();
    let bounded = 1.0 / SMALLEST_SQUARE.sqrt();
    vectorized(
        #[inline(always)]
        || {
            for ((gradient, unit), &inverse) in
                gradients.chunks_exact_mut(width).zip(units.chunks_exact(width)).zip(inverses)
            {
                let along = if inverse >= bounded { 0.0 } else { vector::dot(gradient, unit) };
                for (gradient, &unit) in gradient.iter_mut().zip(unit) {
                    *gradient = inverse * (*gradient - unit * along);
                }
            }
        },
    );
}

/// Of each row, in place.
fn log_softmax(rows: &mut [f32], width: usize) {
    vectorized(
        #[inline(always)]
        || {
            for row in rows.chunks_exact_mut(width) {
                let max = vector::max(row);
                let sum = vector::sum(
                    row,
                    #[inline(always)]
                    |value| vector::exp(value - max),
                );
                let shift = max + sum.ln();
                for value in row.iter_mut() {
                    *value -= shift;
                }
            }
        },
    );
}

/// scale · (g − exp(out)·Σg) of each row, in place of g.
fn log_softmax_backward(gradients: &mut [f32], out: &[f32], width: usize, scale: f32) {
    vectorized(
        #[inline(always)]
        || {
            for (gradient, out) in gradients.chunks_exact_mut(width).zip(out.chunks_exact(width)) {
                let sum = vector::sum(
                    gradient,
                    #[inline(always)]
                    |value| value,
                );
                for (gradient, &out) in gradient.iter_mut().zip(out) {
                    *gradient = scale * (*gradient - vector::exp(out) * sum);
                }
            }
        },
    );
}
