//! Cosines in f32, the numbers that answers hold.
//!
//! Written as independent lanes, which the compiler turns into vector registers; compiled twice, once for any processor
//! and once for AVX2 with fused multiply-add (every x86-64 server since 2015), chosen at run time.

/// Independent sums: four AVX2 registers, enough to hide the latency of a fused multiply-add.
const LANES: usize = 32;

/// The cosine of two unit vectors.
pub(super) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    // Rounding puts a vector up to 1e-7 beyond itself.
    dot(a, b).clamp(-1.0, 1.0)
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    debug_assert_eq!(a.len(), b.len());
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        #[expect(unsafe_code, reason = "calls code compiled for AVX2 and FMA")]
        // SAFETY: the processor has both features, checked on the line above.
        return unsafe { dot_avx2(a, b) };
    }
    dot_portable(a, b)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn dot_avx2(a: &[f32], b: &[f32]) -> f32 {
    lanes(a, b, f32::mul_add)
}

fn dot_portable(a: &[f32], b: &[f32]) -> f32 {
    // Without the instruction, `mul_add` would be a library call per component.
    lanes(a, b, |x, y, sum| x * y + sum)
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "must be compiled with its caller's instruction set")]
fn lanes(a: &[f32], b: &[f32], multiply_add: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..LANES {
            sums[lane] = multiply_add(x[lane], y[lane], sums[lane]);
        }
    }
    // Halving adds whole registers; a running sum would be one long chain.
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    a_rest.iter().zip(b_rest).fold(sums[0], |sum, (&x, &y)| multiply_add(x, y, sum))
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "sums of small integers are exact")]
mod tests {
    use super::*;

    /// Small integers: every sum is exact in f32, so both compilations must agree with the definition to the bit.
    #[test]
    fn dot_products_agree_with_the_definition_at_any_length() {
        for dimensions in [1, 7, 31, 32, 33, 192, 384, 401] {
            let a: Vec<f32> = (0..dimensions).map(|i| ((i * 7 % 11) as f32) - 5.0).collect();
            let b: Vec<f32> = (0..dimensions).map(|i| ((i * 5 % 13) as f32) - 6.0).collect();
            let expected: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
            assert_eq!(dot(&a, &b), expected);
            assert_eq!(dot_portable(&a, &b), expected);
        }
    }
}
