//! One temperature for all classes, and a share of every answer that is spread evenly over them.
//!
//! Ensemble temperature scaling without its middle term (Zhang, Kailkhura and Han, arXiv 2003.07329, §3.2). Now and then the
//! truth is a class that the head thought impossible. A temperature alone can allow for that only by making all answers
//! flatter, those that are usually right among them; the even share leaves them sharp.

use super::Judgement;
use crate::matrix::softmax;

/// Logits are as sharp as a temperature alone makes them, or at most so much sharper. Few examples may be as likely with answers
/// all but certain and a large even share, whatever the margins: what they do not tell is not to be believed.
const MOST_SHARPER: f64 = 2.0;
/// Even where answers are worse than guesses, what is left of them says which class comes first.
const MOST_UNIFORM: f64 = 0.99;
/// Relative change of the inverse temperature, and change of the share, that ends the search.
const TOLERANCE: f64 = 1e-3;
/// A dozen are usual; where the two can stand in for each other, more change little.
const MAX_ROUNDS: usize = 60;
/// Halvings of the interval in which the share lies.
const HALVINGS: usize = 40;

/// Probabilities are softmax(b·logits) for 1 − u and uniform for the rest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blend {
    /// b.
    pub(super) inverse: f64,
    /// u, at most 0.99.
    pub(super) uniform: f64,
}

/// What one pass over all judgements adds up.
struct Pass {
    /// Of each judgement: probability of its label by the softmax alone, and by chance.
    labels: Vec<(f64, f64)>,
    slope: f64,
    curvature: f64,
}

impl Blend {
    /// Maximises the likelihood of the labels in turns: the even share at this temperature, then a step of the temperature
    /// towards the targets as far as the softmax has to answer for them (expectation maximisation).
    ///
    /// `temperature` is the inverse that is best without a share ([`super::temperature::fit`]). Targets are smoothed for the
    /// temperature only, as there. If they were for the share too, it would
    /// take up the smoothing, and heads that got a few examples right would be certain at any margin.
    pub(super) fn fit(judgements: &[Judgement<'_>], smoothing: f64, temperature: f64) -> Self {
        let mut blend = Self { inverse: temperature, uniform: 0.0 };
        for _ in 0..MAX_ROUNDS {
            let pass = blend.pass(judgements, smoothing);
            // Logits that are all alike decide nothing.
            if pass.curvature <= 0.0 {
                break;
            }
            let uniform = even_share(&pass.labels);
            let newton = blend.inverse - pass.slope / pass.curvature;
            let inverse = newton.clamp(temperature, MOST_SHARPER * temperature);
            let is_done = (inverse - blend.inverse).abs() <= TOLERANCE * inverse
                && (uniform - blend.uniform).abs() <= TOLERANCE;
            blend = Self { inverse, uniform };
            if is_done {
                break;
            }
        }
        blend
    }

    /// −log probability of the label.
    pub(super) fn loss(&self, judgement: &Judgement<'_>) -> f64 {
        let mut logits: Vec<f64> = judgement.known().map(|logit| self.inverse * logit).collect();
        let own = self.inverse * judgement.logits[judgement.label];
        // In logarithms: a probability too small for a number still has a finite loss.
        let softmax = (1.0 - self.uniform).ln() + own - softmax(&mut logits);
        let chance = (self.uniform / logits.len() as f64).ln();
        let larger = softmax.max(chance);
        -(larger + ((softmax - larger).exp() + (chance - larger).exp()).ln())
    }

    fn pass(&self, judgements: &[Judgement<'_>], smoothing: f64) -> Pass {
        let mut pass = Pass { labels: Vec::with_capacity(judgements.len()), slope: 0.0, curvature: 0.0 };
        let (mut behind, mut probabilities) = (Vec::new(), Vec::new());
        for judgement in judgements {
            let own = judgement.logits[judgement.label];
            behind.clear();
            behind.extend(judgement.known().map(|logit| logit - own));
            probabilities.clear();
            probabilities.extend(behind.iter().map(|behind| self.inverse * behind));
            let label = (-softmax(&mut probabilities)).exp();
            let chance = 1.0 / probabilities.len() as f64;
            pass.labels.push((label, chance));
            let (mut mean, mut square) = (0.0, 0.0);
            let (mut weight, mut target) = (0.0, 0.0);
            for (behind, probability) in behind.iter().zip(&probabilities) {
                mean += probability * behind;
                square += probability * behind * behind;
                let share = smoothing * chance * self.softmax_share(*probability, chance);
                weight += share;
                target += share * behind;
            }
            // The label's own logit is the origin: it adds nothing to `target`.
            weight += (1.0 - smoothing) * self.softmax_share(label, chance);
            pass.slope += weight * mean - target;
            pass.curvature += weight * (square - mean * mean);
        }
        pass
    }

    /// How much of a class's probability is the softmax's.
    fn softmax_share(&self, probability: f64, chance: f64) -> f64 {
        let own = (1.0 - self.uniform) * probability;
        if own > 0.0 { own / (own + self.uniform * chance) } else { 0.0 }
    }
}

/// The most likely even share; the likelihood is concave in it.
fn even_share(labels: &[(f64, f64)]) -> f64 {
    let slope = |share: f64| -> f64 {
        labels.iter().map(|(label, chance)| (chance - label) / (label + share * (chance - label))).sum()
    };
    if slope(0.0) <= 0.0 {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, MOST_UNIFORM);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if slope(middle) > 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::super::temperature;
    use super::*;

    /// Logits that mean what they say at `inverse`, but for one example in `every` whose label has nothing to do with them.
    fn rows(inverse: f64, every: usize) -> Vec<(Vec<f64>, usize)> {
        let mut state = 1u64;
        let mut uniform = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64 / (1u64 << 24) as f64
        };
        let row = |i: usize| {
            let logits: Vec<f64> = (0..6).map(|_| 8.0 * uniform()).collect();
            let mut probabilities: Vec<f64> = logits.iter().map(|logit| inverse * logit).collect();
            softmax(&mut probabilities);
            let mut draw = uniform();
            if i.is_multiple_of(every) {
                return (logits, (6.0 * draw) as usize);
            }
            let label = probabilities.iter().position(|probability| {
                draw -= probability;
                draw < 0.0
            });
            (logits, label.unwrap_or(5))
        };
        (0..4000).map(row).collect()
    }

    fn judgements(rows: &[(Vec<f64>, usize)]) -> Vec<Judgement<'_>> {
        rows.iter().map(|(logits, label)| Judgement { logits, label: *label }).collect()
    }

    fn fitted(judgements: &[Judgement<'_>], smoothing: f64) -> Blend {
        Blend::fit(judgements, smoothing, temperature::fit(judgements, smoothing))
    }

    fn total(blend: Blend, judgements: &[Judgement<'_>]) -> f64 {
        judgements.iter().map(|judgement| blend.loss(judgement)).sum()
    }

    #[test]
    fn both_numbers_are_found() {
        let rows = rows(1.5, 5);
        let blend = fitted(&judgements(&rows), 1e-9);
        assert!((blend.inverse - 1.5).abs() < 0.15, "{blend:?}");
        assert!((blend.uniform - 0.2).abs() < 0.03, "{blend:?}");
        let alone = temperature::fit(&judgements(&rows), 1e-9);
        assert!(alone < 0.9, "a temperature alone flattens everything: {alone}");
    }

    #[test]
    fn nothing_near_is_likelier() {
        let rows = rows(0.7, 3);
        let judgements = judgements(&rows);
        let Blend { inverse, uniform } = fitted(&judgements, 1e-9);
        let best = total(Blend { inverse, uniform }, &judgements);
        for (factor, more) in [(1.05, 0.0), (0.95, 0.0), (1.0, 0.03), (1.0, -0.03)] {
            let other = Blend { inverse: factor * inverse, uniform: uniform + more };
            assert!(best < total(other, &judgements), "{other:?} is likelier than {inverse} {uniform}");
        }
    }

    #[test]
    fn answers_that_are_right_leave_nothing_to_chance() {
        let margins = [1.0, 2.0, 3.0, 5.0, 8.0, 13.0];
        let rows: Vec<_> = margins.iter().map(|margin| (vec![*margin, 0.0, 0.0], 0)).collect();
        let blend = fitted(&judgements(&rows), 1.0 / 7.0);
        assert!(blend.uniform.abs() < 1e-12, "{blend:?}");
        assert!((blend.inverse / temperature::fit(&judgements(&rows), 1.0 / 7.0) - 1.0).abs() < 1e-3);
    }

    #[test]
    fn answers_that_mean_nothing_are_chance() {
        let rows: Vec<_> = (0..30).map(|i| (vec![4.0, 0.0, 0.0], i % 3)).collect();
        let blend = fitted(&judgements(&rows), 1.0 / 31.0);
        let judgement = Judgement { logits: &rows[0].0, label: 0 };
        assert!((blend.loss(&judgement) - 3f64.ln()).abs() < 1e-3, "{blend:?}");
    }

    #[test]
    fn a_vanishing_probability_has_a_finite_loss() {
        let far = Judgement { logits: &[0.0, 2_000.0], label: 0 };
        let loss = |uniform| Blend { inverse: 1.0, uniform }.loss(&far);
        assert!((loss(0.0) - 2_000.0).abs() < 1e-9 && (loss(0.5) - 4f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn nothing_decides_for_one() {
        let alike = [(vec![2.0, 2.0], 1)];
        for judgements in [Vec::new(), judgements(&alike)] {
            let Blend { inverse, uniform } = fitted(&judgements, 0.5);
            assert_eq!((inverse, uniform), (1.0, 0.0));
        }
    }
}
