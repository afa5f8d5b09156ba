//! `POST /audit`: what may be wrong with the labels, and the one call that mends it.

use super::extract::{CollectionPath, JsonBody, PathParams, QueryParams};
use super::jobs::JobPath;
use super::paging::{ListOf, page};
use super::problem::Problem;
use super::responses::{BadJson, CommonProblems, Conflict, NotFound, NotJson};
use super::state::Services;
use super::train::AcceptedJob;
use crate::learn::{self, AuditRequest};
use axum::Json;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What to look for. Everything may be left out.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({"near_duplicate": 0.98}))]
pub(super) struct AuditBody {
    /// Examples whose cosine is at least this, above 0 and up to 1, are near-duplicates; 0.98 unless given.
    #[schema(exclusive_minimum = 0.0, maximum = 1.0, nullable = false)]
    near_duplicate: Option<f64>,
}

/// Which findings to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct FindingsQuery {
    /// Only those that nobody has resolved.
    #[serde(default)]
    open: bool,
    /// Rows in this page; 50 unless given.
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    limit: Option<usize>,
    /// `next` of the page before; the first page unless given.
    #[param(nullable = false)]
    after: Option<String>,
}

/// A finding of the path.
#[derive(Deserialize)]
pub(super) struct FindingPath {
    job: String,
    number: i64,
}

/// Something that may be wrong with the labels.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "number": 1, "kind": "mislabel", "score": 0.82,
    "examples": [{"id": "01JZ4X7W3K8M2N5P6Q9R0S1T2V", "class": "cat", "deleted": false}],
    "evidence": [{"id": "01JZ4X7W3K8M2N5P6Q9R0S1T2W", "class": "lynx", "deleted": false}],
    "action": "move", "to": "lynx"
}))]
pub(super) struct Finding {
    /// Counts from 1 within the audit.
    pub number: i64,
    /// `mislabel`: it looks like another class's. `exact_duplicate`, `near_duplicate`: the same or nearly the same picture
    /// again. `outlier`: unlike the rest of its class. `leakage`: a copy of it is in the slice that judges heads.
    pub kind: String,
    /// How pressing within its kind: the other class's probability less its own, the cosine of the copies, or how many
    /// deviations it is below its class's median.
    pub score: f64,
    /// The examples it is about.
    pub examples: Vec<FindingExample>,
    /// The examples that speak for it.
    pub evidence: Vec<FindingExample>,
    /// The likeliest right answer.
    pub action: String,
    /// Id of the class to move to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// What was done: `moved`, `deleted` or `accepted`; absent while it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolution: Option<String>,
    /// When it was resolved (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<String>,
}

/// An example of a finding, as it is now.
#[derive(Serialize, ToSchema)]
pub(super) struct FindingExample {
    /// Id of the example.
    pub id: String,
    /// Id of its class.
    pub class: String,
    /// It has been deleted.
    pub deleted: bool,
}

/// What to do about a finding.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
#[schema(example = json!({"action": "move", "to": "lynx"}))]
pub(super) enum ResolutionBody {
    /// Give its examples another label.
    Move {
        /// Id of the class; what the finding says unless given.
        #[schema(nullable = false)]
        to: Option<String>,
    },
    /// Delete its examples; they can be restored.
    Delete {},
    /// Nothing is wrong: later audits do not ask again.
    Accept {},
}

impl From<ResolutionBody> for learn::Resolution {
    fn from(body: ResolutionBody) -> Self {
        match body {
            ResolutionBody::Move { to } => Self::Move { to },
            ResolutionBody::Delete {} => Self::Delete,
            ResolutionBody::Accept {} => Self::Accept,
        }
    }
}

impl From<learn::FindingExample> for FindingExample {
    fn from(learn::FindingExample { id, class, deleted }: learn::FindingExample) -> Self {
        Self { id, class, deleted }
    }
}

impl From<learn::Finding> for Finding {
    fn from(finding: learn::Finding) -> Self {
        let learn::Finding { number, kind, score, examples, evidence, action, to, resolution, resolved_at } =
            finding;
        let named = |examples: Vec<learn::FindingExample>| examples.into_iter().map(Into::into).collect();
        let (examples, evidence) = (named(examples), named(evidence));
        Self { number, kind, score, examples, evidence, action, to, resolution, resolved_at }
    }
}

/// Audit the labels
///
/// Persists a job that looks for probable mislabels, duplicates, outliers, and copies between the slice that judges heads and
/// the rest. Its findings are questions: nothing is changed until one is answered.
#[utoipa::path(
    post, path = "/audit", tag = "training", request_body = AuditBody,
    responses(
        (status = 202, description = "The job is queued", body = AcceptedJob,
            headers(("location" = String, description = "Where the job lives"))),
        CommonProblems, BadJson, NotJson
    )
)]
pub(super) async fn audit(
    services: Services,
    PathParams(path): PathParams<CollectionPath>,
    JsonBody(body): JsonBody<AuditBody>,
) -> Result<impl IntoResponse + use<>, Problem> {
    let mut request = AuditRequest::default();
    if let Some(near_duplicate) = body.near_duplicate {
        if !(near_duplicate > 0.0 && near_duplicate <= 1.0) {
            let what = format!("is {near_duplicate}, it has to be above 0 and at most 1");
            return Err(Problem::invalid("/near_duplicate", what));
        }
        request.near_duplicate = near_duplicate;
    }
    Ok(AcceptedJob::response(services.learner.audit(&path.collection, request).await?))
}

/// List an audit's findings
///
/// Mislabels, duplicates, outliers and leakage, each kind with the most pressing first.
#[utoipa::path(
    get, path = "/jobs/{job}/findings", tag = "training",
    params(("job" = String, Path, description = "Id of the audit's job"), FindingsQuery),
    responses((status = 200, description = "A page of findings", body = ListOf<Finding>), CommonProblems, NotFound)
)]
pub(super) async fn list_findings(
    services: Services,
    PathParams(path): PathParams<JobPath>,
    QueryParams(query): QueryParams<FindingsQuery>,
) -> Result<Json<ListOf<Finding>>, Problem> {
    let page = page(query.limit, query.after)?;
    Ok(Json(ListOf::from_paged(services.learner.findings(&path.job, query.open, &page).await?)))
}

/// Resolve a finding
///
/// Moves or deletes its examples, or accepts them as they are, in one step. A finding is resolved once; undo it at the
/// examples themselves.
#[utoipa::path(
    post, path = "/jobs/{job}/findings/{number}", tag = "training",
    params(
        ("job" = String, Path, description = "Id of the audit's job"),
        ("number" = i64, Path, description = "Number of the finding")
    ),
    request_body = ResolutionBody,
    responses(
        (status = 200, description = "The finding, resolved", body = Finding),
        CommonProblems, NotFound, Conflict, BadJson, NotJson
    )
)]
pub(super) async fn resolve_finding(
    services: Services,
    PathParams(path): PathParams<FindingPath>,
    JsonBody(body): JsonBody<ResolutionBody>,
) -> Result<Json<Finding>, Problem> {
    Ok(Json(services.learner.resolve_finding(&path.job, path.number, body.into()).await?.into()))
}
