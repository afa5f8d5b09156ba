//! The linear algebra of the heads, in f64 on row-major slices.

mod cholesky;
mod covariance;
mod product;

pub(crate) use cholesky::Cholesky;
pub(crate) use covariance::{Centred, ShrunkCovariance};
pub(crate) use product::{View, add_product, for_each_row, multiply};

/// Eight partial sums, so that the compiler may use vector registers.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a_blocks, a_rest) = a.as_chunks::<8>();
    let (b_blocks, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum::<f64>()
}

/// Turns logits into probabilities and returns log Σ exp, shifted by the largest so that nothing overflows.
pub(crate) fn softmax(logits: &mut [f64]) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut total = 0.0;
    for logit in logits.iter_mut() {
        *logit = (*logit - largest).exp();
        total += *logit;
    }
    for probability in logits {
        *probability /= total;
    }
    largest + total.ln()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these results are exact")]
mod tests {
    use super::*;

    #[test]
    fn huge_logits_do_not_overflow() {
        let mut logits = [1e6, 0.0];
        assert_eq!((softmax(&mut logits), logits), (1e6, [1.0, 0.0]));
        let mut logits = [-1e6, -1e6];
        assert_eq!((softmax(&mut logits), logits), (-1e6 + 2f64.ln(), [0.5, 0.5]));
    }

    #[test]
    fn dot_products_cover_the_remainder() {
        let a: Vec<f64> = (0..19).map(f64::from).collect();
        assert_eq!(dot(&a, &a), 2109.0);
    }
}
