//! The one worker: takes the oldest queued job, fits, stores and activates the new head version.

use super::fit::{Failure, Fitted, TrainingSet};
use super::{JobStatus, Queue, append, finish};
use crate::learn::classify::LOGISTIC;
use crate::learn::state::{Change, TrainedHead};
use crate::learn::{LearnError, TrainRequest};
use crate::store::heads::{self, NewHead};
use crate::store::jobs::{self, JobRow};
use crate::store::{collections, read_json};
use serde_json::json;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Pause after the store failed, so that a full disk is not asked a thousand times a second.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Works until told to stop.
pub(super) async fn run(queue: Arc<Queue>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match step(&queue, &stop).await {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = queue.wake.notified() => {}
                }
            }
            Err(error) => {
                tracing::error!(%error, "the job worker cannot reach the store");
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(PAUSE_AFTER_FAILURE) => {}
                }
            }
        }
    }
}

/// How a job's work ended, failures apart.
enum Outcome {
    Fitted(Fitted),
    /// Asked for by a caller.
    Cancelled,
    /// The server stops.
    Stopped,
}

/// Runs the oldest queued job; breaks if there is none.
///
/// A job that is running already was interrupted, by the end of a server or because its end could not be stored. There
/// is one worker, so nobody is at it: it is put back into the queue first.
async fn step(queue: &Queue, stop: &CancellationToken) -> Result<ControlFlow<()>, LearnError> {
    let mut change = queue.begin().await?;
    for job in jobs::in_status(&mut change.transaction, JobStatus::Running.word()).await? {
        change.requeue(&job, "the job was interrupted; it runs again").await?;
    }
    let claimed = jobs::claim(&mut change.transaction).await?;
    if let Some(job) = &claimed {
        change.event(job, "progress", &json!({ "status": "running", "progress": 0.0 })).await?;
    }
    change.commit().await?;
    let Some(job) = claimed else { return Ok(ControlFlow::Break(())) };
    tracing::info!(job = job.id, collection = job.collection, "job started");
    match work(queue, &job, stop).await {
        Ok(Outcome::Fitted(fitted)) => succeed(queue, &job, fitted).await?,
        Ok(Outcome::Cancelled) => cancelled(queue, &job).await?,
        Ok(Outcome::Stopped) => {
            let mut change = queue.begin().await?;
            change.requeue(&job, "the server stops; the job runs again at its next start").await?;
            change.commit().await?;
        }
        Err(failure) => {
            tracing::warn!(job = job.id, error = %failure, "job failed");
            let mut change = queue.begin().await?;
            change.finish(&job, JobStatus::Failed, None, Some(&failure.problem())).await?;
            change.commit().await?;
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Does a job's work without storing anything.
async fn work(queue: &Queue, job: &JobRow, stop: &CancellationToken) -> Result<Outcome, Failure> {
    if job.cancel_requested {
        return Ok(Outcome::Cancelled);
    }
    let request: TrainRequest = read_json(&format!("the request of job {}", job.id), job.request.as_bytes())
        .map_err(LearnError::from)?;
    let fit = TrainingSet::read(&queue.core, &job.collection, &request).await?.fit()?;
    tokio::select! {
        // A fit under way is left to itself: it changes nothing but the answer nobody takes.
        () = stop.cancelled() => Ok(Outcome::Stopped),
        fitted = fit => match fitted {
            Ok(fitted) => Ok(Outcome::Fitted(fitted?)),
            Err(_) => Err(Failure::Panicked("the thread ended without an answer".to_owned())),
        },
    }
}

async fn cancelled(queue: &Queue, job: &JobRow) -> Result<(), LearnError> {
    let mut change = queue.begin().await?;
    change.finish(job, JobStatus::Cancelled, None, None).await?;
    change.commit().await
}

/// Stores the head as the next version, activates it and ends the job: one transaction, then memory.
pub(super) async fn succeed(queue: &Queue, job: &JobRow, fitted: Fitted) -> Result<(), LearnError> {
    let mut write = queue.core.begin(&job.collection).await?;
    // Under the writer's transaction: a cancel is before this or finds the job ended.
    if super::find(&mut write.transaction, &job.id).await?.cancel_requested {
        drop(write);
        return cancelled(queue, job).await;
    }
    let head = NewHead {
        collection: write.collection,
        method: LOGISTIC,
        parameters: &json!(fitted.options).to_string(),
        metrics: &fitted.metrics.to_string(),
        parent: fitted.parent,
        encoder: queue.core.store.encoder,
        weights: &fitted.weights,
    };
    let version = heads::create(&mut write.transaction, &head).await?;
    write.record("head.created", &json!({ "version": version, "job": job.id })).await?;
    collections::set_active_head(&mut write.transaction, write.collection, version).await?;
    write.change(Change::Head(Some(Arc::new(TrainedHead::new(version, fitted.head)))));
    let metric = append(&mut write.transaction, job, "metric", &fitted.metrics).await?;
    let result = json!({ "head_version": version, "metrics": fitted.metrics });
    let (_, done) = finish(&mut write.transaction, job, JobStatus::Succeeded, Some(&result), None).await?;
    let settling = queue.settling.write().await;
    write.commit().await?;
    drop(settling);
    queue.publish(vec![metric, done]);
    tracing::info!(job = job.id, collection = job.collection, version, "head activated");
    Ok(())
}
