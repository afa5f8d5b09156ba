//! The chance that the present answer about an image is wrong.

use crate::Examples;
use crate::matrix::softmax;
use crate::means::{Means, held_out};

/// Temperatures tried, each a factor of e^0.1 from the next: cosines divided by 0.01 are a hard decision, and by 100 a
/// tie, so that the ends mean "certain" and "knows nothing".
const TEMPERATURES: std::ops::RangeInclusive<i32> = -46..=46;

/// One minus the largest probability of each unit vector, `[vector][dimension]`, by cosine to the class means.
///
/// The temperature is the one of the least leave-one-out log-loss. Without two classes, or with one example of each, no
/// answer can be judged, and every chance is 1.
pub(super) fn chance_of_error(examples: &Examples, vectors: &[f64], dimensions: usize) -> Vec<f64> {
    let held_out = held_out(examples);
    if examples.classes().len() < 2 || held_out.is_empty() {
        return vec![1.0; vectors.len() / dimensions];
    }
    let mut best = (f64::INFINITY, 1.0);
    for step in TEMPERATURES {
        let temperature = (f64::from(step) / 10.0).exp();
        let loss = held_out.log_loss(temperature);
        if loss < best.0 {
            best = (loss, temperature);
        }
    }
    let means = Means::of(examples, 0..examples.len());
    let mut logits = means.cosines(vectors);
    let chance = |logits: &mut [f64]| {
        for logit in logits.iter_mut() {
            *logit /= best.1;
        }
        softmax(logits);
        1.0 - logits.iter().copied().fold(0.0, f64::max)
    };
    logits.chunks_exact_mut(examples.classes().len()).map(chance).collect()
}
