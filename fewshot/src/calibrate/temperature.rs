//! One temperature for all classes: a convex search in one dimension.

use super::Judgement;

/// Inverse temperatures searched, in units of one over the logits' spread. At the smallest all classes are alike; at
/// the largest the first class takes all.
const RANGE: (f64, f64) = (1e-3, 1e3);
/// Relative change of the inverse temperature that ends the search.
const TOLERANCE: f64 = 1e-9;
/// Bisection of the range alone would need 44.
const MAX_STEPS: usize = 100;

/// The inverse temperature b that minimises Σ −Σ target·log softmax(b·logits), where each target is its label for
/// 1 − `smoothing` and uniform for the rest.
///
/// 1 where nothing decides: no judgements, or logits that are all alike.
pub(super) fn fit(judgements: &[Judgement<'_>], smoothing: f64) -> f64 {
    let (_, variance) = derivatives(judgements, smoothing, 0.0);
    if variance <= 0.0 {
        return 1.0;
    }
    let spread = (variance / judgements.len() as f64).sqrt();
    let (mut low, mut high) = (RANGE.0 / spread, RANGE.1 / spread);
    let mut inverse = 1.0 / spread;
    for _ in 0..MAX_STEPS {
        let (slope, curvature) = derivatives(judgements, smoothing, inverse);
        if slope > 0.0 {
            high = inverse;
        } else {
            low = inverse;
        }
        // Newton, or the geometric middle where that leaves the interval in which the slope changes sign.
        let newton = inverse - slope / curvature;
        let next = if newton > low && newton < high { newton } else { (low * high).sqrt() };
        if (next - inverse).abs() <= TOLERANCE * inverse {
            return next;
        }
        inverse = next;
    }
    inverse
}

/// First and second derivative of the objective.
///
/// In one softmax they are the mean logit less the target's, and the variance of the logits.
fn derivatives(judgements: &[Judgement<'_>], smoothing: f64, inverse: f64) -> (f64, f64) {
    let (mut slope, mut curvature) = (0.0, 0.0);
    for judgement in judgements {
        let largest = judgement.largest();
        let (mut total, mut first, mut second) = (0.0, 0.0, 0.0);
        let (mut sum, mut known) = (0.0, 0.0);
        for behind in judgement.known().map(|logit| logit - largest) {
            let weight = (inverse * behind).exp();
            total += weight;
            first += weight * behind;
            second += weight * behind * behind;
            sum += behind;
            known += 1.0;
        }
        let mean = first / total;
        let own = judgement.logits[judgement.label] - largest;
        slope += mean - (1.0 - smoothing) * own - smoothing * sum / known;
        curvature += second / total - mean * mean;
    }
    (slope, curvature)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits of three classes, labels mostly the largest.
    fn logits() -> Vec<(Vec<f64>, usize)> {
        let row = |i: usize| {
            let logits: Vec<f64> =
                (0..3).map(|class| ((i * 37 + class * 11 + i * i) % 19) as f64 / 3.0).collect();
            let best = (0..3).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
            (logits, if i.is_multiple_of(4) { i % 3 } else { best })
        };
        (0..24).map(row).collect()
    }

    fn judgements(rows: &[(Vec<f64>, usize)]) -> Vec<Judgement<'_>> {
        rows.iter().map(|(logits, label)| Judgement { logits, label: *label }).collect()
    }

    fn objective(rows: &[(Vec<f64>, usize)], smoothing: f64, inverse: f64) -> f64 {
        let loss = |(logits, label): &(Vec<f64>, usize)| {
            let known: Vec<f64> = logits.iter().copied().filter(|logit| logit.is_finite()).collect();
            let total = known.iter().map(|logit| (inverse * logit).exp()).sum::<f64>().ln();
            let mean = known.iter().sum::<f64>() / known.len() as f64;
            total - inverse * ((1.0 - smoothing) * logits[*label] + smoothing * mean)
        };
        rows.iter().map(loss).sum()
    }

    #[test]
    fn derivatives_agree_with_finite_differences() {
        let mut rows = logits();
        let other = (rows[3].1 + 1) % 3;
        rows[3].0[other] = f64::NEG_INFINITY;
        for (smoothing, inverse) in [(0.0, 1.0), (0.2, 0.3), (0.05, 4.0)] {
            let (slope, curvature) = derivatives(&judgements(&rows), smoothing, inverse);
            let at = |inverse| objective(&rows, smoothing, inverse);
            let step = 1e-4;
            assert!((slope - (at(inverse + step) - at(inverse - step)) / (2.0 * step)).abs() < 1e-5);
            let second = (at(inverse + step) - 2.0 * at(inverse) + at(inverse - step)) / (step * step);
            assert!((curvature - second).abs() < 1e-4, "{curvature} {second}");
        }
    }

    #[test]
    fn the_minimum_is_found() {
        let rows = logits();
        let inverse = fit(&judgements(&rows), 0.1);
        let (slope, _) = derivatives(&judgements(&rows), 0.1, inverse);
        assert!(slope.abs() < 1e-6, "{inverse} {slope}");
    }

    #[test]
    fn the_range_holds_where_there_is_no_minimum() {
        let wrong = [(vec![1.0, -1.0], 1)];
        assert!((fit(&judgements(&wrong), 0.0) - RANGE.0).abs() < 1e-9);
        let right = [(vec![1.0, -1.0], 0)];
        assert!((10.0..=RANGE.1).contains(&fit(&judgements(&right), 0.0)));
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "nothing is computed")]
    fn nothing_decides_for_one() {
        assert_eq!(fit(&[], 0.5), 1.0);
        assert_eq!(fit(&judgements(&[(vec![2.0, 2.0], 1)]), 0.5), 1.0);
        assert_eq!(fit(&judgements(&[(vec![2.0, f64::NEG_INFINITY], 0)]), 0.5), 1.0);
    }
}
