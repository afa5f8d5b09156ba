//! L-BFGS (Nocedal and Wright, Numerical Optimization, 2nd ed., algorithm 7.5) with a weak Wolfe line search.
//!
//! The objective is strongly convex (λ > 0), so there is one minimum and every accepted step has positive curvature.
//! An iteration costs two matrix products however long its line search is, because logits are linear along the line.

use std::collections::VecDeque;

use super::objective::{Line, LinePoint, Objective};
use crate::Error;
use crate::matrix::dot;

/// Steps remembered: each costs two vectors of the size of W; more than this no longer saves iterations.
const MEMORY: usize = 20;
/// Sufficient decrease (Armijo).
const DECREASE: f64 = 1e-4;
/// The slope must fall to this share of the initial one (curvature condition).
const CURVATURE: f64 = 0.5;
/// Relative rounding of the objective, below which only the slope can tell progress (Hager and Zhang, 2005, §2).
const ROUNDING: f64 = 1e-13;
/// Bisection halves the interval: 60 exhaust f64.
const MAX_LINE_STEPS: usize = 60;

/// Where the fit ended.
pub(super) struct Minimum {
    pub(super) weights: Vec<f64>,
    pub(super) logits: Vec<f64>,
    pub(super) value: f64,
    /// Largest gradient component.
    pub(super) gradient_norm: f64,
    pub(super) iterations: usize,
}

/// One remembered step.
struct Correction {
    /// Change of the weights.
    step: Vec<f64>,
    /// Change of the gradient.
    change: Vec<f64>,
    /// 1 / (step · change).
    inverse_curvature: f64,
}

/// Minimises from W = 0.
pub(super) fn minimize(
    objective: &Objective,
    gradient_tolerance: f64,
    max_iterations: usize,
) -> Result<Minimum, Error> {
    let mut weights = vec![0.0; objective.parameters()];
    let mut logits = vec![0.0; objective.logit_count()];
    let mut gradient = vec![0.0; weights.len()];
    let mut next_gradient = gradient.clone();
    let mut logit_direction = logits.clone();
    let mut memory: VecDeque<Correction> = VecDeque::with_capacity(MEMORY);
    let curvature_bound = objective.curvature_bound();
    objective.gradient(&weights, &logits, &mut gradient);
    let mut value = objective.line((&weights, &logits), (&gradient, &logit_direction)).at(0.0).value;

    let mut iterations = 0;
    loop {
        let gradient_norm = largest(&gradient);
        if gradient_norm <= gradient_tolerance {
            return Ok(Minimum { weights, logits, value, gradient_norm, iterations });
        }
        let stuck = || Error::NotConverged { iterations, gradient_norm: format!("{gradient_norm:.2e}") };
        if iterations == max_iterations {
            return Err(stuck());
        }
        let direction = descent_direction(&gradient, &memory, curvature_bound);
        objective.logits(&direction, &mut logit_direction);
        let line = objective.line((&weights, &logits), (&direction, &logit_direction));
        let start = LinePoint { value, slope: dot(&gradient, &direction) };
        let Some((t, point)) = search_line(&line, start) else {
            return Err(stuck());
        };
        let step: Vec<f64> = direction.iter().map(|d| t * d).collect();
        add(&mut weights, &step);
        for (logit, d) in logits.iter_mut().zip(&logit_direction) {
            *logit += t * d;
        }
        objective.gradient(&weights, &logits, &mut next_gradient);
        let change: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(new, old)| new - old).collect();
        std::mem::swap(&mut gradient, &mut next_gradient);
        let curvature = dot(&step, &change);
        if curvature > 0.0 {
            if memory.len() == MEMORY {
                memory.pop_front();
            }
            memory.push_back(Correction { step, change, inverse_curvature: 1.0 / curvature });
        }
        value = point.value;
        iterations += 1;
    }
}

/// −H·gradient by the two-loop recursion.
fn descent_direction(gradient: &[f64], memory: &VecDeque<Correction>, curvature_bound: f64) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut shares = Vec::with_capacity(memory.len());
    for correction in memory.iter().rev() {
        let share = correction.inverse_curvature * dot(&correction.step, &direction);
        add_scaled(&mut direction, -share, &correction.change);
        shares.push(share);
    }
    let scale = memory.back().map_or(1.0 / curvature_bound, |last| {
        1.0 / (last.inverse_curvature * dot(&last.change, &last.change))
    });
    for component in &mut direction {
        *component *= scale;
    }
    for (correction, share) in memory.iter().zip(shares.into_iter().rev()) {
        let back = correction.inverse_curvature * dot(&correction.change, &direction);
        add_scaled(&mut direction, share - back, &correction.step);
    }
    direction
}

/// A step that satisfies the weak Wolfe conditions, by doubling and bisection; None when rounding leaves no such step.
fn search_line(line: &Line<'_>, start: LinePoint) -> Option<(f64, LinePoint)> {
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let mut t = 1.0;
    for _ in 0..MAX_LINE_STEPS {
        let point = line.at(t);
        let decreased = point.value <= start.value + DECREASE * t * start.slope
            || (point.value <= start.value + ROUNDING * start.value.abs()
                && point.slope <= (2.0 * DECREASE - 1.0) * start.slope);
        if !decreased {
            high = t;
        } else if point.slope < CURVATURE * start.slope {
            low = t;
        } else {
            return Some((t, point));
        }
        t = if high.is_finite() { f64::midpoint(low, high) } else { 2.0 * t };
    }
    None
}

fn largest(vector: &[f64]) -> f64 {
    vector.iter().fold(0.0, |largest, component| component.abs().max(largest))
}

fn add(target: &mut [f64], addend: &[f64]) {
    for (t, a) in target.iter_mut().zip(addend) {
        *t += a;
    }
}

fn add_scaled(target: &mut [f64], scale: f64, addend: &[f64]) {
    for (t, a) in target.iter_mut().zip(addend) {
        *t += scale * a;
    }
}
