//! Loops over slices that the compiler turns into the widest vector instructions the running CPU has.
//!
//! Everything here is plain arithmetic marked `#[inline(always)]`, so that it is compiled once per instruction set
//! inside [`vectorized`]. Sums run over [`LANES`] partial sums in a fixed order: the same bits on every run.

#![expect(clippy::inline_always, reason = "code is compiled for an instruction set only where it is inlined")]

/// Partial sums per reduction: one 512-bit register of f32.
const LANES: usize = 16;

/// 1.5·2²³: adding it rounds to an integer and leaves that integer in the low mantissa bits.
const ROUND: f32 = 12_582_912.0;

/// Runs a loop compiled for the running CPU's instruction set. The closure must be `#[inline(always)]`.
pub(in crate::vit) fn vectorized<R>(body: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("fma") {
            #[expect(unsafe_code, reason = "functions compiled for an instruction set are unsafe to call")]
            // SAFETY: the CPU has the instructions the function is compiled for.
            return unsafe { with_avx512(body) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            #[expect(unsafe_code, reason = "functions compiled for an instruction set are unsafe to call")]
            // SAFETY: the CPU has the instructions the function is compiled for.
            return unsafe { with_avx2(body) };
        }
    }
    body()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn with_avx512<R>(body: impl FnOnce() -> R) -> R {
    body()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_avx2<R>(body: impl FnOnce() -> R) -> R {
    body()
}

/// eˣ within 1e-7 relative: range reduction by ln 2 and the minimax polynomial of Cephes' `expf`.
/// Arguments are clamped to the range of normal numbers; NaN stays NaN.
#[inline(always)]
pub(in crate::vit) fn exp(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = if x < -87.3 { -87.3 } else { x };
    let x = if x > 88.3 { 88.3 } else { x };
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let exponent = rounded - ROUND;
    let rest = exponent.mul_add(-LN_2_HIGH, x);
    let rest = exponent.mul_add(-LN_2_LOW, rest);
    let series = 1.987_569_1e-4_f32;
    let series = series.mul_add(rest, 1.398_2e-3);
    let series = series.mul_add(rest, 8.333_452e-3);
    let series = series.mul_add(rest, 4.166_579_6e-2);
    let series = series.mul_add(rest, 1.666_666_5e-1);
    let series = series.mul_add(rest, 0.5);
    let mantissa = series.mul_add(rest * rest, rest) + 1.0;
    mantissa * f32::from_bits(rounded.to_bits().wrapping_add(127) << 23)
}

/// 2ˣ within 2e-7 relative: the integer part goes into the exponent, the rest into a minimax polynomial. Arguments are
/// clamped to the range of normal numbers; NaN stays NaN.
#[inline(always)]
pub(in crate::vit) fn exp2(x: f32) -> f32 {
    let x = if x < -126.0 { -126.0 } else { x };
    let x = if x > 127.0 { 127.0 } else { x };
    let rounded = x + ROUND;
    let rest = x - (rounded - ROUND);
    let series = 1.330_060_7e-3_f32;
    let series = series.mul_add(rest, 9.669_691e-3);
    let series = series.mul_add(rest, 5.550_558_5e-2);
    let series = series.mul_add(rest, 2.402_228_3e-1);
    let series = series.mul_add(rest, std::f32::consts::LN_2);
    let mantissa = series.mul_add(rest, 1.0);
    mantissa * f32::from_bits(rounded.to_bits().wrapping_add(127) << 23)
}

/// The sum of `term` over one slice.
#[inline(always)]
pub(in crate::vit) fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let (blocks, tail) = values.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for block in blocks {
        for (lane, &value) in lanes.iter_mut().zip(block) {
            *lane += term(value);
        }
    }
    let mut total = add_lanes(lanes);
    for &value in tail {
        total += term(value);
    }
    total
}

/// The inner product of two slices of one length.
#[inline(always)]
pub(super) fn dot(left: &[f32], right: &[f32]) -> f32 {
    let (left_blocks, left_tail) = left.as_chunks::<LANES>();
    let (right_blocks, right_tail) = right.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for (left, right) in left_blocks.iter().zip(right_blocks) {
        for ((lane, &left), &right) in lanes.iter_mut().zip(left).zip(right) {
            *lane = left.mul_add(right, *lane);
        }
    }
    let mut total = add_lanes(lanes);
    for (&left, &right) in left_tail.iter().zip(right_tail) {
        total = left.mul_add(right, total);
    }
    total
}

/// The sum of `term` over three slices of one length.
#[inline(always)]
pub(super) fn sum3(a: &[f32], b: &[f32], c: &[f32], term: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let (a_blocks, a_tail) = a.as_chunks::<LANES>();
    let (b_blocks, b_tail) = b.as_chunks::<LANES>();
    let (c_blocks, c_tail) = c.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for ((a, b), c) in a_blocks.iter().zip(b_blocks).zip(c_blocks) {
        for (((lane, &a), &b), &c) in lanes.iter_mut().zip(a).zip(b).zip(c) {
            *lane += term(a, b, c);
        }
    }
    let mut total = add_lanes(lanes);
    for ((&a, &b), &c) in a_tail.iter().zip(b_tail).zip(c_tail) {
        total += term(a, b, c);
    }
    total
}

/// The largest element.
#[inline(always)]
pub(in crate::vit) fn max(values: &[f32]) -> f32 {
    let (blocks, tail) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for block in blocks {
        for (lane, &value) in lanes.iter_mut().zip(block) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    lanes.into_iter().chain(tail.iter().copied()).fold(f32::NEG_INFINITY, f32::max)
}

/// The largest magnitude; 0 of nothing.
#[inline(always)]
pub(in crate::vit) fn largest(values: &[f32]) -> f32 {
    let (blocks, tail) = values.as_chunks::<LANES>();
    let mut lanes = [0.0_f32; LANES];
    for block in blocks {
        for (lane, &value) in lanes.iter_mut().zip(block) {
            *lane = if value.abs() > *lane { value.abs() } else { *lane };
        }
    }
    lanes.into_iter().chain(tail.iter().map(|value| value.abs())).fold(0.0, f32::max)
}

/// The nearest integer, which has to fit.
#[inline(always)]
pub(in crate::vit) fn word(value: f32) -> i16 {
    (value + ROUND).to_bits() as i16
}

#[inline(always)]
fn add_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// `destination += source`, element by element.
pub(super) fn add(destination: &mut [f32], source: &[f32]) {
    vectorized(
        #[inline(always)]
        || {
            for (destination, &source) in destination.iter_mut().zip(source) {
                *destination += source;
            }
        },
    );
}

/// `totals += Σ rows`: the gradient of a bias from the gradient of its output.
pub(super) fn add_row_sums(totals: &mut [f32], rows: &[f32]) {
    vectorized(
        #[inline(always)]
        || {
            for row in rows.chunks_exact(totals.len()) {
                for (total, &value) in totals.iter_mut().zip(row) {
                    *total += value;
                }
            }
        },
    );
}

/// Every row of `destination` becomes `bias`.
pub(super) fn fill_rows(destination: &mut [f32], bias: &[f32]) {
    for row in destination.chunks_exact_mut(bias.len()) {
        row.copy_from_slice(bias);
    }
}

/// Every row of `destination` becomes the row of `rows` plus `bias`.
pub(super) fn add_bias(destination: &mut [f32], rows: &[f32], bias: &[f32]) {
    vectorized(
        #[inline(always)]
        || {
            let width = bias.len();
            for (destination, row) in destination.chunks_exact_mut(width).zip(rows.chunks_exact(width)) {
                for ((destination, &value), &bias) in destination.iter_mut().zip(row).zip(bias) {
                    *destination = value + bias;
                }
            }
        },
    );
}
