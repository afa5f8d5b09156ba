//! `/jobs`: what training did, does and will do.

use super::extract::{PathParams, QueryParams};
use super::paging::{ListOf, PageQuery};
use super::problem::{Code, Problem};
use super::responses::{CommonProblems, Conflict, NotFound};
use super::state::Services;
use crate::jobs;
use axum::Json;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// State of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum JobStatus {
    /// Waits for its turn.
    Queued,
    /// Is being worked on.
    Running,
    /// Ended well; `result` says with what.
    Succeeded,
    /// Ended badly; `error` says why.
    Failed,
    /// Ended by request.
    Cancelled,
}

impl JobStatus {
    /// Nothing follows.
    pub(super) fn is_terminal(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
        }
    }
}

impl From<jobs::JobStatus> for JobStatus {
    fn from(status: jobs::JobStatus) -> Self {
        match status {
            jobs::JobStatus::Queued => Self::Queued,
            jobs::JobStatus::Running => Self::Running,
            jobs::JobStatus::Succeeded => Self::Succeeded,
            jobs::JobStatus::Failed => Self::Failed,
            jobs::JobStatus::Cancelled => Self::Cancelled,
        }
    }
}

/// A training job.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "01JZ4X7W3K8M2N5P6Q9R0S1T2V", "collection": "default", "status": "succeeded", "scope": "head",
    "method": "logistic", "progress": 1.0, "created_at": "2026-01-01T00:00:00Z", "started_at": "2026-01-01T00:00:00Z",
    "finished_at": "2026-01-01T00:00:01Z", "result": {"head_version": 4, "activated": true, "metrics": {"held_out": {"accuracy": 0.9}}}
}))]
pub(super) struct Job {
    /// Id of the job.
    pub id: String,
    /// Collection it works on.
    pub collection: String,
    /// State.
    pub status: JobStatus,
    /// What is trained.
    pub scope: String,
    /// How.
    pub method: String,
    /// 0 to 1.
    pub progress: f64,
    /// When it was accepted (RFC 3339, UTC).
    pub created_at: String,
    /// When work began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// What came of it: the head version and its metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

impl From<jobs::Job> for Job {
    fn from(job: jobs::Job) -> Self {
        Self {
            id: job.id,
            collection: job.collection,
            status: job.status.into(),
            scope: job.scope,
            method: job.method,
            progress: job.progress,
            created_at: job.created_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
            result: job.result,
            error: job.error.as_ref().map(failure),
        }
    }
}

/// The problem of a failed job, from its stored code and message.
fn failure(error: &Value) -> Problem {
    let text = |field: &str| error.get(field).and_then(Value::as_str).unwrap_or_default();
    let code =
        Code::ALL.iter().copied().find(|code| code.as_str() == text("code")).unwrap_or(Code::TrainingFailed);
    if code == Code::StoreFailed {
        // Its message may name paths.
        return Problem::new(
            code,
            "The store failed under the job. The server's log has the cause; train again.",
        );
    }
    Problem::new(code, super::problem_from::sentence(text("message")))
}

/// A job of the path.
#[derive(Deserialize)]
pub(super) struct JobPath {
    pub(super) job: String,
}

/// List jobs
///
/// Newest first, a page at a time, over all collections.
#[utoipa::path(
    get, path = "/jobs", tag = "training", params(PageQuery),
    responses((status = 200, description = "A page of jobs", body = ListOf<Job>), CommonProblems)
)]
pub(super) async fn list_jobs(
    services: Services,
    QueryParams(query): QueryParams<PageQuery>,
) -> Result<Json<ListOf<Job>>, Problem> {
    Ok(Json(ListOf::from_paged(services.learner.jobs().list(&query.page()?).await?)))
}

/// Get a job
///
/// State, progress, and what came of it.
#[utoipa::path(
    get, path = "/jobs/{job}", tag = "training", params(("job" = String, Path, description = "Id of the job")),
    responses((status = 200, description = "The job", body = Job), CommonProblems, NotFound)
)]
pub(super) async fn get_job(
    services: Services,
    PathParams(path): PathParams<JobPath>,
) -> Result<Json<Job>, Problem> {
    Ok(Json(services.learner.jobs().get(&path.job).await?.into()))
}

/// Cancel a job
///
/// A queued job ends at once, a running one at its next check. A job that has ended is refused with 409.
#[utoipa::path(
    post, path = "/jobs/{job}/cancel", tag = "training", params(("job" = String, Path, description = "Id of the job")),
    responses((status = 200, description = "The job as it is now", body = Job), CommonProblems, NotFound, Conflict)
)]
pub(super) async fn cancel_job(
    services: Services,
    PathParams(path): PathParams<JobPath>,
) -> Result<Json<Job>, Problem> {
    Ok(Json(services.learner.jobs().cancel(&path.job).await?.into()))
}
