//! Jobs as callers see them.

use crate::learn::LearnError;
use crate::store::jobs::{JobEventRow, JobRow};
use crate::store::{StoreError, read_json};
use serde_json::Value;

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

impl JobStatus {
    /// Every state there is.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// The word of the API and of the store.
    pub fn word(self) -> &'static str {
        match self {
            JobStatus::Queued => "queued",
            JobStatus::Running => "running",
            JobStatus::Succeeded => "succeeded",
            JobStatus::Failed => "failed",
            JobStatus::Cancelled => "cancelled",
        }
    }

    /// Will not change any more.
    pub fn ended(self) -> bool {
        match self {
            JobStatus::Queued | JobStatus::Running => false,
            JobStatus::Succeeded | JobStatus::Failed | JobStatus::Cancelled => true,
        }
    }
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
#[derive(Clone, Debug, PartialEq)]
pub struct JobEvent {
    /// Monotonic within the job, from 1.
    pub sequence: i64,
    /// `progress`, `metric`, `log` or `done`.
    pub kind: String,
    /// Payload.
    pub data: Value,
}

/// The state a row says.
pub(super) fn status(row: &JobRow) -> Result<JobStatus, LearnError> {
    let all = [
        JobStatus::Queued,
        JobStatus::Running,
        JobStatus::Succeeded,
        JobStatus::Failed,
        JobStatus::Cancelled,
    ];
    let damaged = || StoreError::Damaged(format!("job {} is `{}`", row.id, row.status)).into();
    all.into_iter().find(|status| status.word() == row.status).ok_or_else(damaged)
}

/// A row as callers see it.
pub(super) fn public(row: JobRow) -> Result<Job, LearnError> {
    let status = status(&row)?;
    let json = |column: &str, text: Option<String>| {
        text.map(|text| read_json(&format!("the {column} of job {}", row.id), text.as_bytes())).transpose()
    };
    let result = json("result", row.result)?;
    let error = json("error", row.error)?;
    Ok(Job {
        id: row.id,
        collection: row.collection,
        status,
        scope: row.scope,
        method: row.method,
        progress: row.progress,
        result,
        error,
        created_at: row.created_at,
        started_at: row.started_at,
        finished_at: row.finished_at,
    })
}

/// An event's row as callers see it.
pub(super) fn public_event(row: JobEventRow) -> Result<JobEvent, LearnError> {
    let data = read_json("the data of a job's event", row.data.as_bytes())?;
    Ok(JobEvent { sequence: row.sequence, kind: row.kind, data })
}
