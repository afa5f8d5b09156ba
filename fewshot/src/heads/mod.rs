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
    /// Classes it can answer with.
    fn classes(&self) -> Vec<ClassKey>;
    /// Scores best first, over the classes for which `accept` holds; probabilities sum to 1 over them.
    fn predict(&self, vector: &[f32], accept: &dyn Fn(ClassKey) -> bool) -> Result<Vec<Score>, Error>;
}
