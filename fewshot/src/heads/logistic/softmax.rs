//! The softmax of one example, in f32 and in loops that the compiler turns into vector registers.

/// Independent partial results.
const LANES: usize = 16;

/// What one example adds to the objective.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    /// −log of the label's probability.
    pub(super) loss: f64,
    /// p·(1 − p) of the label.
    pub(super) own_curvature: f64,
    /// The sum of p·(1 − p) over all other classes.
    pub(super) other_curvature: f64,
    /// The label's logit is the largest, and no lower class has the same.
    pub(super) is_right: bool,
}

/// Turns logits into residuals, probabilities less 1 for the label, times the example's weight.
///
/// The label's own share is kept out of the sums: where it is nearly 1, the residual and the loss are the sum of what is
/// left, as precise as f32 gets, and not the difference to 1, which would lose all digits.
pub(super) fn residuals(logits: &mut [f32], label: usize, weight: f32) -> Outcome {
    let largest = largest(logits);
    let own = logits[label];
    let is_right = own >= largest && logits[..label].iter().all(|&lower| lower < own);
    logits[label] = f32::NEG_INFINITY;
    let (others, squares) = exponentials(logits, largest);
    let own_part = f64::from(own - largest).exp();
    let total = own_part + others;
    let (own_probability, other_probability) = (own_part / total, others / total);
    let scale = (f64::from(weight) / total) as f32;
    for share in &mut *logits {
        *share *= scale;
    }
    logits[label] = (f64::from(weight) * -other_probability) as f32;
    Outcome {
        loss: total.ln() - f64::from(own - largest),
        own_curvature: own_probability * other_probability,
        other_curvature: (other_probability - squares / (total * total)).max(0.0),
        is_right,
    }
}

fn largest(logits: &[f32]) -> f32 {
    let greater = |a: f32, b: f32| if b > a { b } else { a };
    let (blocks, rest) = logits.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for block in blocks {
        for lane in 0..LANES {
            lanes[lane] = greater(lanes[lane], block[lane]);
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, greater)
}

/// Replaces logits by exp(logit − largest); the sum of these and of their squares.
fn exponentials(logits: &mut [f32], largest: f32) -> (f64, f64) {
    let (blocks, rest) = logits.as_chunks_mut::<LANES>();
    let mut sums = [0.0f32; LANES];
    let mut squares = [0.0f32; LANES];
    for block in blocks {
        for lane in 0..LANES {
            let share = exponential(block[lane] - largest);
            block[lane] = share;
            sums[lane] += share;
            squares[lane] += share * share;
        }
    }
    for (lane, logit) in rest.iter_mut().enumerate() {
        *logit = exponential(*logit - largest);
        sums[lane] += *logit;
        squares[lane] += *logit * *logit;
    }
    (sums.iter().copied().map(f64::from).sum(), squares.iter().copied().map(f64::from).sum())
}

/// exp(x) for x ≤ 0 to within 2 units in the last place; 0 where that is below the normal numbers.
///
/// x = k·ln 2 + r with |r| ≤ ½·ln 2; then 2^k by its bits and exp(r) by the polynomial of Cephes' `expf`.
#[inline(always)]
fn exponential(x: f32) -> f32 {
    /// Below it 2^k has no normal form.
    const LEAST: f32 = -87.0;
    /// Adding 1.5·2²³ rounds to a whole number and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts, so that k·ln 2 is exact to more than f32.
    const LN_2: [f32; 2] = [355.0 / 512.0, -2.121_944_4e-4];
    let bounded = if x > LEAST { x } else { LEAST };
    let rounded = bounded * std::f32::consts::LOG2_E + ROUND;
    let k = rounded - ROUND;
    let r = bounded - k * LN_2[0] - k * LN_2[1];
    let mut series = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        series = series * r + coefficient;
    }
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    let value = (series * r * r + r + 1.0) * power;
    if x > LEAST { value } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::softmax;

    #[test]
    fn exponentials_are_good_to_the_last_digits() {
        for step in 0..87_000 {
            let x = -(step as f32) / 1000.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exponential(x)) / exact - 1.0).abs() < 2.5e-7, "{x}");
        }
        assert!((exponential(0.0) - 1.0).abs() < f32::EPSILON);
        for x in [-87.1, -1e30, f32::NEG_INFINITY] {
            assert!(exponential(x).abs() < f32::MIN_POSITIVE, "{x}");
        }
    }

    #[test]
    fn residuals_are_those_of_the_plain_softmax() {
        for (classes, label) in [(2, 0), (3, 2), (16, 5), (17, 16), (50, 49)] {
            let logits: Vec<f32> = (0..classes).map(|i| ((i * 29 % 31) as f32 - 15.0) / 3.0).collect();
            let mut expected: Vec<f64> = logits.iter().copied().map(f64::from).collect();
            let loss = softmax(&mut expected) - f64::from(logits[label]);
            let curvature = |class: usize| expected[class] * (1.0 - expected[class]);
            let others: f64 = (0..classes).filter(|&class| class != label).map(curvature).sum();
            let mut residual = logits.clone();
            let outcome = residuals(&mut residual, label, 2.0);
            assert!((outcome.loss - loss).abs() < 1e-6 * loss, "{outcome:?} {loss}");
            assert!((outcome.own_curvature - curvature(label)).abs() < 1e-6);
            assert!((outcome.other_curvature - others).abs() < 1e-6);
            for (class, (residual, probability)) in residual.iter().zip(&expected).enumerate() {
                let target = f64::from(u8::from(class == label));
                assert!((f64::from(*residual) - 2.0 * (probability - target)).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn what_is_left_of_a_sure_answer_keeps_its_digits() {
        let mut logits = [30.0, 0.0, 1.0];
        let outcome = residuals(&mut logits, 0, 1.0);
        let left = (-30f64).exp() + (-29f64).exp();
        assert!((outcome.loss / left.ln_1p() - 1.0).abs() < 1e-3, "{outcome:?}");
        assert!((f64::from(logits[0]) / -left - 1.0).abs() < 1e-6, "{logits:?}");
    }

    #[test]
    fn of_equal_logits_the_lowest_is_the_answer() {
        assert!(residuals(&mut [1.0, 1.0, 0.0], 0, 1.0).is_right);
        assert!(!residuals(&mut [1.0, 1.0, 0.0], 1, 1.0).is_right);
        assert!(!residuals(&mut [1.0, 0.5, 0.0], 2, 1.0).is_right);
    }
}
