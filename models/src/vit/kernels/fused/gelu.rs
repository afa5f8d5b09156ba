//! GELU in its exact form, x·Φ(x) with Φ the normal distribution function.

use super::storage::{output, slice, tensor, with_slices};
use super::vector::{exp, exp2, vectorized};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Elements per parallel task.
const SPAN: usize = 1 << 14;

/// Element by element.
pub(super) struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "fused-gelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(x, layout)?;
        let mut y = vec![0.0; x.len()];
        y.par_chunks_mut(SPAN).zip(x.par_chunks(SPAN)).for_each(|(y, x)| forward(y, x));
        Ok(output(y, layout.shape()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, y_gradient: &Tensor) -> Result<Option<Tensor>> {
        let y_gradient = y_gradient.contiguous()?;
        let x_gradient = with_slices([x, &y_gradient], |[x, y_gradient]| {
            let mut x_gradient = y_gradient.to_vec();
            x_gradient.par_chunks_mut(SPAN).zip(x.par_chunks(SPAN)).for_each(|(gradient, x)| {
                vectorized(
                    #[inline(always)]
                    || {
                        for (gradient, &x) in gradient.iter_mut().zip(x) {
                            *gradient *= value_and_slope(x).1;
                        }
                    },
                );
            });
            x_gradient
        })?;
        Ok(Some(tensor(x_gradient, x.shape())?))
    }
}

/// y = gelu(x).
pub(super) fn forward(y: &mut [f32], x: &[f32]) {
    vectorized(
        #[inline(always)]
        || {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = value(x);
            }
        },
    );
}

/// x = gelu(x).
pub(in crate::vit) fn in_place(x: &mut [f32]) {
    vectorized(
        #[inline(always)]
        || {
            for x in x {
                *x = value(*x);
            }
        },
    );
}

/// Recomputes y = gelu(x) and multiplies `gradient`, that of y, by the slope: afterwards it is that of x.
pub(super) fn recompute_and_backward(y: &mut [f32], gradient: &mut [f32], x: &[f32]) {
    vectorized(
        #[inline(always)]
        || {
            for ((y, gradient), &x) in y.iter_mut().zip(gradient).zip(x) {
                let (value, slope) = value_and_slope(x);
                *y = value;
                *gradient *= slope;
            }
        },
    );
}

/// gelu(x) = max(x, 0) − |x|·Φ(−|x|), within 1e-7 where |x| is below 1 and within a rounding or two of x elsewhere.
///
/// log₂ Φ(−a) bends little: a polynomial of degree 6, fitted on \[0, 9\] so that the error of a·Φ(−a) is least, tells it
/// without a division. Beyond 9 the term is nothing beside x.
#[inline(always)]
fn value(x: f32) -> f32 {
    const LARGEST: f32 = 9.0;
    let size = x.abs();
    let a = if size > LARGEST { LARGEST } else { size };
    let series = 3.177_482_7e-5_f32;
    let series = series.mul_add(a, -7.569_152_5e-4);
    let series = series.mul_add(a, 8.036_972e-3);
    let series = series.mul_add(a, -5.333_74e-2);
    let series = series.mul_add(a, -4.588_343_2e-1);
    let series = series.mul_add(a, -1.151_177);
    let series = series.mul_add(a, -9.999_963e-1);
    let positive = if x > 0.0 { x } else { 0.0 };
    exp2(series).mul_add(-size, positive)
}

/// gelu(x) and its derivative Φ(x) + x·φ(x).
///
/// Φ(−|x|) = ½·erfc(|x|/√2) by formula 7.1.26 of Abramowitz and Stegun (error of erf below 1.5e-7), whose
/// exponential also gives the density φ.
#[inline(always)]
fn value_and_slope(x: f32) -> (f32, f32) {
    const P: f32 = 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2;
    const FRAC_1_SQRT_TAU: f32 = 0.398_942_3;
    let exponential = exp(-0.5 * x * x);
    let t = 1.0 / x.abs().mul_add(P, 1.0);
    let series = 1.061_405_4_f32;
    let series = series.mul_add(t, -1.453_152);
    let series = series.mul_add(t, 1.421_413_7);
    let series = series.mul_add(t, -0.284_496_74);
    let series = series.mul_add(t, 0.254_829_6);
    let tail = 0.5 * series * t * exponential;
    let distribution = if x < 0.0 { tail } else { 1.0 - tail };
    (x * distribution, (x * FRAC_1_SQRT_TAU).mul_add(exponential, distribution))
}
