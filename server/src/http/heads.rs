//! `/heads`: the versions of a collection's classification head.

use super::extract::{CollectionPath, PathParams, QueryParams};
use super::paging::{ListOf, PageQuery};
use super::problem::Problem;
use super::responses::{CommonProblems, Conflict, NotFound};
use super::state::Services;
use crate::learn;
use axum::Json;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A version of the head.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "version": 3, "method": "logistic", "active": true, "parameters": {"l2": 0.0025},
    "metrics": {"examples": 48, "classes": 4, "training_accuracy": 1.0}, "parent": 2, "encoder": "blake3:0f3a…",
    "created_at": "2026-01-01T00:00:00Z"
}))]
pub(super) struct Head {
    /// Number within the collection; 0 is the prototype head that is always there.
    pub version: i64,
    /// `prototype` or `logistic`.
    pub method: String,
    /// It answers calls now.
    pub active: bool,
    /// Options it was fitted with.
    pub parameters: Value,
    /// What the fit reported.
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
