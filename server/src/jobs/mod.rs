//! Persisted jobs: `queued → running → succeeded | failed | cancelled`. A job found running at start runs again.

use crate::learn::{LearnError, Page, Paged};
use serde_json::Value;
use tokio::sync::broadcast;

/// OpenAI's status words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// Waiting for the worker.
    Queued,
    /// The worker has it.
    Running,
    /// Ended well; `result` is set.
    Succeeded,
    /// Ended badly; `error` is set.
    Failed,
    /// Ended by request.
    Cancelled,
}

/// A job as callers see it.
#[derive(Clone, Debug)]
pub struct Job {
    /// ULID.
    pub id: String,
    /// Collection it works on.
    pub collection: String,
    /// State.
    pub status: JobStatus,
    /// `head`.
    pub scope: String,
    /// `logistic`.
    pub method: String,
    /// 0 to 1.
    pub progress: f64,
    /// `{"head_version":4,"metrics":{…}}`.
    pub result: Option<Value>,
    /// Code and message of the failure.
    pub error: Option<Value>,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// RFC 3339, UTC.
    pub started_at: Option<String>,
    /// RFC 3339, UTC.
    pub finished_at: Option<String>,
}

/// An entry of a job's event stream, persisted.
#[derive(Clone, Debug)]
pub struct JobEvent {
    /// Monotonic within the job, from 1.
    pub sequence: i64,
    /// `progress`, `metric`, `log` or `done`.
    pub kind: String,
    /// Payload.
    pub data: Value,
}

/// Reads and steers jobs. Cheap to clone.
#[derive(Clone)]
pub struct Jobs {}

impl Jobs {
    /// Newest first.
    pub async fn list(&self, _page: &Page) -> Result<Paged<Job>, LearnError> {
        todo!()
    }
    /// One job.
    pub async fn get(&self, _id: &str) -> Result<Job, LearnError> {
        todo!()
    }
    /// A queued job is cancelled at once, a running one at its next check; an ended one is `JobEnded`.
    pub async fn cancel(&self, _id: &str) -> Result<Job, LearnError> {
        todo!()
    }
    /// Events after a sequence number.
    pub async fn events_after(&self, _id: &str, _sequence: i64) -> Result<Vec<JobEvent>, LearnError> {
        todo!()
    }
    /// Live events of all jobs as `(job id, event)`; subscribe first, then replay with [`Jobs::events_after`].
    pub fn subscribe(&self) -> broadcast::Receiver<(String, JobEvent)> {
        todo!()
    }
}
