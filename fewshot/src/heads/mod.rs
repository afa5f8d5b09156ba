//! Classification heads: vectors and labels in, scores out.

mod choice;
mod discriminant;
mod held_out;
mod logistic;
mod msn;
mod nearest;
mod prototype;
mod stored;

pub(crate) use choice::best_temperature;
pub use discriminant::DiscriminantHead;
pub use held_out::HeldOut;
pub use logistic::{ClassWeights, FitReport, LogisticHead, LogisticOptions};
pub use msn::{ClassPrior, MsnHead, MsnOptions, MsnReport};
pub use nearest::{NearestHead, NearestOptions};
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

/// What a head says of a query about one class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logit {
    /// The class.
    pub class: ClassKey,
    /// Larger is likelier; the softmax over the candidates gives probabilities.
    pub logit: f64,
    /// Cosine between the query and what stands for the class.
    pub similarity: f64,
}

/// What is asked of any head.
pub trait Head: Send + Sync {
    /// Classes it can answer with, ascending.
    fn classes(&self) -> Vec<ClassKey>;

    /// One logit per class, in the order of [`Head::classes`]. Refuses vectors of another length or without direction.
    fn logits(&self, vector: &[f32]) -> Result<Vec<Logit>, Error>;

    /// Scores best first (ties by class), over the classes for which `accept` holds; probabilities sum to 1 over them.
    fn predict(&self, vector: &[f32], accept: &dyn Fn(ClassKey) -> bool) -> Result<Vec<Score>, Error> {
        let mut candidates = self.logits(vector)?;
        candidates.retain(|candidate| accept(candidate.class));
        Ok(rank(candidates))
    }
}

/// Softmax over the candidates, best first, ties by class.
pub fn rank(mut candidates: Vec<Logit>) -> Vec<Score> {
    candidates.sort_by(|a, b| b.logit.total_cmp(&a.logit).then(a.class.cmp(&b.class)));
    let largest = candidates.first().map_or(0.0, |best| best.logit);
    let total: f64 = candidates.iter().map(|candidate| (candidate.logit - largest).exp()).sum();
    candidates
        .into_iter()
        .map(|Logit { class, logit, similarity }| Score {
            class,
            probability: ((logit - largest).exp() / total) as f32,
            similarity: similarity.clamp(-1.0, 1.0) as f32,
        })
        .collect()
}
