//! Every head's answers on the same draws: accuracy, calibration, prediction sets.

use super::data::{Draw, Set, balanced_accuracy};
use anyhow::Result;
use dozen_fewshot::heads::{Head, Score};
use dozen_fewshot::measures::{self, Judged};
use dozen_fewshot::training::{self, Method, Standalone, TrainingOptions};
use dozen_fewshot::{Pool, Reliability};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::ops::ControlFlow;

/// Promises that prediction sets are formed for.
pub(super) const COVERAGES: [f64; 3] = [0.8, 0.9, 0.95];

/// Truths that are drawn to find what calibration errors chance makes.
const CHANCES: u64 = 10;

/// A head, and what it may see besides the labelled images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Contestant {
    pub(super) method: Option<Method>,
    pub(super) sight: Sight,
}

/// Unlabelled images at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    Nothing,
    /// Others than those asked about.
    Pool,
    /// Those asked about.
    Queries,
}

impl Contestant {
    /// Every method, those that learn from unlabelled images with each sight.
    pub(super) fn all() -> Vec<Self> {
        let mut all: Vec<Self> = Method::ALL
            .into_iter()
            .map(|method| Self { method: Some(method), sight: Sight::Nothing })
            .collect();
        all.push(Self { method: Some(Method::Msn), sight: Sight::Pool });
        all.push(Self { method: Some(Method::Msn), sight: Sight::Queries });
        all.push(Self { method: None, sight: Sight::Pool });
        all
    }

    pub(super) fn name(self) -> String {
        let method = self.method.map_or("auto", Method::word);
        match self.sight {
            Sight::Nothing => method.to_owned(),
            Sight::Pool => format!("{method}, pool"),
            Sight::Queries => format!("{method}, pool of the queries"),
        }
    }
}

/// What one head makes of one draw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    pub(super) accuracy: f64,
    pub(super) calibration_error: f64,
    /// What it would be on average if the probabilities were true: bins of few queries miss them by chance.
    pub(super) chance_error: f64,
    pub(super) brier: f64,
    /// Of each promise: share of sets that hold the truth, and classes per set.
    pub(super) sets: [(f64, f64); COVERAGES.len()],
}

/// A head that answers, with what makes its answers reliable.
pub(super) struct Answerer {
    head: Standalone,
    pub(super) reliability: Reliability,
}

impl Answerer {
    pub(super) fn train(set: &Set, labelled: &[usize], pool: &Pool, method: Option<Method>) -> Result<Self> {
        let examples = set.examples(labelled)?;
        let options = TrainingOptions { method, ..TrainingOptions::default() };
        // The draws judge: no slice is needed.
        let held_back = vec![false; examples.len()];
        let trained =
            training::train(&examples, &held_back, pool, &options, &mut |_| ControlFlow::Continue(()))?;
        let head = Standalone::new(trained.head, examples)?;
        Ok(Self { head, reliability: trained.reliability })
    }

    pub(super) fn scores(&self, vector: &[f32]) -> Result<Vec<Score>> {
        Ok(self.reliability.scores(self.head.logits(vector)?))
    }
}

pub(super) fn marks(set: &Set, draw: &Draw, shots: usize, contestant: Contestant) -> Result<Marks> {
    let pool = match contestant.sight {
        Sight::Nothing => Pool::default(),
        Sight::Pool => set.unlabelled(&draw.pool)?,
        Sight::Queries => set.unlabelled(&draw.queries)?,
    };
    let answerer = Answerer::train(set, &draw.labelled(shots), &pool, contestant.method)?;
    let scores: Vec<Vec<Score>> =
        draw.queries.iter().map(|&query| answerer.scores(set.vector(query))).collect::<Result<_>>()?;
    let truths: Vec<usize> = draw.queries.iter().map(|&query| set.labels[query]).collect();
    let answers: Vec<usize> = scores.iter().map(|scores| scores[0].class as usize).collect();
    let judged: Vec<Judged<'_>> =
        scores.iter().zip(&truths).map(|(scores, &truth)| Judged { scores, truth: truth as u64 }).collect();
    let mut sets = [(0.0, 0.0); COVERAGES.len()];
    for (out, coverage) in sets.iter_mut().zip(COVERAGES) {
        let formed = scores
            .iter()
            .map(|scores| answerer.reliability.set(scores, coverage))
            .collect::<Result<Vec<_>, _>>()?;
        let held = measures::coverage(formed.iter().zip(truths.iter().map(|&truth| truth as u64)));
        *out = (held.unwrap_or(f64::NAN), measures::mean_set_size(&formed).unwrap_or(f64::NAN));
    }
    Ok(Marks {
        accuracy: balanced_accuracy(&truths, &answers),
        calibration_error: measures::expected_calibration_error(&judged).unwrap_or(f64::NAN),
        chance_error: chance_error(&scores),
        brier: measures::brier(&judged).unwrap_or(f64::NAN),
        sets,
    })
}

/// Mean expected calibration error of truths that are drawn with the probabilities that these answers give.
fn chance_error(answers: &[Vec<Score>]) -> f64 {
    let drawn = (0..CHANCES).map(|seed| {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let judged: Vec<Judged<'_>> = answers
            .iter()
            .map(|scores| {
                let mut draw = random.random::<f32>();
                let truth = scores.iter().find(|score| {
                    draw -= score.probability;
                    draw < 0.0
                });
                // Probabilities may add up to a little less than 1.
                let truth = truth.or(scores.last()).map_or(0, |score| score.class);
                Judged { scores, truth }
            })
            .collect();
        measures::expected_calibration_error(&judged).unwrap_or(f64::NAN)
    });
    drawn.sum::<f64>() / CHANCES as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_errs_less_the_more_are_asked() {
        let score = |class, probability| Score { class, probability, similarity: 0.0 };
        let answers = |count| vec![vec![score(1, 0.6), score(2, 0.4)]; count];
        let (few, many) = (chance_error(&answers(25)), chance_error(&answers(10_000)));
        // √(0.6 · 0.4 / n) · √(2 / π): 0.078 and 0.004.
        assert!((0.04..0.12).contains(&few) && (0.002..0.006).contains(&many), "{few} {many}");
    }
}
