//! Labels spent: images suggested, drawn at random, or nearest to the centres of k-means, and the accuracy they bring.

use super::data::{Draw, Set, balanced_accuracy};
use super::peers::Peer;
use anyhow::Result;
use dozen_fewshot::Pool;
use dozen_fewshot::heads::{Head, PrototypeHead};
use dozen_fewshot::select::{SuggestOptions, suggest};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::ops::ControlFlow;

/// Labels spent, in multiples of the number of classes.
pub(super) const BUDGETS: [f64; 6] = [0.5, 1.0, 1.5, 2.0, 3.0, 5.0];
/// Budgets of random labels are this fine, so that the one that suggestions equal can be read off.
const RANDOM_STEPS: usize = 40;

/// Accuracy against labels spent, of one draw.
pub(super) struct Curves {
    /// At [`BUDGETS`].
    pub(super) suggested: Vec<f64>,
    /// At [`BUDGETS`].
    pub(super) k_means: Vec<f64>,
    /// At [`random_budgets`].
    pub(super) random: Vec<f64>,
}

/// Labels spent at random, up to twice the largest budget.
pub(super) fn random_budgets(classes: usize) -> Vec<usize> {
    let most = 2.0 * BUDGETS[BUDGETS.len() - 1] * classes as f64;
    (1..=RANDOM_STEPS).map(|step| (most * step as f64 / RANDOM_STEPS as f64).round() as usize).collect()
}

pub(super) fn budgets(classes: usize) -> Vec<usize> {
    BUDGETS.iter().map(|share| (share * classes as f64).round() as usize).collect()
}

pub(super) fn curves(set: &Set, draw: &Draw, seed: u64, peer: &mut Peer) -> Result<Curves> {
    let accuracy = |chosen: &[usize]| accuracy(set, &draw.queries, chosen);
    let mut order = draw.pool.clone();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let random = random_budgets(set.classes)
        .into_iter()
        .map(|budget| accuracy(&order[..budget.min(order.len())]))
        .collect::<Result<_>>()?;
    let pool = set.unlabelled(&draw.pool)?;
    let (mut suggested, mut k_means) = (Vec::new(), Vec::new());
    let mut chosen = Vec::new();
    for budget in budgets(set.classes) {
        let budget = budget.min(draw.pool.len());
        chosen.extend(next(set, draw, &pool, &chosen, budget - chosen.len())?);
        suggested.push(accuracy(&chosen)?);
        let centres: Vec<usize> = peer.k_means(&draw.pool, budget, seed)?;
        k_means.push(accuracy(&centres)?);
    }
    Ok(Curves { suggested, k_means, random })
}

/// What is suggested after some labels.
fn next(set: &Set, draw: &Draw, pool: &Pool, labelled: &[usize], count: usize) -> Result<Vec<usize>> {
    let options = SuggestOptions::default();
    let rest: Vec<usize> = draw.pool.iter().copied().filter(|image| !labelled.contains(image)).collect();
    let unlabelled = if labelled.is_empty() { pool.clone() } else { set.unlabelled(&rest)? };
    let chosen =
        suggest(&set.examples(labelled)?, &unlabelled, count, &options, &mut |_| ControlFlow::Continue(()))?;
    Ok(chosen.into_iter().map(|chosen| rest[chosen.position]).collect())
}

/// Of class means of the chosen images, over the classes of all queries.
fn accuracy(set: &Set, queries: &[usize], chosen: &[usize]) -> Result<f64> {
    let head = PrototypeHead::of(&set.examples(chosen)?)?;
    let mut answers = Vec::with_capacity(queries.len());
    for &query in queries {
        let scores = head.predict(set.vector(query), &|_| true)?;
        answers.push(scores.first().map_or(usize::MAX, |best| best.class as usize));
    }
    let truths: Vec<usize> = queries.iter().map(|&query| set.labels[query]).collect();
    Ok(balanced_accuracy(&truths, &answers))
}

/// How many random labels bring this accuracy, read off their mean curve, which is made to rise; `None` beyond its end.
pub(super) fn labels_for(accuracy: f64, budgets: &[usize], random: &[f64]) -> Option<f64> {
    let mut before = (0.0, 0.0);
    let mut most: f64 = 0.0;
    for (&budget, &reached) in budgets.iter().zip(random) {
        most = most.max(reached);
        let here = (budget as f64, most);
        if most >= accuracy {
            let share = if most > before.1 { (accuracy - before.1) / (most - before.1) } else { 1.0 };
            return Some(before.0 + share * (here.0 - before.0));
        }
        before = here;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_off_the_curve() {
        let read = |accuracy| labels_for(accuracy, &[10, 20, 30], &[0.2, 0.4, 0.3]);
        assert!((read(0.3).unwrap() - 15.0).abs() < 1e-12);
        assert!((read(0.1).unwrap() - 5.0).abs() < 1e-12);
        assert_eq!(read(0.5), None);
    }
}
