//! The one worker: takes the oldest queued job, does its work on a thread of its own, and stores what came of it.

use super::failure::Failure;
use super::thread::Control;
use super::work::{Product, Request};
use super::{JobStatus, Queue};
use crate::learn::LearnError;
use crate::store::jobs::{self, JobRow};
use crate::store::read_json;
use serde_json::json;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often a running job's progress is stored and told, and a cancel looked for.
const BEAT: Duration = Duration::from_millis(250);

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
    Done(Product),
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
        Ok(Outcome::Done(product)) => product.settle(queue, &job).await?,
        Ok(Outcome::Cancelled) => queue.cancelled(&job).await?,
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

/// Does a job's work; nothing but its progress is stored.
async fn work(queue: &Queue, job: &JobRow, stop: &CancellationToken) -> Result<Outcome, Failure> {
    if job.cancel_requested {
        return Ok(Outcome::Cancelled);
    }
    let request: Request = read_json(&format!("the request of job {}", job.id), job.request.as_bytes())
        .map_err(LearnError::from)?;
    let control = Control::default();
    let mut work = request.start(queue, job, &control).await?;
    let mut cancelled = false;
    loop {
        tokio::select! {
            // It ends at its next report, and changes nothing but the answer nobody takes.
            () = stop.cancelled() => {
                control.stop();
                return Ok(Outcome::Stopped);
            }
            result = &mut work => return match result {
                Ok(Err(Failure::Learning(dozen_fewshot::Error::Cancelled))) if cancelled => Ok(Outcome::Cancelled),
                Ok(product) => Ok(Outcome::Done(product?)),
                Err(_) => Err(Failure::Panicked("the thread ended without an answer".to_owned())),
            },
            () = tokio::time::sleep(BEAT) => {
                cancelled = queue.progress(job, control.share()).await?;
                if cancelled {
                    control.stop();
                }
            }
        }
    }
}

impl Queue {
    /// Stores and tells how far a running job is; true if it is to end.
    async fn progress(&self, job: &JobRow, share: f64) -> Result<bool, LearnError> {
        let mut change = self.begin().await?;
        let row = jobs::set_progress(&mut change.transaction, job.key, share).await?;
        if share > job.progress && share < 1.0 {
            change.event(job, "progress", &json!({ "status": "running", "progress": share })).await?;
        }
        change.commit().await?;
        Ok(row.cancel_requested)
    }

    /// Ends a job as its caller asked.
    pub(super) async fn cancelled(&self, job: &JobRow) -> Result<(), LearnError> {
        let mut change = self.begin().await?;
        change.finish(job, JobStatus::Cancelled, None, None).await?;
        change.commit().await
    }
}
