//! Intervals and tests for counts: exact or near-exact, because the counts here are small.

use serde::{Deserialize, Serialize};

/// A range that holds the truth with the confidence its maker states.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The 97.5 % quantile of the normal distribution: both tails together hold 5 %.
const NORMAL_QUANTILE: f64 = 1.959_963_984_540_054;

/// Wilson's 95 % interval of a proportion (Wilson 1927): never outside 0 to 1, and wide where counts are small.
///
/// Nothing seen is nothing known: 0 to 1.
pub fn wilson(right: usize, total: usize) -> Interval {
    if total == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let (n, share, z) = (total as f64, right as f64 / total as f64, NORMAL_QUANTILE);
    let shrink = 1.0 / (1.0 + z * z / n);
    let centre = shrink * (share + z * z / (2.0 * n));
    let half = shrink * z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    // The ends are exactly 0 and 1 there; rounding would leave 1e-17.
    Interval {
        low: if right == 0 { 0.0 } else { centre - half },
        high: if right == total { 1.0 } else { centre + half },
    }
}

/// Chance of at least `successes` heads in `trials` throws of a fair coin.
///
/// An exact sum, walked away from the middle so that the first term is the largest and the rest can stop when they no
/// longer count. Its scale is ln C(n, k), a sum of n logarithms, good to about 1e-11 at n = 100,000.
pub fn fair_coin_tail(successes: usize, trials: usize) -> f64 {
    if successes == 0 {
        return 1.0;
    }
    if successes > trials {
        return 0.0;
    }
    // By symmetry P(X ≥ k) = 1 − P(X ≥ n − k + 1): sum the tail that lies beyond the middle.
    if 2 * successes <= trials {
        return 1.0 - fair_coin_tail(trials - successes + 1, trials);
    }
    let logarithm: f64 =
        (1..=trials - successes).map(|i| ((successes + i) as f64 / i as f64).ln()).sum::<f64>()
            - trials as f64 * std::f64::consts::LN_2;
    let (mut term, mut total) = (1.0, 1.0);
    for k in successes..trials {
        term *= (trials - k) as f64 / (k + 1) as f64;
        total += term;
        if term < total * f64::EPSILON {
            break;
        }
    }
    (total.ln() + logarithm).exp()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the ends of the ranges are exact")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The formula evaluated in Python.
    #[test]
    fn wilson_intervals_agree_with_the_closed_form() {
        for (right, total, low, high) in [
            (0, 10, 0.0, 0.277_532_799_863_088_8),
            (8, 10, 0.490_162_471_536_642, 0.943_317_848_545_624_7),
            (1, 1, 0.206_549_314_377_237_45, 1.0),
        ] {
            let interval = wilson(right, total);
            assert!((interval.low - low).abs() < 1e-9, "{interval:?}");
            assert!((interval.high - high).abs() < 1e-9, "{interval:?}");
        }
        assert_eq!(wilson(0, 0), Interval { low: 0.0, high: 1.0 });
    }

    /// `scipy.stats.binom.sf(k - 1, n, 0.5)`.
    #[test]
    fn tails_agree_with_scipy() {
        for (successes, trials, expected) in SCIPY_TAILS {
            let tail = fair_coin_tail(successes, trials);
            assert!(
                (tail / expected - 1.0).abs() < 1e-9,
                "{successes} of {trials}: {tail}, scipy {expected}"
            );
        }
        assert_eq!(fair_coin_tail(0, 0), 1.0);
        assert_eq!(fair_coin_tail(4, 3), 0.0);
    }

    const SCIPY_TAILS: [(usize, usize, f64); 8] = [
        (1, 1, 0.5),
        (8, 10, 0.054_687_5),
        (3, 10, 0.945_312_5),
        (60, 100, 0.028_443_966_820_490_444),
        (40, 100, 0.982_399_899_891_147_6),
        (510, 1000, 0.273_986_372_961_738_3),
        (50_400, 100_000, 0.005_757_462_745_114_51),
        (52_000, 100_000, 5.765_469_333_363_917e-37),
    ];

    proptest! {
        /// The definition, in exact integers.
        #[test]
        fn tails_agree_with_the_definition(trials in 0u64..60, successes in 0u64..62) {
            let choose = |k: u64| (0..k).fold(1u128, |c, i| c * u128::from(trials - i) / u128::from(i + 1));
            let sum: u128 = (successes..=trials).map(choose).sum();
            let expected = sum as f64 / 2f64.powi(trials as i32);
            let tail = fair_coin_tail(successes as usize, trials as usize);
            prop_assert!((tail - expected).abs() <= 1e-12, "{} {}", tail, expected);
        }

        #[test]
        fn wilson_holds_the_share_and_narrows(right in 0usize..200, more in 1usize..200) {
            let total = right + more;
            let few = wilson(right, total);
            let many = wilson(right * 10, total * 10);
            let share = right as f64 / total as f64;
            prop_assert!(0.0 <= few.low && few.low <= share && share <= few.high && few.high <= 1.0);
            prop_assert!(many.high - many.low < few.high - few.low);
        }
    }
}
