//! L-BFGS (Nocedal and Wright, Numerical Optimization, 2nd ed., algorithm 7.4) with a preconditioner.
//!
//! The objective is strongly convex (λ > 0): there is one minimum, every step has positive curvature, and the gradient
//! bounds what is left to gain, f(W) − min f ≤ ‖∇f(W)‖²·Σs / (2λ). That bound is the stopping rule.

use std::collections::VecDeque;

use super::objective::{Evaluation, Objective};
use super::preconditioner::Preconditioner;
use super::vectors::{add_scaled, dot, largest};
use crate::Error;

/// Steps remembered: each costs two vectors of the size of W; more than this no longer saves iterations.
const MEMORY: usize = 10;
/// Sufficient decrease (Armijo).
const DECREASE: f64 = 1e-4;
/// Relative rounding of the objective, below which only the slope can tell progress (Hager and Zhang, 2005, §2).
const ROUNDING: f64 = 1e-6;
/// A step shortened so often is shorter than rounding.
const MAX_SHORTENINGS: usize = 30;

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Well: the objective is at most this share above its minimum.
    pub(super) tolerance: f64,
    /// In failure, after so many.
    pub(super) iterations: usize,
}

/// Where a fit is, and what it knows of the curvature there.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) weights: Vec<f32>,
    memory: VecDeque<Correction>,
}

/// Where the fit ended.
pub(super) struct Minimum {
    pub(super) state: State,
    pub(super) evaluation: Evaluation,
    /// The objective is at most this share above its minimum.
    pub(super) gap: f64,
    /// Largest gradient component.
    pub(super) gradient_norm: f64,
    pub(super) iterations: usize,
}

/// One remembered step.
#[derive(Clone, Debug)]
struct Correction {
    /// Change of the weights.
    step: Vec<f32>,
    /// Change of the gradient.
    change: Vec<f32>,
    /// 1 / (step · change).
    inverse_curvature: f64,
}

impl State {
    /// W = 0.
    pub(super) fn zero(objective: &Objective<'_>) -> Self {
        Self { weights: vec![0.0; objective.parameters()], memory: VecDeque::with_capacity(MEMORY) }
    }

    /// The same for an objective that differs by its λ alone, whose curvature does by the difference.
    pub(super) fn with_l2(mut self, objective: &Objective<'_>, before: f64) -> Self {
        let more = (objective.l2() - before) / objective.total();
        for Correction { mut change, step, .. } in std::mem::take(&mut self.memory) {
            add_scaled(&mut change, more, &step);
            self.remember(step, change);
        }
        self
    }

    fn remember(&mut self, step: Vec<f32>, change: Vec<f32>) {
        let curvature = dot(&step, &change);
        // Rounding can take it from very short steps.
        if curvature > 0.0 {
            if self.memory.len() == MEMORY {
                self.memory.pop_front();
            }
            self.memory.push_back(Correction { step, change, inverse_curvature: 1.0 / curvature });
        }
    }

    /// −H·gradient by the two-loop recursion.
    fn descent_direction(&self, gradient: &[f32], preconditioner: &Preconditioner) -> Vec<f32> {
        let mut direction: Vec<f32> = gradient.iter().map(|g| -g).collect();
        let mut shares = Vec::with_capacity(self.memory.len());
        for correction in self.memory.iter().rev() {
            let share = correction.inverse_curvature * dot(&correction.step, &direction);
            add_scaled(&mut direction, -share, &correction.change);
            shares.push(share);
        }
        let mut direction = preconditioner.solve(&direction);
        if let Some(last) = self.memory.back() {
            let solved = preconditioner.solve(&last.change);
            let scale = 1.0 / (last.inverse_curvature * dot(&last.change, &solved));
            for component in &mut direction {
                *component *= scale as f32;
            }
        }
        for (correction, share) in self.memory.iter().zip(shares.into_iter().rev()) {
            let back = correction.inverse_curvature * dot(&correction.change, &direction);
            add_scaled(&mut direction, share - back, &correction.step);
        }
        direction
    }
}

/// Minimises from a state.
///
/// `watch` is told the gap at every iteration, and may end the fit.
pub(super) fn minimize(
    objective: &Objective<'_>,
    mut state: State,
    limits: Limits,
    mut watch: impl FnMut(f64) -> Result<(), Error>,
) -> Result<Minimum, Error> {
    let mut evaluation = objective.evaluate(&state.weights);
    let mut preconditioner: Option<Preconditioner> = None;
    let mut iterations = 0;
    loop {
        let square = dot(&evaluation.gradient, &evaluation.gradient);
        let gap = square * objective.total() / (2.0 * objective.l2() * evaluation.value);
        let gradient_norm = largest(&evaluation.gradient);
        watch(gap)?;
        if gap <= limits.tolerance {
            return Ok(Minimum { state, evaluation, gap, gradient_norm, iterations });
        }
        let stuck = || Error::NotConverged { iterations, gradient_norm: format!("{gradient_norm:.2e}") };
        if iterations == limits.iterations {
            return Err(stuck());
        }
        let preconditioner =
            preconditioner.get_or_insert_with(|| Preconditioner::new(objective, &evaluation));
        preconditioner.follow(&evaluation);
        let direction = state.descent_direction(&evaluation.gradient, preconditioner);
        let Some((step, next)) = step(objective, &state.weights, &evaluation, direction) else {
            return Err(stuck());
        };
        add_scaled(&mut state.weights, 1.0, &step);
        let change = next.gradient.iter().zip(&evaluation.gradient).map(|(new, old)| new - old).collect();
        state.remember(step, change);
        evaluation = next;
        iterations += 1;
    }
}

/// A step along the direction that decreases the objective, and the evaluation behind it; None when rounding leaves no such step.
fn step(
    objective: &Objective<'_>,
    weights: &[f32],
    start: &Evaluation,
    direction: Vec<f32>,
) -> Option<(Vec<f32>, Evaluation)> {
    let start_slope = dot(&start.gradient, &direction);
    let mut step = direction;
    let mut length = 1.0;
    for _ in 0..MAX_SHORTENINGS {
        let mut moved = weights.to_vec();
        add_scaled(&mut moved, 1.0, &step);
        let next = objective.evaluate(&moved);
        let slope = dot(&next.gradient, &step) / length;
        let is_lower = next.value <= start.value + DECREASE * length * start_slope;
        let is_as_low = next.value <= start.value * (1.0 + ROUNDING);
        if is_lower || (is_as_low && slope <= (2.0 * DECREASE - 1.0) * start_slope) {
            return Some((step, next));
        }
        // Where the slope, taken as linear, would vanish.
        let share = (start_slope / (start_slope - slope)).clamp(0.1, 0.5);
        for component in &mut step {
            *component *= share as f32;
        }
        length *= share;
    }
    None
}
