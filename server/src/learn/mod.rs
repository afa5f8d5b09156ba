//! The few-shot loop without HTTP: collections, classes, examples, heads, answers.
//!
//! Every write is one transaction in the store and then, under the collection's lock, the same change to index and
//! prototype head, so the next answer sees it. A write runs to its end even when its caller goes away. A collection that
//! does not exist reads as empty and appears with its first class or example.

mod audit;
mod classes;
pub(crate) mod classify;
pub(crate) mod core;
pub(crate) mod cursor;
mod diff;
mod error;
mod examples;
mod heads;
mod images;
pub(crate) mod labelled;
mod name;
mod readiness;
mod reembed;
pub(crate) mod state;
pub(crate) mod suggest;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod trained;
mod types;
mod untrained;

pub use error::LearnError;
pub use images::{AddedImage, Image, ImageFilter, ImageLabel, NewImage, view_budget};
pub use reembed::PendingImage;
pub use suggest::{Suggestion, Suggestions};
pub use types::{
    Added, AddedExample, Answer, AuditRequest, Class, ClassPrior, ClassReadiness, ClassifyOptions, Diff,
    Difference, Doubt, Evidence, Example, Finding, FindingExample, HeadUsed, HeadVersion, LabelSet, Likeness,
    NewExample, Page, Paged, PoolDiff, PoolDifference, Readiness, Resolution, Score, TrainRequest,
};

use self::core::Core;
use crate::jobs::{Job, Jobs, Request};
use dozen_models::EncoderInfo;
use std::path::Path;
use std::sync::Arc;

/// The collection that the paths without `/collections/{collection}` act on.
pub const DEFAULT_COLLECTION: &str = "default";

/// The loop over one data directory. Cheap to clone.
///
/// Dropping the last clone stops the job worker; [`Learner::close`] also waits for it and for writes in progress.
#[derive(Clone)]
pub struct Learner {
    core: Arc<Core>,
    jobs: Jobs,
}

impl Learner {
    /// Opens or creates the store under `data_dir`, migrates it, rebuilds index and heads for this encoder, and starts the
    /// job worker. Refused while another server has the data directory open.
    pub async fn open(data_dir: &Path, encoder: &EncoderInfo) -> Result<Self, LearnError> {
        let core = Core::open(data_dir, encoder).await?;
        let jobs = Jobs::start(Arc::clone(&core));
        Ok(Self { core, jobs })
    }

    fn core(&self) -> Arc<Core> {
        Arc::clone(&self.core)
    }

    /// The jobs of this store.
    pub fn jobs(&self) -> Jobs {
        self.jobs.clone()
    }

    /// Numbers of live classes and examples over all collections.
    pub async fn sizes(&self) -> Result<(usize, usize), LearnError> {
        Ok(self.core.sizes().await?)
    }

    /// Persists a training job and wakes the worker. `TooFewClasses` is answered here, before a job exists.
    pub async fn train(&self, collection: &str, request: TrainRequest) -> Result<Job, LearnError> {
        name::check(collection)?;
        let asked = request.clone();
        let actual = self
            .core
            .read(collection, move |state| {
                asked.options(|slug| state.class_key(slug)).map(|_| state.answerable().len())
            })
            .await??;
        if actual < TrainRequest::NEEDED_CLASSES {
            return Err(LearnError::TooFewClasses { needed: TrainRequest::NEEDED_CLASSES, actual });
        }
        self.jobs.submit(collection, Request::Head(request)).await
    }

    /// Stops the job worker (a running job is requeued), waits for writes in progress and closes the database.
    pub async fn close(&self) {
        self.jobs.stop().await;
        self.core.store.close().await;
    }
}
