//! What logistic heads say of examples they were fitted without, and the strength that this speaks for.

use super::minimize::{Limits, State};
use super::{LogisticHead, LogisticOptions, objective_of, solve};
use crate::heads::HeldOut;
use crate::heads::choice::best_temperature;
use crate::heads::held_out::{Fold, deal};
use crate::matrix::{View, multiply};
use crate::progress::report;
use crate::{Error, Examples, Progress};

/// Examples whose logits are one product.
const BLOCK: usize = 256;

impl LogisticHead {
    /// Most folds that examples are dealt over. With 5 each head knows four fifths of the examples.
    pub const MOST_FOLDS: usize = 5;

    /// Strengths that [`LogisticHead::choose_l2`] compares.
    const PATH: [f64; 6] = [10.0, 3.0, 1.0, 0.3, 0.1, 0.03];

    /// What choosing is content with: strengths that are worth telling apart differ by far more.
    const PATH_TOLERANCE: f64 = 1e-4;

    /// Logits of every example by a head fitted on the other folds, of as many as the largest class has examples, at most
    /// [`LogisticHead::MOST_FOLDS`].
    ///
    /// The penalty shrinks with the examples: logits grow with both, and heads of fewer examples at the same λ would answer
    /// less surely than the head of all will.
    pub fn held_out(
        examples: &Examples,
        options: &LogisticOptions,
        progress: Progress<'_>,
    ) -> Result<HeldOut, Error> {
        let mut folds = Folds::new(examples, options)?;
        let judged =
            folds.judge(options.l2, options.tolerance, &mut |share| report(&mut *progress, share))?;
        report(progress, 1.0)?;
        Ok(judged)
    }

    /// The λ of least held-out log-loss among six from 10 to 0.03, compared at the temperature that suits each best; the
    /// stronger of equals, and the options' own where no class has two examples.
    ///
    /// From the strongest on, which converges soonest, each fold begins where the strength before left it.
    pub fn choose_l2(
        examples: &Examples,
        options: &LogisticOptions,
        progress: Progress<'_>,
    ) -> Result<f64, Error> {
        let mut folds = Folds::new(examples, options)?;
        let tolerance = options.tolerance.max(Self::PATH_TOLERANCE);
        let mut best = None;
        for (tried, l2) in Self::PATH.into_iter().enumerate() {
            let mut watch =
                |share: f64| report(&mut *progress, (tried as f64 + share) / Self::PATH.len() as f64);
            let Some((_, loss)) = best_temperature(&folds.judge(l2, tolerance, &mut watch)?) else {
                break;
            };
            if best.is_none_or(|(least, _)| loss < least) {
                best = Some((loss, l2));
            }
        }
        report(progress, 1.0)?;
        Ok(best.map_or(options.l2, |(_, l2)| l2))
    }
}

/// Every fold's problem, and where its last fit ended.
struct Folds<'a> {
    examples: &'a Examples,
    options: &'a LogisticOptions,
    dealt: Vec<Dealt>,
}

struct Dealt {
    kept: Examples,
    judged: Vec<usize>,
    weights: Vec<f32>,
    last: Option<(f64, State)>,
}

impl<'a> Folds<'a> {
    fn new(examples: &'a Examples, options: &'a LogisticOptions) -> Result<Self, Error> {
        options.check()?;
        examples.need_classes(2)?;
        let most = examples.counts().into_iter().max().unwrap_or_default();
        let dealt = |Fold { kept, judged }: Fold| {
            let kept = examples.subset(&kept);
            let weights = options.weights(&kept, &vec![1.0; kept.len()]);
            Dealt { kept, judged, weights, last: None }
        };
        let folds = deal(examples, most.min(LogisticHead::MOST_FOLDS)).into_iter().map(dealt).collect();
        Ok(Self { examples, options, dealt: folds })
    }

    /// Fits every fold with as much penalty per example as λ is for all of them, and asks it about the others.
    fn judge(
        &mut self,
        l2: f64,
        tolerance: f64,
        watch: &mut dyn FnMut(f64) -> Result<(), Error>,
    ) -> Result<HeldOut, Error> {
        let mut held_out = HeldOut::new(self.examples);
        let folds = self.dealt.len() as f64;
        let limits = Limits { tolerance, iterations: self.options.max_iterations };
        for (number, fold) in self.dealt.iter_mut().enumerate() {
            let l2 = l2 * fold.kept.len() as f64 / self.examples.len() as f64;
            let objective = objective_of(&fold.kept, &fold.weights, l2);
            let start = fold.last.take().map(|(before, state)| state.with_l2(&objective, before));
            let minimum = solve(&objective, start, limits, |_| watch(number as f64 / folds))?;
            for judged in fold.judged.chunks(BLOCK) {
                push_logits(&mut held_out, self.examples, judged, &minimum.state.weights);
            }
            fold.last = Some((l2, minimum.state));
        }
        Ok(held_out)
    }
}

/// Adds the logits of these examples, given a row of weights for every class.
fn push_logits(held_out: &mut HeldOut, examples: &Examples, judged: &[usize], weights: &[f32]) {
    let (classes, dimensions) = (examples.classes().len(), examples.dimensions());
    let features: Vec<f32> = judged.iter().flat_map(|&example| examples.vector(example)).copied().collect();
    let mut logits = vec![0.0; judged.len() * classes];
    let weights = View::new(weights, classes, dimensions).transposed();
    multiply(&mut logits, View::new(&features, judged.len(), dimensions), weights);
    for (row, &example) in logits.chunks_exact(classes).zip(judged) {
        let row: Vec<f64> = row.iter().copied().map(f64::from).collect();
        held_out.push(example, examples.labels()[example], &row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClassKey;
    use std::ops::ControlFlow;

    /// Two dimensions tell the classes apart, the others only the examples; of 9 classes with 7 examples each.
    fn noisy(spread: f32) -> Examples {
        let (classes, per_class, dimensions) = (9u32, 7u32, 40u32);
        let vector = |example: u32| -> Vec<f32> {
            let angle = f64::from(example % classes) / f64::from(classes) * std::f64::consts::TAU;
            let noise = (0..dimensions).map(|i| ((example * 40 + i) * 7919 % 1009) as f32 / 1009.0 - 0.5);
            let mut vector: Vec<f32> = noise.map(|noise| spread * noise).collect();
            vector[0] += angle.cos() as f32;
            vector[1] += angle.sin() as f32;
            vector
        };
        let labelled: Vec<(ClassKey, Vec<f32>)> = (0..classes * per_class)
            .map(|example| (ClassKey::from(example % classes), vector(example)))
            .collect();
        Examples::new(dimensions as usize, labelled.iter().map(|(class, vector)| (*class, &vector[..])))
            .unwrap()
    }

    fn go_on(_: f64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    #[test]
    fn held_out_logits_are_those_of_heads_with_as_much_penalty_per_example() {
        let examples = noisy(0.5);
        let options = LogisticOptions { tolerance: 1e-10, ..LogisticOptions::default() };
        let held_out = LogisticHead::held_out(&examples, &options, &mut go_on).unwrap();
        let plain = HeldOut::by_folds(&examples, 5, |kept| {
            let l2 = options.l2 * kept.len() as f64 / examples.len() as f64;
            Ok(LogisticHead::fit(kept, &LogisticOptions { l2, ..options }, &mut go_on)?.0)
        })
        .unwrap();
        assert_eq!((held_out.examples(), held_out.labels()), (plain.examples(), plain.labels()));
        for (row, plain) in held_out.rows().zip(plain.rows()) {
            assert!(row.iter().zip(plain).all(|(a, b)| (a - b).abs() < 1e-4), "{row:?} {plain:?}");
        }
    }

    #[test]
    fn where_a_fold_was_left_changes_only_the_way() {
        let examples = noisy(0.5);
        let options = LogisticOptions::default();
        let mut folds = Folds::new(&examples, &options).unwrap();
        folds.judge(3.0, 1e-10, &mut |_| Ok(())).unwrap();
        let warm = folds.judge(0.3, 1e-10, &mut |_| Ok(())).unwrap();
        let cold = Folds::new(&examples, &options).unwrap().judge(0.3, 1e-10, &mut |_| Ok(())).unwrap();
        for (warm, cold) in warm.rows().zip(cold.rows()) {
            assert!(warm.iter().zip(cold).all(|(a, b)| (a - b).abs() < 1e-4), "{warm:?} {cold:?}");
        }
    }

    #[test]
    fn the_strength_of_least_held_out_loss_is_chosen() {
        for spread in [0.2, 2.0] {
            let examples = noisy(spread);
            let options = LogisticOptions::default();
            let chosen = LogisticHead::choose_l2(&examples, &options, &mut go_on).unwrap();
            let loss = |l2| {
                let options = LogisticOptions { l2, ..options };
                let held_out = LogisticHead::held_out(&examples, &options, &mut go_on).unwrap();
                best_temperature(&held_out).unwrap().1
            };
            let least = LogisticHead::PATH.into_iter().map(loss).fold(f64::INFINITY, f64::min);
            assert!(loss(chosen) <= least * 1.001, "{spread}: {chosen} {least}");
        }
    }

    #[test]
    fn without_an_example_to_judge_by_the_strength_stays() {
        let vectors: [&[f32]; 2] = [&[1.0, 0.0], &[0.0, 1.0]];
        let examples = Examples::new(2, [(1, vectors[0]), (2, vectors[1])]).unwrap();
        let options = LogisticOptions { l2: 0.7, ..LogisticOptions::default() };
        let chosen = LogisticHead::choose_l2(&examples, &options, &mut go_on).unwrap();
        assert!((chosen - 0.7).abs() < f64::EPSILON);
        assert!(LogisticHead::held_out(&examples, &options, &mut go_on).unwrap().is_empty());
        let one = examples.subset(&[0]);
        assert!(matches!(
            LogisticHead::choose_l2(&one, &options, &mut go_on),
            Err(Error::TooFewClasses { needed: 2, actual: 1 })
        ));
    }
}
