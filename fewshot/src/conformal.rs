//! Sets of classes that hold the truth as often as the caller asks.
//!
//! Split conformal prediction with the score 1 − probability of the label (Sadinle, Lei and Wasserman, arXiv
//! 1609.00451): if the probabilities that n examples' own labels got from heads fitted without them are exchangeable
//! with the one that a query's label gets, then the classes above their ⌊(n + 1)(1 − coverage)⌋-th smallest hold the
//! query's label with at least the coverage, whatever the head and however wrong its probabilities.
//!
//! Here the query's head knows one example more of each class than those that judged the examples. It does better than
//! they did, so the sets cover a little more than promised, most of all with two or three examples per class.
//!
//! That needs probabilities of one kind: a head whose logits grow with the number of examples (a penalty that they
//! outweigh) must be held out with as much penalty per example, or sets cover less than promised.
//!
//! Cumulative probabilities as the score (APS, arXiv 2006.02544; RAPS, arXiv 2009.14193), which without randomness take
//! in the class that crosses the threshold, gave no smaller sets. Scoring the query with the held-out heads too (CV+,
//! arXiv 1905.02928) covered no closer to the promise, at the price of a head per fold in every answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::calibrate::Calibration;
use crate::heads::{HeldOut, Score};
use crate::matrix::softmax;
use crate::{ClassKey, Error};

/// Classes that together hold the truth with the chosen coverage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PredictionSet {
    /// Best first; never empty where there was a candidate.
    pub classes: Vec<ClassKey>,
    /// The coverage holds for the queries of every class by itself, not only for all together.
    pub per_class: bool,
}

/// What the labels of held-out examples got; from it sets of any coverage can be formed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "StoredConformal", into = "StoredConformal")]
pub struct Conformal {
    /// Calibrated probability of each judged example's own label, ascending, by class.
    by_class: BTreeMap<ClassKey, Vec<f32>>,
    /// The same of all classes together, ascending.
    all: Vec<f32>,
}

/// The stored form. `format` changes whenever its meaning does.
#[derive(Serialize, Deserialize)]
struct StoredConformal {
    format: u32,
    classes: Vec<ClassKey>,
    /// One ascending list per class.
    probabilities: Vec<Vec<f32>>,
}

impl Conformal {
    /// Version of the stored form written and read by this code.
    pub const FORMAT: u32 = 1;

    /// So much may a share of n + 1 fall short of a whole number and still count as one: coverages are seldom exact in
    /// binary, and 0.9 of 10 is 9.
    const ROUNDING: f64 = 1e-6;

    /// Coverage above the promised that a promise to each class may cost.
    const MOST_EXCESS: f64 = 0.015;

    /// From examples judged by heads that had not seen them, as calibrated as the scores that sets will be asked for.
    pub fn fit(held_out: &HeldOut, calibration: &Calibration) -> Self {
        let mut by_class: BTreeMap<ClassKey, Vec<f32>> = BTreeMap::new();
        let held_out = held_out.clone().calibrated(calibration);
        for (row, &label) in held_out.rows().zip(held_out.labels()) {
            let mut probabilities = row.to_vec();
            softmax(&mut probabilities);
            by_class.entry(held_out.classes()[label]).or_default().push(probabilities[label] as f32);
        }
        Self::of_lists(by_class)
    }

    fn of_lists(mut by_class: BTreeMap<ClassKey, Vec<f32>>) -> Self {
        for list in by_class.values_mut() {
            list.sort_by(f32::total_cmp);
        }
        let mut all: Vec<f32> = by_class.values().flatten().copied().collect();
        all.sort_by(f32::total_cmp);
        Self { by_class, all }
    }

    /// Number of examples that the promise rests on.
    pub fn examples(&self) -> usize {
        self.all.len()
    }

    /// The classes among these scores, best first, that a set of this coverage (0 to 1) holds.
    ///
    /// Class by class where the examples of every candidate can keep that promise without covering more than 0.015 too
    /// much: n of them can leave out only whole multiples of 1 / (n + 1), so few would pay for a promise to each class
    /// with far larger sets. Otherwise by all examples together. Sets of one kind grow with the coverage.
    ///
    /// Where even the least probable label seen does not carry the coverage (too few examples, or a coverage of 1), the
    /// set is all candidates. The best class is always in it, which can only add coverage. Scores may be of some
    /// classes only, if the truth is among them: its share of the probability only grows.
    pub fn set(&self, scores: &[Score], coverage: f64) -> Result<PredictionSet, Error> {
        if !(0.0..=1.0).contains(&coverage) {
            return Err(Error::InvalidOption {
                name: "coverage",
                value: coverage.to_string(),
                range: "a number from 0 to 1",
            });
        }
        let own: Option<Vec<f32>> = scores
            .iter()
            .map(|score| Self::close_threshold(self.by_class.get(&score.class)?, coverage))
            .collect();
        let shared = Self::threshold(&self.all, coverage).unwrap_or(0.0);
        let per_class = own.is_some() && !scores.is_empty();
        let thresholds = own.unwrap_or_else(|| vec![shared; scores.len()]);
        let held = scores
            .iter()
            .zip(thresholds)
            .enumerate()
            .filter(|(place, (score, threshold))| *place == 0 || score.probability >= *threshold);
        Ok(PredictionSet { classes: held.map(|(_, (score, _))| score.class).collect(), per_class })
    }

    /// How many of so many examples' labels a set of this coverage may leave out.
    fn misses(examples: usize, coverage: f64) -> usize {
        ((examples + 1) as f64 * (1.0 - coverage) + Self::ROUNDING) as usize
    }

    /// The smallest probability with which a class is taken in; `None` if there are too few to leave any out.
    fn threshold(ascending: &[f32], coverage: f64) -> Option<f32> {
        let place = Self::misses(ascending.len(), coverage).checked_sub(1)?;
        // A coverage of 0 allows one miss more than there are examples: any class may be left out.
        Some(ascending.get(place).copied().unwrap_or(f32::INFINITY))
    }

    /// [`Conformal::threshold`], if it covers hardly more than asked for.
    fn close_threshold(ascending: &[f32], coverage: f64) -> Option<f32> {
        let left_out = Self::misses(ascending.len(), coverage) as f64 / (ascending.len() + 1) as f64;
        let excess = 1.0 - coverage - left_out;
        Self::threshold(ascending, coverage).filter(|_| excess <= Self::MOST_EXCESS)
    }
}

impl From<Conformal> for StoredConformal {
    fn from(conformal: Conformal) -> Self {
        let (classes, probabilities) = conformal.by_class.into_iter().unzip();
        Self { format: Conformal::FORMAT, classes, probabilities }
    }
}

impl TryFrom<StoredConformal> for Conformal {
    type Error = Error;

    fn try_from(stored: StoredConformal) -> Result<Self, Error> {
        let refuse = |reason: String| Err(Error::StoredHead { reason });
        let StoredConformal { format, classes, probabilities } = stored;
        if format != Self::FORMAT {
            return refuse(format!("its conformal format is {format}, this version reads {}", Self::FORMAT));
        }
        if classes.len() != probabilities.len() || !classes.is_sorted_by(|a, b| a < b) {
            return refuse("its conformal lists are not one per class in ascending order".to_owned());
        }
        if probabilities.iter().flatten().any(|probability| !(0.0..=1.0).contains(probability)) {
            return refuse("a conformal probability is not from 0 to 1".to_owned());
        }
        Ok(Self::of_lists(classes.into_iter().zip(probabilities).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Examples;

    fn score(class: ClassKey, probability: f32) -> Score {
        Score { class, probability, similarity: 0.0 }
    }

    /// Labels' probabilities 0.1, 0.2, … of one class after the other.
    fn conformal(counts: &[usize]) -> Conformal {
        let list = |count: usize| (1..=count).map(|place| place as f32 / 100.0).collect();
        Conformal::of_lists(
            counts.iter().enumerate().map(|(class, &count)| (class as u64, list(count))).collect(),
        )
    }

    #[test]
    fn the_threshold_is_the_order_statistic() {
        let list: Vec<f32> = (1..=9).map(|place| place as f32 / 10.0).collect();
        // (9 + 1)(1 − 0.9) = 1 miss although 1 − 0.9 is below 0.1 in binary.
        assert_eq!(Conformal::threshold(&list, 0.9), Some(0.1));
        assert_eq!(Conformal::threshold(&list, f64::from(0.9f32)), Some(0.1));
        assert_eq!(Conformal::threshold(&list, 0.91), None);
        assert_eq!(Conformal::threshold(&list, 0.8), Some(0.2));
        assert_eq!(Conformal::threshold(&list, 0.75), Some(0.2));
        assert_eq!(Conformal::threshold(&list, 0.0), Some(f32::INFINITY));
        assert_eq!(Conformal::threshold(&list, 1.0), None);
        assert_eq!(Conformal::threshold(&[], 0.5), None);
    }

    #[test]
    fn sets_are_per_class_where_every_candidate_has_enough() {
        let conformal = conformal(&[9, 19, 4]);
        let scores = [score(0, 0.6), score(1, 0.05), score(2, 0.005)];
        let set = |scores: &[Score], coverage| conformal.set(scores, coverage).unwrap();
        assert_eq!(set(&scores[..2], 0.9), PredictionSet { classes: vec![0, 1], per_class: true });
        // Class 2 has four: enough for 0.8, one short of enough for 0.81.
        assert_eq!(set(&scores, 0.8), PredictionSet { classes: vec![0, 1], per_class: true });
        assert!(!set(&scores, 0.81).per_class);
        // One miss in fourteen, where the coverage allows one in ten, would cover 0.029 too much.
        assert!(!self::conformal(&[13, 13]).set(&scores[..2], 0.9).unwrap().per_class);
        // All 32 together allow three misses at 0.9: the third smallest is 0.01.
        assert_eq!(set(&scores, 0.9).classes, [0, 1]);
        assert!(!set(&[score(0, 0.5), score(77, 0.5)], 0.8).per_class, "a class that nobody judged");
    }

    #[test]
    fn too_few_examples_leave_no_candidate_out() {
        let scores = [score(0, 1.0), score(1, 0.0)];
        assert_eq!(conformal(&[2, 2]).set(&scores, 0.9).unwrap().classes, [0, 1]);
        assert_eq!(conformal(&[]).set(&scores, 0.1).unwrap().classes, [0, 1]);
        assert_eq!(conformal(&[50, 50]).set(&scores, 1.0).unwrap().classes, [0, 1]);
    }

    #[test]
    fn the_best_class_is_always_in() {
        let conformal = conformal(&[50, 50]);
        assert_eq!(conformal.set(&[score(0, 0.004), score(1, 0.003)], 0.5).unwrap().classes, [0]);
        assert_eq!(conformal.set(&[score(0, 1.0), score(1, 1.0)], 0.0).unwrap().classes, [0]);
        let nothing = PredictionSet { classes: vec![], per_class: false };
        assert_eq!(conformal.set(&[], 0.9).unwrap(), nothing);
    }

    #[test]
    fn coverages_that_are_none_are_refused() {
        for coverage in [f64::NAN, -0.1, 1.1, f64::INFINITY] {
            let refused = conformal(&[9]).set(&[score(0, 1.0)], coverage);
            assert!(matches!(refused, Err(Error::InvalidOption { name: "coverage", .. })), "{refused:?}");
        }
    }

    #[test]
    fn held_out_logits_become_probabilities_of_their_labels() {
        let examples = Examples::new(1, [(4, &[1.0][..]), (9, &[1.0])]).unwrap();
        let mut held_out = HeldOut::new(&examples);
        held_out.push(0, 0, &[3f64.ln(), 0.0]);
        held_out.push(1, 1, &[f64::NEG_INFINITY, 0.0]);
        let conformal = Conformal::fit(&held_out, &Calibration::identity());
        assert_eq!(conformal.by_class, BTreeMap::from([(4, vec![0.75]), (9, vec![1.0])]));
        assert_eq!(conformal.all, [0.75, 1.0]);
        assert_eq!(conformal.examples(), 2);
    }

    #[test]
    fn what_is_stored_is_checked() {
        let conformal = conformal(&[3, 2]);
        let text = serde_json::to_string(&conformal).unwrap();
        assert_eq!(serde_json::from_str::<Conformal>(&text).unwrap(), conformal);
        for (old, new) in
            [("\"format\":1", "\"format\":2"), ("[0,1]", "[1,0]"), ("[0,1]", "[0]"), ("0.02", "1.5")]
        {
            let broken = text.replacen(old, new, 1);
            assert_ne!(broken, text);
            assert!(serde_json::from_str::<Conformal>(&broken).is_err(), "{broken}");
        }
    }
}
