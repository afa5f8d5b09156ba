//! Choosing by what heads say of examples they have not seen.
//!
//! Candidates are compared at the temperature that suits each best, by log-loss: accuracy on a dozen examples per class
//! moves in steps too coarse to tell neighbours apart, and a scale of the logits that a temperature undoes is no fault.

use super::HeldOut;
use crate::Error;
use crate::matrix::{dot, softmax};
use crate::progress::{Progress, report};

/// Sharpest temperature considered; held-out examples that are all answered rightly would ask for 0.
const SHARPEST: f64 = 1e-3;
/// Flattest temperature considered; answers worse than guessing would ask for infinity.
const FLATTEST: f64 = 1e3;
/// Done when a change of the temperature by a share ε changes the log-loss by less than ε times this.
const SLOPE: f64 = 1e-4;
/// Newton needs about 6 steps; halving alone needs 14 to get within a thousandth.
const MAX_STEPS: usize = 40;

/// The candidate that loses least.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub(super) candidate: f64,
    /// Logits divided by this lose least.
    pub(super) temperature: f64,
}

/// Tries every candidate, earlier ones winning ties; `None` if no example can be judged.
pub(super) fn choose(
    candidates: &[f64],
    progress: Progress<'_>,
    leave_one_out: impl Fn(f64) -> Result<HeldOut, Error>,
) -> Result<Option<Choice>, Error> {
    let mut best: Option<(f64, Choice)> = None;
    for (tried, &candidate) in candidates.iter().enumerate() {
        report(&mut *progress, tried as f64 / candidates.len() as f64)?;
        let Some((temperature, loss)) = best_temperature(&leave_one_out(candidate)?) else {
            return Ok(None);
        };
        if best.is_none_or(|(least, _)| loss < least) {
            best = Some((loss, Choice { candidate, temperature }));
        }
    }
    report(progress, 1.0)?;
    Ok(best.map(|(_, choice)| choice))
}

/// Log-loss as a function of the inverse temperature.
struct Loss {
    value: f64,
    slope: f64,
    curvature: f64,
}

/// The temperature of least log-loss and that loss; `None` without rows. Logits must be finite.
///
/// The loss is convex in the inverse temperature: Newton steps, and halving wherever one would leave the bracket.
pub(super) fn best_temperature(held_out: &HeldOut) -> Option<(f64, f64)> {
    if held_out.is_empty() {
        return None;
    }
    let (mut low, mut high) = (1.0 / FLATTEST, 1.0 / SHARPEST);
    let mut inverse = 1.0;
    let mut loss = loss_at(held_out, inverse);
    for _ in 0..MAX_STEPS {
        if loss.slope.abs() * inverse < SLOPE {
            break;
        }
        if loss.slope > 0.0 {
            high = inverse;
        } else {
            low = inverse;
        }
        let newton = inverse - loss.slope / loss.curvature;
        inverse = if newton > low && newton < high { newton } else { (low * high).sqrt() };
        loss = loss_at(held_out, inverse);
    }
    Some((1.0 / inverse, loss.value))
}

fn loss_at(held_out: &HeldOut, inverse: f64) -> Loss {
    let mut total = Loss { value: 0.0, slope: 0.0, curvature: 0.0 };
    let mut shifted = vec![0.0; held_out.classes().len()];
    let mut probabilities = shifted.clone();
    for (row, &label) in held_out.rows().zip(held_out.labels()) {
        // A common part of the logits, large in some heads, would drown their variance.
        let own = row[label];
        for ((shifted, scaled), logit) in shifted.iter_mut().zip(&mut probabilities).zip(row) {
            *shifted = logit - own;
            *scaled = inverse * *shifted;
        }
        total.value += softmax(&mut probabilities);
        let mean = dot(&probabilities, &shifted);
        total.slope += mean;
        for (probability, shifted) in probabilities.iter().zip(&shifted) {
            total.curvature += probability * (shifted - mean).powi(2);
        }
    }
    let share = 1.0 / held_out.len() as f64;
    Loss { value: share * total.value, slope: share * total.slope, curvature: share * total.curvature }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Examples;
    use std::ops::ControlFlow;

    fn held_out(rows: &[(usize, [f64; 3])]) -> HeldOut {
        let vector: &[f32] = &[1.0];
        let examples = Examples::new(1, [(0, vector), (1, vector), (2, vector)]).unwrap();
        let mut held_out = HeldOut::new(&examples);
        for (position, (label, logits)) in rows.iter().enumerate() {
            held_out.push(position, *label, logits);
        }
        held_out
    }

    #[test]
    fn no_other_temperature_loses_less() {
        let rows = [(0, [0.9, 0.5, 0.1]), (1, [0.8, 0.7, 0.1]), (2, [0.1, 0.2, 0.6]), (2, [0.3, 0.1, 0.2])];
        for scale in [0.1, 1.0, 300.0] {
            let scaled = held_out(&rows.map(|(label, row)| (label, row.map(|logit| 1e3 + scale * logit))));
            let (temperature, loss) = best_temperature(&scaled).unwrap();
            assert!((loss - scaled.log_loss(temperature)).abs() < 1e-9);
            for factor in [0.5, 0.9, 1.1, 2.0] {
                assert!(loss < scaled.log_loss(factor * temperature), "{scale} {temperature} {factor}");
            }
        }
    }

    #[test]
    fn temperatures_without_a_best_stay_within_bounds() {
        let right = best_temperature(&held_out(&[(0, [0.01, 0.0, 0.0])])).unwrap().0;
        assert!((SHARPEST..2.0 * SHARPEST).contains(&right), "{right}");
        let wrong = best_temperature(&held_out(&[(1, [1e6, 0.0, 0.0])])).unwrap().0;
        assert!((0.5 * FLATTEST..=FLATTEST).contains(&wrong), "{wrong}");
        assert!(best_temperature(&held_out(&[(1, [3.0; 3])])).unwrap().0.is_finite());
        assert!(best_temperature(&held_out(&[])).is_none());
    }

    #[test]
    fn the_candidate_of_least_loss_is_chosen() {
        let judge = |candidate: f64| Ok(held_out(&[(0, [candidate, 0.5, 0.0]), (1, [0.6, 0.5, 0.0])]));
        let mut go_on = |_| ControlFlow::Continue(());
        let choice = choose(&[0.0, 2.0, 1.0], &mut go_on, judge).unwrap().unwrap();
        assert!((choice.candidate - 2.0).abs() < 1e-12);
        assert!(choose(&[0.0], &mut go_on, |_| Ok(held_out(&[]))).unwrap().is_none());
        let mut stop = |_| ControlFlow::Break(());
        assert_eq!(choose(&[0.0], &mut stop, judge).err(), Some(Error::Cancelled));
    }
}
