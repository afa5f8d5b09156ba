//! Classification heads: vectors and labels in, scores out.

mod logistic;
mod prototype;

pub use logistic::{FitReport, LogisticHead, LogisticOptions};
pub use prototype::PrototypeHead;

use crate::{ClassKey, Error};

/// One class's score for a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// The class.
    pub class: ClassKey,
    /// Softmax probability over the candidate classes.
    pub probability: f32,
    /// Cosine between the query and the class mean (prototype) or weight row (logistic).
    pub similarity: f32,
}

/// What the server asks of any head.
pub trait Head: Send + Sync {
    /// Classes it can answer with, ascending.
    fn classes(&self) -> Vec<ClassKey>;
    /// Scores best first (ties by class), over the classes for which `accept` holds; probabilities sum to 1 over them.
    fn predict(&self, vector: &[f32], accept: &dyn Fn(ClassKey) -> bool) -> Result<Vec<Score>, Error>;
}

/// A class with its logit and cosine, before normalisation over the candidates.
struct Candidate {
    class: ClassKey,
    logit: f64,
    similarity: f64,
}

/// Softmax over the candidates, best first, ties by class.
fn rank(mut candidates: Vec<Candidate>) -> Vec<Score> {
    candidates.sort_by(|a, b| b.logit.total_cmp(&a.logit).then(a.class.cmp(&b.class)));
    let largest = candidates.first().map_or(0.0, |best| best.logit);
    let total: f64 = candidates.iter().map(|candidate| (candidate.logit - largest).exp()).sum();
    candidates
        .into_iter()
        .map(|Candidate { class, logit, similarity }| Score {
            class,
            probability: ((logit - largest).exp() / total) as f32,
            similarity: similarity.clamp(-1.0, 1.0) as f32,
        })
        .collect()
}
