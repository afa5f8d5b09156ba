//! `POST /train`: start learning a better head from the stored examples.

use super::extract::{CollectionPath, JsonBody, PathParams};
use super::jobs::JobStatus;
use super::problem::Problem;
use super::responses::{BadJson, CommonProblems, NotJson};
use super::state::Services;
use crate::jobs::Job;
use crate::learn::{self, TrainRequest};
use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use dozen_fewshot::heads;
use dozen_fewshot::training;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What to train. Everything may be left out.
#[derive(Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({"scope": "head", "method": "auto"}))]
#[derive(Default)]
pub(super) struct TrainBody {
    /// What is trained.
    scope: Scope,
    /// How.
    method: Method,
    /// With `logistic`: strength λ of the L2 penalty, above 0; larger is smoother, and steadier with few or mixed-up
    /// examples. Chosen by held-out examples unless given.
    #[schema(exclusive_minimum = 0.0, nullable = false)]
    l2: Option<f64>,
    /// With `logistic`: what the examples of a class weigh.
    class_weights: ClassWeights,
    /// With `msn`: how the images of the pool are spread over the classes.
    class_prior: ClassPrior,
    /// Activate the new version even where it does worse on the held-back slice than the one in use.
    force: bool,
}

/// What is trained.
#[derive(Clone, Copy, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Scope {
    /// The classification head, on the stored vectors: below a second for a dozen classes, minutes for a thousand.
    #[default]
    Head,
}

/// How it is trained.
#[derive(Clone, Copy, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Method {
    /// The method that loses least on examples left out; class means where they are better on the held-back slice. `msn` is not
    /// tried where that would take many minutes: with hundreds of classes.
    #[default]
    Auto,
    /// Class means, compared by cosine.
    Prototype,
    /// The nearest examples vote.
    Knn,
    /// Linear discriminant analysis.
    Discriminant,
    /// Multinomial logistic regression.
    Logistic,
    /// Prototypes learned from the examples and the pool of unlabelled images, by the objective of Masked Siamese Networks.
    Msn,
}

/// How the images of the pool are spread over the classes.
#[derive(Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ClassPrior {
    /// As many of each class.
    #[default]
    Uniform,
    /// As the head itself finds them to be, half way from uniform.
    Estimated,
    /// In proportion to these numbers: one above 0 for every class with examples, by its id.
    Given(BTreeMap<String, f64>),
}

impl From<ClassPrior> for learn::ClassPrior {
    fn from(prior: ClassPrior) -> Self {
        match prior {
            ClassPrior::Uniform => Self::Uniform,
            ClassPrior::Estimated => Self::Estimated,
            ClassPrior::Given(shares) => Self::Given(shares),
        }
    }
}

/// What the examples of a class weigh.
#[derive(Clone, Copy, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ClassWeights {
    /// Every example weighs the same, so a class weighs as much as it has examples.
    #[default]
    Equal,
    /// Every class weighs the same.
    Balanced,
}

impl Method {
    fn to_learn(self) -> Option<training::Method> {
        match self {
            Self::Auto => None,
            Self::Prototype => Some(training::Method::Prototype),
            Self::Knn => Some(training::Method::Nearest),
            Self::Discriminant => Some(training::Method::Discriminant),
            Self::Logistic => Some(training::Method::Logistic),
            Self::Msn => Some(training::Method::Msn),
        }
    }
}

impl TrainBody {
    fn request(self) -> Result<TrainRequest, Problem> {
        if let Some(l2) = self.l2
            && !(l2.is_finite() && l2 > 0.0)
        {
            return Err(Problem::invalid("/l2", format!("is {l2}, it has to be above 0")));
        }
        let Scope::Head = self.scope;
        let class_weights = match self.class_weights {
            ClassWeights::Equal => heads::ClassWeights::Equal,
            ClassWeights::Balanced => heads::ClassWeights::Balanced,
        };
        Ok(TrainRequest {
            method: self.method.to_learn(),
            l2: self.l2,
            class_weights,
            class_prior: self.class_prior.into(),
            force: self.force,
        })
    }
}

/// A job that was accepted.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "01JZ4X7W3K8M2N5P6Q9R0S1T2V", "status": "queued", "scope": "head", "method": "auto",
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

impl AcceptedJob {
    /// 202, with the place where the job lives.
    pub(super) fn response(job: Job) -> impl IntoResponse + use<> {
        let location = format!("/jobs/{}", job.id);
        let Job { id, status, scope, method, created_at, .. } = job;
        let accepted = Self { id, status: status.into(), scope, method, created_at };
        (StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(accepted))
    }
}

/// Train the head
///
/// Persists a job and answers at once; `Location` names the job. When it is done, its head version answers calls, unless it
/// does worse, beyond chance, than the one in use on a slice of the examples that neither has seen; the version before it
/// stays for a step back. Needs examples in at least two classes. A job survives a restart.
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
    Ok(AcceptedJob::response(services.learner.train(&path.collection, body.request()?).await?))
}
