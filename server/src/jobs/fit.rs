//! The logistic head's fit on stored vectors.

use crate::learn::core::Core;
use crate::learn::state::class_key;
use crate::learn::{LearnError, TrainRequest};
use crate::store::{StoreError, collections, examples, read_json, read_vector};
use dozen_fewshot::heads::{LogisticHead, LogisticOptions};
use dozen_fewshot::{ClassKey, Examples};
use futures_util::TryStreamExt;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::time::Instant;
use tokio::sync::oneshot;

/// Why a job failed, as its `error` says.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The request names something that cannot be trained.
    #[error("cannot train scope `{scope}` with method `{method}`; use scope `head` with method `logistic`")]
    Unsupported { scope: String, method: String },
    /// Classes or examples were deleted between request and fit.
    #[error("{actual} classes have examples, at least {needed} are needed; add examples and train again")]
    TooFewClasses { needed: usize, actual: usize },
    /// The fit refused its input or did not converge.
    #[error(transparent)]
    Fit(#[from] dozen_fewshot::Error),
    /// A bug in the fit.
    #[error("the fit panicked: {0}")]
    Panicked(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] LearnError),
}

impl Failure {
    /// `{"code","message"}`.
    pub(super) fn problem(&self) -> Value {
        let code = match self {
            Failure::Unsupported { .. } => "unsupported_training",
            Failure::TooFewClasses { .. } => "too_few_classes",
            Failure::Fit(dozen_fewshot::Error::NotConverged { .. }) => "not_converged",
            Failure::Fit(dozen_fewshot::Error::InvalidOption { .. }) => "invalid_option",
            Failure::Fit(_) => "invalid_training_data",
            Failure::Panicked(_) => "panicked",
            Failure::Store(_) => "store_failed",
        };
        json!({ "code": code, "message": self.to_string() })
    }
}

/// What the fit works on, as it is when the job starts.
pub(super) struct TrainingSet {
    labelled: Vec<(ClassKey, Vec<f32>)>,
    dimensions: usize,
    classes: usize,
    options: LogisticOptions,
    parent: i64,
}

/// A fitted head and what to say about it.
pub(super) struct Fitted {
    /// As it reads back from `weights`, so that a restart changes no answer.
    pub(super) head: LogisticHead,
    /// The stored form.
    pub(super) weights: Vec<u8>,
    pub(super) options: LogisticOptions,
    pub(super) metrics: Value,
    /// The version that was active when the fit began.
    pub(super) parent: i64,
}

impl TrainingSet {
    /// Reads the live examples' vectors of the current encoder.
    pub(super) async fn read(core: &Core, collection: &str, request: &TrainRequest) -> Result<Self, Failure> {
        if request.scope != "head" || request.method != "logistic" {
            let (scope, method) = (request.scope.clone(), request.method.clone());
            return Err(Failure::Unsupported { scope, method });
        }
        let mut labelled = Vec::new();
        let mut parent = 0;
        let mut reader = core.store.read().await.map_err(LearnError::from)?;
        if let Some(row) = collections::find(&mut reader, collection).await.map_err(LearnError::from)? {
            parent = row.active_head;
            let mut rows = examples::embedded(&mut reader, row.key, core.store.encoder);
            while let Some(example) =
                rows.try_next().await.map_err(|error| LearnError::from(StoreError::from(error)))?
            {
                if let Some(bytes) = example.vector {
                    let vector = read_vector(&example.id, &bytes, core.encoder.dimensions)
                        .map_err(LearnError::from)?;
                    labelled.push((class_key(example.class_key), vector));
                }
            }
        }
        let classes = labelled.iter().map(|(class, _)| *class).collect::<HashSet<_>>().len();
        if classes < TrainRequest::NEEDED_CLASSES {
            return Err(Failure::TooFewClasses { needed: TrainRequest::NEEDED_CLASSES, actual: classes });
        }
        let options = LogisticOptions { l2: request.l2, ..LogisticOptions::default() };
        Ok(Self { labelled, dimensions: core.encoder.dimensions, classes, options, parent })
    }

    /// Fits on a thread of its own, so that a long fit neither holds up async work nor the end of the process.
    pub(super) fn fit(self) -> Result<oneshot::Receiver<Result<Fitted, Failure>>, Failure> {
        let (done, outcome) = oneshot::channel();
        let work = move || {
            let fitted = guarded(|| self.fit_here());
            // Nobody waits any more when the server stops.
            let _ = done.send(fitted);
        };
        std::thread::Builder::new().name("fit".to_owned()).spawn(work).map_err(|source| {
            LearnError::from(StoreError::Io { path: "the thread of the fit".into(), source })
        })?;
        Ok(outcome)
    }

    fn fit_here(&self) -> Result<Fitted, Failure> {
        let started = Instant::now();
        let labelled = self.labelled.iter().map(|(class, vector)| (*class, vector.as_slice()));
        let examples = Examples::new(self.dimensions, labelled)?;
        let (head, report) = LogisticHead::fit(&examples, &self.options, &mut |_| ControlFlow::Continue(()))?;
        let metrics = json!({
            "examples": examples.len(),
            "classes": self.classes,
            "training_accuracy": report.training_accuracy,
            "objective": report.objective,
            "gap": report.gap,
            "gradient_norm": report.gradient_norm,
            "iterations": report.iterations,
            "seconds": started.elapsed().as_secs_f64(),
        });
        let weights = serde_json::to_vec(&head)
            .map_err(|error| LearnError::from(StoreError::Sql(sqlx::Error::Encode(error.into()))))?;
        let head = read_json("the fitted head", &weights).map_err(LearnError::from)?;
        Ok(Fitted { head, weights, options: self.options, metrics, parent: self.parent })
    }
}

/// Turns a panic into a failure of the job.
fn guarded(fit: impl FnOnce() -> Result<Fitted, Failure>) -> Result<Fitted, Failure> {
    std::panic::catch_unwind(AssertUnwindSafe(fit))
        .unwrap_or_else(|panic| Err(Failure::Panicked(panic_message(panic.as_ref()))))
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_failure_with_its_message() {
        let failure = guarded(|| panic!("row {}", 7)).err().unwrap();
        let problem = failure.problem();
        assert_eq!(problem["code"], "panicked");
        assert_eq!(problem["message"], "the fit panicked: row 7");
    }
}
