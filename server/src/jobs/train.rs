//! Training a head: what it learns from, and what becomes of it.
//!
//! A new version answers calls only if it is not worse on the held-back slice than the head in use, beyond chance, or if
//! the request forces it. It is kept either way.

use super::failure::Failure;
use super::{Queue, append, finish};
use crate::learn::core::Core;
use crate::learn::labelled::LabelledSet;
use crate::learn::state::Change;
use crate::learn::trained::{StoredHead, TrainedHead};
use crate::learn::{LearnError, TrainRequest};
use crate::store::heads::{self, NewHead};
use crate::store::jobs::JobRow;
use crate::store::{StoreError, collections, read_json};
use dozen_fewshot::Pool;
use dozen_fewshot::heads::MsnHead;
use dozen_fewshot::promotion::{self, Comparison};
use dozen_fewshot::training::{self, TrainingOptions};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

/// What a training works on, as it is when the job starts.
pub(super) struct Training {
    labelled: LabelledSet,
    options: TrainingOptions,
    force: bool,
    pool: Pool,
    /// The head in use, which the new one is compared with; `None` is the prototype head.
    current: Option<Arc<TrainedHead>>,
}

/// A head that is to become a version.
pub(super) struct NewVersion {
    /// As it reads back from `weights`, so that a restart changes no answer.
    stored: StoredHead,
    /// The stored form.
    weights: Vec<u8>,
    method: &'static str,
    parameters: Value,
    metrics: Value,
    /// The version that was in use.
    parent: i64,
    activate: bool,
}

/// How the head in use and the new one answer the slice.
#[derive(Serialize)]
struct Promotion {
    /// The version in use; 0 is the prototype head.
    against: i64,
    /// Examples in the slice that neither was fitted on.
    judged: usize,
    #[serde(flatten)]
    comparison: Comparison,
    /// The request asked to activate it in any case.
    forced: bool,
}

impl Training {
    /// Reads labels and the head in use.
    pub(super) async fn read(core: &Core, collection: &str, request: TrainRequest) -> Result<Self, Failure> {
        let labelled = LabelledSet::read(core, collection).await?;
        let current = core.active_head(collection).await?;
        let pool = core.pool(collection, MsnHead::MAX_POOL).await?.pool;
        let asked = request.clone();
        let options = core.read(collection, move |state| asked.options(|slug| state.class_key(slug))).await;
        let options = options.map_err(LearnError::from)??;
        Ok(Self { labelled, options, force: request.force, pool, current })
    }

    /// Fits and compares.
    pub(super) fn run(self, progress: dozen_fewshot::Progress<'_>) -> Result<NewVersion, Failure> {
        let started = Instant::now();
        let Self { labelled, options, force, pool, current } = self;
        let trained = training::train(&labelled.vectors, &labelled.held_back, &pool, &options, progress)?;
        let (before, after) = labelled.compare(current.as_deref(), &trained.twin)?;
        let comparison = promotion::compare(&before, &after)?;
        let parent = current.map_or(0, |current| current.version);
        let activate = force || !comparison.worse;
        let promotion = Promotion { against: parent, judged: before.len(), comparison, forced: force };
        let method = trained.head.method().word();
        let parameters = encoded(&trained.report.settings)?;
        let mut metrics = encoded(&trained.report)?;
        if let Some(metrics) = metrics.as_object_mut() {
            // Has a column of its own.
            metrics.remove("settings");
            metrics.insert("promotion".to_owned(), encoded(&promotion)?);
            metrics.insert("seconds".to_owned(), json!(started.elapsed().as_secs_f64()));
        }
        let weights = serde_json::to_vec(&StoredHead::new(trained, &labelled)).map_err(unwritable)?;
        let stored = read_json("the fitted head", &weights).map_err(LearnError::from)?;
        Ok(NewVersion { stored, weights, method, parameters, metrics, parent, activate })
    }
}

impl NewVersion {
    /// Stores the version, activates it if it may be, and ends the job: one transaction, then memory.
    pub(super) async fn settle(self, queue: &Queue, job: &JobRow) -> Result<(), LearnError> {
        let mut write = queue.core.begin(&job.collection).await?;
        // Under the writer's transaction: a cancel is before this or finds the job ended.
        if super::find(&mut write.transaction, &job.id).await?.cancel_requested {
            drop(write);
            return queue.cancelled(job).await;
        }
        let head = NewHead {
            collection: write.collection,
            method: self.method,
            parameters: &self.parameters.to_string(),
            metrics: &self.metrics.to_string(),
            parent: self.parent,
            encoder: queue.core.store.encoder,
            weights: &self.weights,
        };
        let version = heads::create(&mut write.transaction, &head).await?;
        let data = json!({ "version": version, "job": job.id, "activated": self.activate });
        write.record("head.created", &data).await?;
        if self.activate {
            collections::set_active_head(&mut write.transaction, write.collection, version).await?;
            write.change(Change::Head(Some(Arc::new(TrainedHead::new(version, self.stored)))));
        }
        let metric = append(&mut write.transaction, job, "metric", &self.metrics).await?;
        let result = json!({ "head_version": version, "activated": self.activate, "metrics": self.metrics });
        let (_, done) =
            finish(&mut write.transaction, job, super::JobStatus::Succeeded, Some(&result), None).await?;
        let settling = queue.settling.write().await;
        write.commit().await?;
        drop(settling);
        queue.publish(vec![metric, done]);
        tracing::info!(
            job = job.id,
            collection = job.collection,
            version,
            activated = self.activate,
            "head trained"
        );
        Ok(())
    }
}

fn encoded(value: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|error| unwritable(error).into())
}

fn unwritable(error: serde_json::Error) -> LearnError {
    StoreError::Sql(sqlx::Error::Encode(error.into())).into()
}
