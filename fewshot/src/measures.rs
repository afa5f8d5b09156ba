//! How far answers can be trusted, measured on answers whose truth is known.
//!
//! Small functions for a head's metrics and for benchmarks. Each returns `None` where there is nothing to measure.

use std::cmp::Ordering;

use crate::ClassKey;
use crate::conformal::PredictionSet;
use crate::heads::Score;

/// A head's answer, best first, and the truth.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// As [`crate::heads::Head::predict`] gives them.
    pub scores: &'a [Score],
    /// The class it is.
    pub truth: ClassKey,
}

impl Judged<'_> {
    /// Probability given to the truth; 0 where it is not among the scores.
    fn truth_probability(&self) -> f64 {
        self.scores
            .iter()
            .find(|score| score.class == self.truth)
            .map_or(0.0, |score| f64::from(score.probability))
    }
}

/// Bins of [`expected_calibration_error`], as in arXiv 1706.04599, §2.
const BINS: usize = 15;
/// Smallest probability whose logarithm [`log_loss`] takes: one impossible truth must not make the mean infinite.
const SMALLEST: f64 = 1e-12;

/// Mean distance between confidence and accuracy of the first class, over 15 bins of equal width (arXiv 1706.04599, eq.
/// 3).
pub fn expected_calibration_error(answers: &[Judged<'_>]) -> Option<f64> {
    // Σ (confidence − right) of each bin: the distance of its means, times its count.
    let mut gaps = [0.0; BINS];
    for answer in answers {
        let (confidence, right) = answer
            .scores
            .first()
            .map_or((0.0, false), |best| (f64::from(best.probability), best.class == answer.truth));
        let bin = ((confidence * BINS as f64) as usize).min(BINS - 1);
        gaps[bin] += confidence - f64::from(u8::from(right));
    }
    mean(gaps.iter().map(|gap| gap.abs()), answers.len())
}

/// Mean squared distance between the probabilities and the truth, 0 to 2 (Brier, 1950).
pub fn brier(answers: &[Judged<'_>]) -> Option<f64> {
    let square = |answer: &Judged<'_>| {
        let all: f64 = answer.scores.iter().map(|score| f64::from(score.probability).powi(2)).sum();
        all + 1.0 - 2.0 * answer.truth_probability()
    };
    mean(answers.iter().map(square), answers.len())
}

/// Mean −log probability of the truth, in nats; a probability below 1e-12 counts as 1e-12.
pub fn log_loss(answers: &[Judged<'_>]) -> Option<f64> {
    mean(answers.iter().map(|answer| -answer.truth_probability().max(SMALLEST).ln()), answers.len())
}

/// Chance that a positive's value is above a negative's, ties counting half: the area under the ROC curve.
pub fn auroc(positives: &[f64], negatives: &[f64]) -> Option<f64> {
    let mut ascending = negatives.to_vec();
    ascending.sort_by(f64::total_cmp);
    let below = |value: f64| ascending.partition_point(|other| other.total_cmp(&value) == Ordering::Less);
    let not_above =
        |value: f64| ascending.partition_point(|other| other.total_cmp(&value) != Ordering::Greater);
    let wins = positives.iter().map(|&value| f64::midpoint(below(value) as f64, not_above(value) as f64));
    mean(wins, positives.len() * negatives.len())
}

/// Share of sets that hold the truth.
pub fn coverage<'a>(sets: impl IntoIterator<Item = (&'a PredictionSet, ClassKey)>) -> Option<f64> {
    let (mut held, mut count) = (0, 0);
    for (set, truth) in sets {
        held += usize::from(set.classes.contains(&truth));
        count += 1;
    }
    mean(std::iter::once(held as f64), count)
}

/// Mean number of classes in a set.
pub fn mean_set_size<'a>(sets: impl IntoIterator<Item = &'a PredictionSet>) -> Option<f64> {
    let (mut classes, mut count) = (0, 0);
    for set in sets {
        classes += set.classes.len();
        count += 1;
    }
    mean(std::iter::once(classes as f64), count)
}

fn mean(values: impl Iterator<Item = f64>, count: usize) -> Option<f64> {
    (count > 0).then(|| values.sum::<f64>() / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(probabilities: &[f32]) -> Vec<Score> {
        let score = |(class, &probability): (usize, &f32)| Score {
            class: class as u64,
            probability,
            similarity: 0.0,
        };
        probabilities.iter().enumerate().map(score).collect()
    }

    fn close(ours: Option<f64>, expected: f64) {
        assert!((ours.unwrap() - expected).abs() < 1e-6, "{ours:?} {expected}");
    }

    #[test]
    fn probabilities_are_measured_as_defined() {
        let (sure, unsure) = (scores(&[0.9, 0.1]), scores(&[0.6, 0.4]));
        let answers = [
            Judged { scores: &sure, truth: 0 },
            Judged { scores: &sure, truth: 1 },
            Judged { scores: &unsure, truth: 0 },
        ];
        // One bin of 0.9 twice with half right, one of 0.6 with all right.
        close(expected_calibration_error(&answers), (0.8 + 0.4) / 3.0);
        close(brier(&answers), (0.02 + 1.62 + 0.32) / 3.0);
        close(log_loss(&answers), -(0.9f64.ln() + 0.1f64.ln() + 0.6f64.ln()) / 3.0);
    }

    #[test]
    fn a_truth_that_was_no_candidate_counts_as_impossible() {
        let sure = scores(&[1.0]);
        let answers = [Judged { scores: &sure, truth: 7 }];
        close(expected_calibration_error(&answers), 1.0);
        close(brier(&answers), 2.0);
        close(log_loss(&answers), -SMALLEST.ln());
        let none = [Judged { scores: &[], truth: 7 }];
        close(expected_calibration_error(&none), 0.0);
        close(brier(&none), 1.0);
    }

    #[test]
    fn the_area_counts_pairs() {
        close(auroc(&[3.0, 1.0], &[0.0, 1.0, 2.0]), (3.0 + 1.5) / 6.0);
        close(auroc(&[1.0], &[1.0]), 0.5);
        close(auroc(&[f64::INFINITY], &[f64::NEG_INFINITY, -0.5]), 1.0);
    }

    #[test]
    fn sets_are_counted() {
        let set = |classes: &[ClassKey]| PredictionSet { classes: classes.to_vec(), per_class: false };
        let sets = [set(&[1, 2]), set(&[3])];
        close(coverage(sets.iter().zip([2, 1])), 0.5);
        close(mean_set_size(&sets), 1.5);
    }

    #[test]
    fn nothing_has_no_measure() {
        assert_eq!(expected_calibration_error(&[]), None);
        assert_eq!(brier(&[]), None);
        assert_eq!(log_loss(&[]), None);
        assert_eq!(auroc(&[], &[1.0]), None);
        assert_eq!(auroc(&[1.0], &[]), None);
        assert_eq!(coverage([]), None);
        assert_eq!(mean_set_size([]), None);
    }
}
