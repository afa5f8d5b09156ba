//! `/heads`: the versions of a collection's classification head.

use super::classify::HeadUsed;
use super::extract::{CollectionPath, PathParams, QueryParams};
use super::paging::{ListOf, PageQuery, page};
use super::problem::Problem;
use super::responses::{CommonProblems, Conflict, NotFound};
use super::state::Services;
use crate::learn;
use axum::Json;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// A version of the head.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "version": 3, "method": "discriminant", "active": true, "parameters": {"method": "discriminant", "strength": 0.5},
    "metrics": {"examples": 48, "classes": 4, "held_out": {"judged": 48, "accuracy": 0.9}}, "parent": 2,
    "encoder": "blake3:0f3a…",
    "created_at": "2026-01-01T00:00:00Z"
}))]
pub(super) struct Head {
    /// Number within the collection; 0 is the prototype head that is always there.
    pub version: i64,
    /// `prototype`, `knn`, `discriminant`, `logistic` or `msn`.
    pub method: String,
    /// It answers calls now.
    pub active: bool,
    /// Options it was fitted with.
    pub parameters: Value,
    /// What held-out examples say of it, why its method was chosen, and how it compares with the version before.
    pub metrics: Value,
    /// The version that was active when it was fitted.
    pub parent: Option<i64>,
    /// The encoder whose vectors it was fitted on.
    pub encoder: String,
    /// When it was fitted (RFC 3339, UTC).
    pub created_at: String,
}

impl From<learn::HeadVersion> for Head {
    fn from(head: learn::HeadVersion) -> Self {
        let learn::HeadVersion { version, method, active, parameters, metrics, parent, encoder, created_at } =
            head;
        Self { version, method, active, parameters, metrics, parent, encoder, created_at }
    }
}

/// How two heads answer the labelled examples.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "a": {"version": 2, "method": "logistic"}, "b": {"version": 3, "method": "discriminant"}, "compared": 48,
    "a_right": 44, "b_right": 46, "differing": 2,
    "data": [{"example": "01JZ4X7W3K8M2N5P6Q9R0S1T2V", "class": "daisy",
        "a": {"label": "tulip", "probability": 0.51}, "b": {"label": "daisy", "probability": 0.62}}],
    "pool": {"compared": 900, "differing": 31, "data": [{"image": "01JZ4X9C5D6F7G8H9J0K1M2N3P",
        "a": {"label": "rose", "probability": 0.83}, "b": {"label": "tulip", "probability": 0.79}}]}
}))]
pub(super) struct HeadDiff {
    /// The first head.
    pub a: HeadUsed,
    /// The second head.
    pub b: HeadUsed,
    /// Examples compared; both heads were fitted on most of them.
    pub compared: usize,
    /// Those that the first answers rightly.
    pub a_right: usize,
    /// Those that the second answers rightly.
    pub b_right: usize,
    /// Those on which they differ.
    pub differing: usize,
    /// The first of these.
    pub data: Vec<Difference>,
    /// How they answer images without a label: heads that agree on what they were fitted on may differ there.
    pub pool: PoolDiff,
}

/// How two heads answer the images of the pool that have no label.
#[derive(Serialize, ToSchema)]
pub(super) struct PoolDiff {
    /// Images compared: all, or evenly spaced ones of more than 4096.
    pub compared: usize,
    /// Those on which they differ.
    pub differing: usize,
    /// The first of these, those that both are surest of first: their labels tell the heads apart.
    pub data: Vec<PoolDifference>,
}

/// An unlabelled image on which two heads differ.
#[derive(Serialize, ToSchema)]
pub(super) struct PoolDifference {
    /// Id of the image, for `POST /images/{id}/label`.
    pub image: String,
    /// The first head's answer.
    pub a: BestAnswer,
    /// The second head's answer.
    pub b: BestAnswer,
}

/// An example on which two heads differ.
#[derive(Serialize, ToSchema)]
pub(super) struct Difference {
    /// Id of the example.
    pub example: String,
    /// Id of its class.
    pub class: String,
    /// The first head's answer.
    pub a: BestAnswer,
    /// The second head's answer.
    pub b: BestAnswer,
}

/// The class that a head finds most probable.
#[derive(Serialize, ToSchema)]
pub(super) struct BestAnswer {
    /// Id of the class.
    pub label: String,
    /// Its probability.
    pub probability: f32,
}

impl From<(String, f32)> for BestAnswer {
    fn from((label, probability): (String, f32)) -> Self {
        Self { label, probability }
    }
}

/// Heads of the path.
#[derive(Deserialize)]
pub(super) struct DiffPath {
    collection: Option<String>,
    a: i64,
    b: i64,
}

/// How many differences to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DiffQuery {
    /// Examples, and images of the pool, that are listed; 50 of each unless given.
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    limit: Option<usize>,
}

/// A head of the path.
#[derive(Deserialize)]
pub(super) struct HeadPath {
    collection: Option<String>,
    version: i64,
}

/// List head versions
///
/// Newest first, a page at a time.
#[utoipa::path(
    get, path = "/heads", tag = "training", params(PageQuery),
    responses((status = 200, description = "A page of versions", body = ListOf<Head>), CommonProblems)
)]
pub(super) async fn list_heads(
    services: Services,
    PathParams(path): PathParams<CollectionPath>,
    QueryParams(query): QueryParams<PageQuery>,
) -> Result<Json<ListOf<Head>>, Problem> {
    Ok(Json(ListOf::from_paged(services.learner.heads(&path.collection, &query.page()?).await?)))
}

/// Activate a head version
///
/// Makes this version answer from the next call on: a step back to an older one, or to 0, the prototype head that
/// follows every example at once.
#[utoipa::path(
    post, path = "/heads/{version}/activate", tag = "training",
    params(("version" = i64, Path, description = "Number of the version")),
    responses((status = 200, description = "The version, now active", body = Head), CommonProblems, NotFound, Conflict)
)]
pub(super) async fn activate_head(
    services: Services,
    PathParams(path): PathParams<HeadPath>,
) -> Result<Json<Head>, Problem> {
    let collection = path.collection.as_deref().unwrap_or(learn::DEFAULT_COLLECTION);
    Ok(Json(services.learner.activate_head(collection, path.version).await?.into()))
}

/// Compare two heads
///
/// Asks both about every labelled example and about the images of the pool, and lists those on which they differ.
#[utoipa::path(
    get, path = "/heads/{a}/diff/{b}", tag = "training",
    params(
        ("a" = i64, Path, description = "Number of the first version"),
        ("b" = i64, Path, description = "Number of the second version"),
        DiffQuery
    ),
    responses((status = 200, description = "How they differ", body = HeadDiff), CommonProblems, NotFound, Conflict)
)]
pub(super) async fn diff_heads(
    services: Services,
    PathParams(path): PathParams<DiffPath>,
    QueryParams(query): QueryParams<DiffQuery>,
) -> Result<Json<HeadDiff>, Problem> {
    let collection = path.collection.as_deref().unwrap_or(learn::DEFAULT_COLLECTION);
    let limit = page(query.limit, None)?.limit;
    let learn::Diff { a, b, compared, a_right, b_right, differing, data, pool } =
        services.learner.diff_heads(collection, [path.a, path.b], limit).await?;
    let difference =
        |learn::Difference { example, class, a, b }| Difference { example, class, a: a.into(), b: b.into() };
    let pool_difference =
        |learn::PoolDifference { image, a, b }| PoolDifference { image, a: a.into(), b: b.into() };
    Ok(Json(HeadDiff {
        a: a.into(),
        b: b.into(),
        compared,
        a_right,
        b_right,
        differing,
        data: data.into_iter().map(difference).collect(),
        pool: PoolDiff {
            compared: pool.compared,
            differing: pool.differing,
            data: pool.data.into_iter().map(pool_difference).collect(),
        },
    }))
}
