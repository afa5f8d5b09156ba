//! `POST /train`: start learning a better head from the stored examples.

use super::extract::{CollectionPath, JsonBody, PathParams};
use super::jobs::JobStatus;
use super::problem::Problem;
use super::responses::{BadJson, CommonProblems, NotJson};
use super::state::Services;
use crate::jobs::Job;
use crate::learn::TrainRequest;
use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What to train. Everything may be left out.
#[derive(Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({"scope": "head", "method": "logistic"}))]
pub(super) struct TrainBody {
    /// What is trained.
    scope: Scope,
    /// How.
    method: Method,
    /// Strength λ of the L2 penalty, above 0: larger is smoother, and steadier with few or mixed-up examples.
    #[schema(exclusive_minimum = 0.0)]
    l2: f64,
}

/// What is trained.
#[derive(Clone, Copy, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Scope {
    /// The classification head, on the stored vectors: milliseconds to seconds.
    #[default]
    Head,
}

/// How it is trained.
#[derive(Clone, Copy, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Method {
    /// Multinomial logistic regression.
    #[default]
    Logistic,
}

impl Default for TrainBody {
    fn default() -> Self {
        Self { scope: Scope::default(), method: Method::default(), l2: TrainRequest::default().l2 }
    }
}

impl TrainBody {
    fn request(self) -> Result<TrainRequest, Problem> {
        if !(self.l2.is_finite() && self.l2 > 0.0) {
            return Err(Problem::invalid("/l2", format!("is {}, it has to be above 0", self.l2)));
        }
        let scope = match self.scope {
            Scope::Head => "head",
        };
        let method = match self.method {
            Method::Logistic => "logistic",
        };
        Ok(TrainRequest { scope: scope.to_owned(), method: method.to_owned(), l2: self.l2 })
    }
}

/// A job that was accepted.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "01JZ4X7W3K8M2N5P6Q9R0S1T2V", "status": "queued", "scope": "head", "method": "logistic",
    "created_at": "2026-01-01T00:00:00Z"
}))]
pub(super) struct AcceptedJob {
    /// Id of the job.
    pub id: String,
    /// State.
    pub status: JobStatus,
    /// What is trained.
    pub scope: String,
    /// How.
    pub method: String,
    /// When it was accepted (RFC 3339, UTC).
    pub created_at: String,
}

/// Train the head
///
/// Persists a job and answers at once; `Location` names the job. When it is done, its head version answers calls, and
/// the version before it stays for a step back. Needs examples in at least two classes. A job survives a restart.
#[utoipa::path(
    post, path = "/train", tag = "training", request_body = TrainBody,
    responses(
        (status = 202, description = "The job is queued", body = AcceptedJob,
            headers(("location" = String, description = "Where the job lives"))),
        CommonProblems, BadJson, NotJson
    )
)]
pub(super) async fn train(
    services: Services,
    PathParams(path): PathParams<CollectionPath>,
    JsonBody(body): JsonBody<TrainBody>,
) -> Result<impl IntoResponse + use<>, Problem> {
    let job = services.learner.train(&path.collection, body.request()?).await?;
    let location = format!("/jobs/{}", job.id);
    let Job { id, status, scope, method, created_at, .. } = job;
    let accepted = AcceptedJob { id, status: status.into(), scope, method, created_at };
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(accepted)))
}
