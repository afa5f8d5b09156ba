//! A scale and a bias for each class, held close to one temperature.

use super::Judgement;
use crate::matrix::{dot, softmax};

/// Variance of the bias, and of the scale times the spread of the logits, that is believed in before seeing examples.
const PRIOR_VARIANCE: f64 = 0.25;
/// Relative size of the gradient, in the metric of the first point, that ends the descent.
const TOLERANCE: f64 = 1e-4;
/// Reached only by logits far from any label.
const MAX_STEPS: usize = 300;

/// What each class's logit is multiplied by and what is added to it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Affine {
    pub(super) scales: Vec<f64>,
    pub(super) biases: Vec<f64>,
}

/// The penalised log-loss of b·z + a·u + c, where u are the logits z in units of their spread.
struct Objective<'a> {
    judgements: &'a [Judgement<'a>],
    classes: usize,
    smoothing: f64,
    inverse: f64,
    centre: f64,
    spread: f64,
}

/// Minimises Σ −Σ target·log softmax + 2·(|a|² + |c|²) around the inverse temperature.
pub(super) fn fit(judgements: &[Judgement<'_>], classes: usize, smoothing: f64, inverse: f64) -> Affine {
    let (centre, spread) = centre_and_spread(judgements);
    let objective = Objective { judgements, classes, smoothing, inverse, centre, spread };
    let parameters = objective.minimise();
    let (slopes, offsets) = parameters.split_at(classes);
    Affine {
        scales: slopes.iter().map(|slope| inverse + slope / spread).collect(),
        biases: slopes.iter().zip(offsets).map(|(slope, offset)| offset - slope * centre / spread).collect(),
    }
}

/// Mean and standard deviation of all known logits; a spread of 1 where they are all alike.
fn centre_and_spread(judgements: &[Judgement<'_>]) -> (f64, f64) {
    let logits = || judgements.iter().flat_map(Judgement::known);
    let count = logits().count().max(1) as f64;
    let centre = logits().sum::<f64>() / count;
    let spread = (logits().map(|logit| (logit - centre).powi(2)).sum::<f64>() / count).sqrt();
    (centre, if spread > 0.0 { spread } else { 1.0 })
}

impl Objective<'_> {
    /// Accelerated gradient descent (Nesterov, with restarts by O'Donoghue and Candès, arXiv 1204.3982), in the metric
    /// of the Hessian's diagonal.
    ///
    /// A softmax's Hessian is at most twice its diagonal, and scale and bias of a class double that once more: steps of
    /// a quarter descend as long as the diagonal stays what it was, which the prior sees to.
    fn minimise(&self) -> Vec<f64> {
        let mut at = vec![0.0; 2 * self.classes];
        let (mut gradient, diagonal) = self.gradient(&at);
        let length =
            |gradient: &[f64]| -> f64 { gradient.iter().zip(&diagonal).map(|(g, d)| g * g / d).sum() };
        let goal = TOLERANCE * TOLERANCE * length(&gradient);
        let (mut ahead, mut momentum) = (at.clone(), 1.0f64);
        for _ in 0..MAX_STEPS {
            if length(&gradient) <= goal {
                break;
            }
            let next: Vec<f64> =
                ahead.iter().zip(&gradient).zip(&diagonal).map(|((x, g), d)| x - 0.25 * g / d).collect();
            let step: Vec<f64> = next.iter().zip(&at).map(|(new, old)| new - old).collect();
            let uphill = dot(&gradient, &step) > 0.0;
            let grown = f64::midpoint(1.0, (1.0 + 4.0 * momentum * momentum).sqrt());
            let push = if uphill { 0.0 } else { (momentum - 1.0) / grown };
            momentum = if uphill { 1.0 } else { grown };
            ahead = next.iter().zip(&step).map(|(x, s)| x + push * s).collect();
            at = next;
            (gradient, _) = self.gradient(&ahead);
        }
        at
    }

    /// The gradient with respect to (a, c), and the diagonal of the Hessian.
    fn gradient(&self, parameters: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (slopes, offsets) = parameters.split_at(self.classes);
        let mut gradient: Vec<f64> = parameters.iter().map(|parameter| parameter / PRIOR_VARIANCE).collect();
        let mut diagonal = vec![1.0 / PRIOR_VARIANCE; parameters.len()];
        let mut probabilities = vec![0.0; self.classes];
        for judgement in self.judgements {
            let unit = |logit: f64| (logit - self.centre) / self.spread;
            for (class, &logit) in judgement.logits.iter().enumerate() {
                probabilities[class] = if logit.is_finite() {
                    self.inverse * logit + slopes[class] * unit(logit) + offsets[class]
                } else {
                    f64::NEG_INFINITY
                };
            }
            softmax(&mut probabilities);
            let uniform = self.smoothing / judgement.known().count() as f64;
            for (class, &logit) in judgement.logits.iter().enumerate().filter(|(_, logit)| logit.is_finite())
            {
                let p = probabilities[class];
                let own = if class == judgement.label { 1.0 - self.smoothing } else { 0.0 };
                let (excess, spread) = (p - own - uniform, p * (1.0 - p));
                gradient[class] += excess * unit(logit);
                gradient[self.classes + class] += excess;
                diagonal[class] += spread * unit(logit).powi(2);
                diagonal[self.classes + class] += spread;
            }
        }
        (gradient, diagonal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<(Vec<f64>, usize)> {
        let row = |i: usize| {
            let logits =
                (0..3).map(|class| ((i * 37 + class * 11 + i * i) % 19) as f64 / 4.0 + 7.0).collect();
            (logits, (i * i) % 3)
        };
        (0..30).map(row).collect()
    }

    fn judgements(rows: &[(Vec<f64>, usize)]) -> Vec<Judgement<'_>> {
        rows.iter().map(|(logits, label)| Judgement { logits, label: *label }).collect()
    }

    fn value(objective: &Objective<'_>, parameters: &[f64]) -> f64 {
        let penalty = dot(parameters, parameters) / (2.0 * PRIOR_VARIANCE);
        let loss = |judgement: &Judgement<'_>| {
            let moved = |class: usize| {
                let z = judgement.logits[class];
                objective.inverse * z
                    + parameters[class] * (z - objective.centre) / objective.spread
                    + parameters[3 + class]
            };
            let mean = (0..3).map(moved).sum::<f64>() / 3.0;
            let total = (0..3).map(|class| moved(class).exp()).sum::<f64>().ln();
            total - (1.0 - objective.smoothing) * moved(judgement.label) - objective.smoothing * mean
        };
        penalty + objective.judgements.iter().map(loss).sum::<f64>()
    }

    #[test]
    fn the_gradient_agrees_with_finite_differences() {
        let rows = rows();
        let judgements = judgements(&rows);
        let (centre, spread) = centre_and_spread(&judgements);
        let objective =
            Objective { judgements: &judgements, classes: 3, smoothing: 0.1, inverse: 0.7, centre, spread };
        let parameters = [0.3, -0.2, 0.5, 0.1, -0.4, 0.2];
        let (gradient, _) = objective.gradient(&parameters);
        for position in 0..6 {
            let moved = |by: f64| {
                let mut moved = parameters;
                moved[position] += by;
                value(&objective, &moved)
            };
            let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((gradient[position] - difference).abs() < 1e-7, "{position}: {difference}");
        }
    }

    #[test]
    fn the_descent_ends_where_the_gradient_vanishes() {
        let rows = rows();
        let judgements = judgements(&rows);
        let (centre, spread) = centre_and_spread(&judgements);
        let objective =
            Objective { judgements: &judgements, classes: 3, smoothing: 0.1, inverse: 0.7, centre, spread };
        let (gradient, _) = objective.gradient(&objective.minimise());
        assert!(gradient.iter().all(|g| g.abs() < 1e-2), "{gradient:?}");
    }

    #[test]
    fn a_class_that_is_named_too_often_gets_a_bias_against_it() {
        let rows: Vec<_> = (0..60).map(|i| (vec![if i % 2 == 0 { 2.0 } else { 1.0 }, 0.0], i % 2)).collect();
        let affine = fit(&judgements(&rows), 2, 0.01, 1.0);
        let logit = |class: usize, z: f64| affine.scales[class] * z + affine.biases[class];
        assert!(logit(0, 2.0) > logit(1, 0.0) && logit(0, 1.0) < logit(1, 0.0), "{affine:?}");
    }

    #[test]
    fn unknown_classes_stay_out() {
        let rows = vec![(vec![1.0, f64::NEG_INFINITY, 0.0], 0), (vec![1.0, 0.0, 2.0], 2)];
        let affine = fit(&judgements(&rows), 3, 0.3, 1.0);
        assert!(affine.scales.iter().chain(&affine.biases).all(|x| x.is_finite()), "{affine:?}");
    }
}
