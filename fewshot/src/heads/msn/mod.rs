//! Prototypes learned from the labelled examples and from pictures that nobody has labelled.
//!
//! MSN (arXiv 2204.07141) trains an encoder by having views of an unlabelled picture assigned to the same prototype, with
//! sharpened targets, and all prototypes used alike. Here the encoder stands still and the prototypes are the classes:
//! the labelled examples say which is which, and the pool says where the groups are. As an objective this is transductive
//! information maximisation (arXiv 2008.11297) with MSN's targets.
//!
//! 1. Vectors are centred, and whitened in part by what is known without labels (`features`).
//! 2. Prototypes start as class means and move down the loss (`objective`, `learn`).
//! 3. A pool picture's target is what the prototypes say of it and of its nearest pictures, labelled or not, which count as
//!    its views; shares of the classes are balanced to the prior, then sharpened (`targets`, `neighbours`). Stored views
//!    take turns with the picture in being assigned to the target.
//! 4. How many steps are taken, and whether the pool is used, is decided by the log-loss of examples held out.
//!
//! All of it folds into one linear function of the query's vector per prototype.

mod features;
mod learn;
mod neighbours;
mod objective;
mod options;
mod stored;
mod targets;

use serde::{Deserialize, Serialize};

use super::choice::best_temperature;
use super::held_out::{Fold, deal};
use super::{Head, HeldOut, Logit};
use crate::matrix::dot;
use crate::progress::report;
use crate::vector::unit_f64;
use crate::{ClassKey, Error, Examples, Pool, Progress};
use learn::{Learned, Learner};
pub use options::{ClassPrior, MsnOptions};
use stored::StoredMsnHead;

/// Linear functions of the vector, one or several per class; a class answers with the logarithm of its sum of exponentials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "StoredMsnHead", into = "StoredMsnHead")]
pub struct MsnHead {
    dimensions: usize,
    /// Logits are divided by this.
    temperature: f64,
    /// Ascending.
    classes: Vec<ClassKey>,
    /// Position of each function's class, ascending.
    class_of: Vec<usize>,
    /// `[function][dimension]`.
    weights: Vec<f64>,
    /// One per function.
    offsets: Vec<f64>,
}

/// What a fit did.
#[derive(Clone, Debug)]
pub struct MsnReport {
    /// Steps taken.
    pub steps: usize,
    /// Pictures of the pool that were used, at most [`MsnHead::MAX_POOL`]; none where learning without them was better.
    pub pool: usize,
    /// Share of each class in the pool, as assumed or as estimated at the end.
    pub prior: Vec<(ClassKey, f64)>,
    /// What [`MsnHead::held_out`] gives: the ground on which the number of steps was chosen.
    pub held_out: HeldOut,
}

/// How to learn, and what it was decided by.
struct Decision {
    /// Whether to use the pool.
    pooled: bool,
    steps: usize,
    temperature: f64,
    held_out: HeldOut,
}

impl MsnHead {
    /// Version of the stored form written and read by this code.
    pub const FORMAT: u32 = 1;

    /// A larger pool is represented by so many of its pictures, evenly spaced in its order: more change little, and finding
    /// neighbours takes time with the square of their number.
    pub const MAX_POOL: usize = 4096;

    /// The pool and all steps are used unless something else loses less by this share: a dozen examples held out tell
    /// losses apart to a few hundredths, and more often than not the pool is good.
    const MARGIN: f64 = 0.02;

    /// Folds that examples are held out in.
    const FOLDS: usize = 4;

    /// Learning may stop at the start and after each of so many parts of the steps.
    const STOPS: usize = 2;

    /// Needs two classes or more; the pool may be empty.
    ///
    /// Where no class has two examples, nothing can be held out: all steps are taken.
    pub fn fit(
        examples: &Examples,
        pool: &Pool,
        options: &MsnOptions,
        progress: Progress<'_>,
    ) -> Result<(Self, MsnReport), Error> {
        let pool = check(examples, pool, options)?;
        // The folds and the fit on all examples take about as long each.
        let before = MsnHead::FOLDS as f64 / (MsnHead::FOLDS + 1) as f64;
        let decision = decide(examples, &pool, options, &mut |share| progress(share * before))?;
        let Decision { pooled, steps, temperature, held_out } = decision;
        let pool = if pooled { pool } else { Pool::default() };
        let mut last = |share: f64| progress(before + share * (1.0 - before));
        let mut learner = Learner::new(examples, &pool, options, &mut last)?;
        learner.advance(steps, &mut last)?;
        let learned = learner.learned();
        let prior = examples.classes().iter().copied().zip(learned.prior.iter().copied()).collect();
        let head = Self::of(examples, learned, temperature);
        Ok((head, MsnReport { steps, pool: pool.len(), prior, held_out }))
    }

    /// What heads fitted without some examples say of those, with the number of steps at which they say it best.
    ///
    /// In the units of the head's own logits. Examples held out are not in the pool either.
    pub fn held_out(
        examples: &Examples,
        pool: &Pool,
        options: &MsnOptions,
        progress: Progress<'_>,
    ) -> Result<HeldOut, Error> {
        let pool = check(examples, pool, options)?;
        Ok(decide(examples, &pool, options, progress)?.held_out)
    }

    /// Multiplications of one fit's steps, about: a fit by held-out examples takes some four times as many.
    pub(crate) fn work(examples: &Examples, pool: &Pool, options: &MsnOptions) -> f64 {
        let images = examples.len() + pool.len().min(Self::MAX_POOL);
        let prototypes = examples.classes().len() * options.prototypes;
        (options.steps * images) as f64 * (prototypes * examples.dimensions()) as f64
    }

    fn of(examples: &Examples, learned: Learned, temperature: f64) -> Self {
        let Learned { class_of, weights, offsets, .. } = learned;
        let (dimensions, classes) = (examples.dimensions(), examples.classes().to_vec());
        Self { dimensions, temperature, classes, class_of, weights, offsets }
    }

    /// Logits of an example by the classes of all examples, −∞ for those that this head does not know.
    fn row(&self, examples: &Examples, example: usize) -> Result<Vec<f64>, Error> {
        let logits = self.logits(examples.vector(example))?;
        let logit = |class: &ClassKey| {
            self.classes.binary_search(class).map_or(f64::NEG_INFINITY, |row| logits[row].logit)
        };
        Ok(examples.classes().iter().map(logit).collect())
    }
}

/// The part of the pool that is used, after refusing what cannot be learned from.
fn check(examples: &Examples, pool: &Pool, options: &MsnOptions) -> Result<Pool, Error> {
    examples.need_classes(2)?;
    options.check(examples.classes())?;
    pool.check_dimensions(examples.dimensions())?;
    Ok(pool.evenly_spaced(MsnHead::MAX_POOL))
}

/// Learns once for each fold, with and without the pool, and takes what loses least: a pool of other things than the
/// classes, or of one of them, can mislead.
fn decide(
    examples: &Examples,
    pool: &Pool,
    options: &MsnOptions,
    progress: Progress<'_>,
) -> Result<Decision, Error> {
    let stops: Vec<usize> = (0..=MsnHead::STOPS).map(|part| options.steps * part / MsnHead::STOPS).collect();
    let none = Pool::default();
    let pools = if pool.is_empty() { vec![&none] } else { vec![&none, pool] };
    // Ascending, so that in reverse the pool and the most steps come first.
    let ways: Vec<(bool, usize)> =
        pools.iter().flat_map(|pool| stops.iter().map(|&stop| (!pool.is_empty(), stop))).collect();
    let mut held_out = vec![HeldOut::new(examples); ways.len()];
    let folds = deal(examples, MsnHead::FOLDS);
    let parts = (folds.len() * pools.len()) as f64;
    let mut done = 0.0;
    for Fold { kept, judged } in folds {
        let kept = examples.subset(&kept);
        // As much penalty per example as in the fit on all: heads of fewer examples would answer less surely than it.
        let share = kept.len() as f64 / examples.len() as f64;
        let options = MsnOptions { l2: share * options.l2, ..options.clone() };
        for (pool, held_out) in pools.iter().zip(held_out.chunks_exact_mut(stops.len())) {
            let mut part = |share: f64| progress((done + share) / parts);
            let mut learner = Learner::new(&kept, pool, &options, &mut part)?;
            for (&stop, held_out) in stops.iter().zip(held_out) {
                learner.advance(stop, &mut part)?;
                let head = MsnHead::of(&kept, learner.learned(), 1.0);
                for &example in &judged {
                    held_out.push(example, examples.labels()[example], &head.row(examples, example)?);
                }
            }
            done += 1.0;
        }
    }
    report(progress, 1.0)?;
    let mut best: Option<(usize, f64, f64)> = None;
    for (way, judged) in held_out.iter().enumerate().rev() {
        let Some((temperature, loss)) = best_temperature(judged) else { break };
        if best.is_none_or(|(_, _, least)| loss < (1.0 - MsnHead::MARGIN) * least) {
            best = Some((way, temperature, loss));
        }
    }
    let (way, temperature, _) = best.unwrap_or((ways.len() - 1, 1.0, 0.0));
    let held_out = held_out.swap_remove(way).scaled(1.0 / temperature);
    let (pooled, steps) = ways[way];
    Ok(Decision { pooled, steps, temperature, held_out })
}

impl Head for MsnHead {
    fn classes(&self) -> Vec<ClassKey> {
        self.classes.clone()
    }

    /// `similarity` is the cosine between the query and the weights of the class's largest function.
    fn logits(&self, vector: &[f32]) -> Result<Vec<Logit>, Error> {
        let query = unit_f64(vector, self.dimensions)?;
        let rows = self.weights.chunks_exact(self.dimensions).zip(&self.offsets);
        let functions: Vec<(f64, f64)> = rows
            .map(|(weights, offset)| {
                let (product, norm) = (dot(weights, &query), dot(weights, weights).sqrt());
                let similarity = if norm > 0.0 { product / norm } else { 0.0 };
                (product + offset, similarity)
            })
            .collect();
        let mut functions = functions.iter().zip(&self.class_of).peekable();
        let logit = |(position, &class): (usize, &ClassKey)| {
            let mut own = Vec::new();
            while let Some((function, _)) = functions.next_if(|(_, of)| **of == position) {
                own.push(*function);
            }
            let best =
                own.iter().copied().fold((f64::NEG_INFINITY, 0.0), |a, b| if b.0 > a.0 { b } else { a });
            let total: f64 = own.iter().map(|(value, _)| (value - best.0).exp()).sum();
            Logit { class, logit: (best.0 + total.ln()) / self.temperature, similarity: best.1 }
        };
        Ok(self.classes.iter().enumerate().map(logit).collect())
    }
}

#[cfg(test)]
mod tests;
