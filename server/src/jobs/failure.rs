//! Why a job failed.

use crate::learn::LearnError;
use serde_json::{Value, json};

/// As a job's `error` says it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The work refused its input or did not converge.
    #[error(transparent)]
    Learning(#[from] dozen_fewshot::Error),
    /// A bug in the work.
    #[error("the work panicked: {0}")]
    Panicked(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] LearnError),
}

impl Failure {
    /// `{"code","message"}`.
    pub(super) fn problem(&self) -> Value {
        use dozen_fewshot::Error as Learning;
        let code = match self {
            Failure::Learning(Learning::TooFewClasses { .. }) => "too_few_classes",
            Failure::Learning(Learning::NotConverged { .. }) => "not_converged",
            Failure::Learning(Learning::InvalidOption { .. }) => "invalid_option",
            Failure::Learning(_) => "invalid_training_data",
            Failure::Panicked(_) => "panicked",
            Failure::Store(_) => "store_failed",
        };
        json!({ "code": code, "message": self.to_string() })
    }
}
